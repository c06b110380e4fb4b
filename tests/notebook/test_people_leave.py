"""Test that erased people do not return with reruns or later files, and that sources identify people by SQL."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook.stale_dates import mark_stale_dates
from daybook.privacy import add_key, load_keys, make_pseudonym
from daybook.privacy.erasure import ErasureResult, erase
from daybook.privacy.rekey import rekey
from daybook.settings import load_settings
from demo_shop import generate
from tests.notebook.test_stale_dates import rows_of
from tests.sessions import Session, read_outcome

pytestmark = pytest.mark.slow


class Deployment:
    """A shop that runs in this process, with its lake and key, queries and erasures."""

    def __init__(self, session: Session, place: Path, env: str, landing: Path) -> None:
        self.session, self.env = session, env
        self.overrides = {"landing": str(landing), "lake": str(place / "lake"), "pii_key": str(place / "pii.key")}
        self.settings = load_settings(env, self.overrides)

    def run(self, day: str, number: int = 1) -> None:
        self.session.run_day(day, number, self.overrides, env=self.env)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return DuckDBEngine(Lake(self.settings.lake), self.settings.timezone).rows(sql)

    def erase(self, person: str) -> ErasureResult:
        return erase(self.settings, person, "", mark_stale_dates)

    def key_of(self, person: str) -> str:
        return str(make_pseudonym(load_keys(self.settings.pii_key), person))

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of silver and gold."""
        return rows_of(Path(self.settings.lake))


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the landing files of a small demo shop."""
    place = tmp_path_factory.mktemp("landing")
    generate(place, days=6, last_day=date(2025, 11, 30), orders_per_day=25)
    return place


@pytest.fixture
def shop(session: Session, tmp_path: Path, landing: Path) -> Deployment:
    """Return the demo shop after two days."""
    shop = Deployment(session, tmp_path / "shop", "local", landing)
    session.run_range("2025-11-28", "2025-11-29", 1, shop.overrides)
    return shop


def somebody(shop: Deployment) -> str:
    """Return a customer who ordered on both days."""
    ((person,), *_) = shop.rows(
        "SELECT customer_id FROM bronze.orders WHERE ordered_at >= '2025-11-28' GROUP BY customer_id "
        "HAVING count(DISTINCT left(ordered_at, 10)) = 2 ORDER BY customer_id"
    )
    return str(person)


def test_reruns_and_later_days_do_not_restore_people(shop: Deployment) -> None:
    person = somebody(shop)
    key = shop.key_of(person)
    before = shop.tables()
    done = shop.erase(person)
    assert done.stale_dates >= 2

    shop.run("2025-11-30")
    once = shop.tables()
    shop.run("2025-11-28", 2)
    assert stages.current is not None
    again = shop.tables()

    assert again == once
    assert not [name for name, rows in again.items() if key in repr(rows)]
    assert [name for name, rows in before.items() if key in repr(rows)]
    assert shop.rows(f"SELECT count(*) FROM bronze.orders WHERE customer_id = '{person}'") == [(0,)]
    assert shop.erase(person).proof.is_clean


def test_next_run_restates_days_of_an_erased_customer(shop: Deployment) -> None:
    person = somebody(shop)
    figures = "SELECT order_date, orders, net_revenue, new_customers + returning_customers FROM gold.daily_sales ORDER BY 1"
    before = {row[0]: row[1:] for row in shop.rows(figures)}
    counted = "status NOT IN ('cancelled', 'unavailable', 'adjustment')"
    theirs = f"SELECT DISTINCT order_date FROM silver.orders WHERE customer_key = '{shop.key_of(person)}' AND {counted}"
    ordered = {row[0] for row in shop.rows(theirs)}
    shop.erase(person)
    shop.run("2025-11-30")
    after = {row[0]: row[1:] for row in shop.rows(figures)}
    days = [date(2025, 11, 28), date(2025, 11, 29)]
    assert [after[day][:2] for day in days] == [before[day][:2] for day in days]
    assert {day for day in days if after[day][2] == before[day][2] - 1} == ordered & set(days) != set()


def test_rekeyed_lake_equals_a_new_one_with_the_new_key(shop: Deployment, session: Session, tmp_path: Path) -> None:
    old = shop.tables()["silver.customers"]
    rekey(shop.settings.lake, shop.settings.pii_key, "local")
    new = Deployment(session, tmp_path / "new", "local", Path(shop.settings.landing))
    (tmp_path / "new").mkdir()
    shutil.copy(shop.settings.pii_key, new.settings.pii_key)
    for day in ("2025-11-28", "2025-11-29"):
        new.run(day)
    # Ties between customers are broken by the key, so the next run can move some to another score.
    ours, theirs = ({name: rows for name, rows in each.tables().items() if "rfm" not in name} for each in (shop, new))
    assert ours == theirs
    assert shop.tables()["silver.customers"] != old
    joined = "SELECT count(*) FROM silver.orders AS o JOIN silver.customers AS c ON c.customer_key = o.customer_key"
    assert shop.rows(joined) == new.rows(joined) != [(0,)]


def test_stage_on_a_lake_with_an_older_key_is_refused(shop: Deployment) -> None:
    add_key(shop.settings.pii_key)
    begin = f"begin('ingest', env='local', run_date='2025-11-30', overrides={shop.overrides!r})"
    error = shop.session.error(f"from daybook.notebook import begin\n{begin}")
    assert "convert them with `daybook rekey --env local`" in str(error)


@pytest.mark.parametrize(
    ("env", "folder", "day"), [("olist", "olist", "2016-10-04"), ("online_retail", "online_retail", "2010-12-05")]
)
def test_customer_of_a_real_shop_stays_erased(
    session: Session, tmp_path: Path, shared_data: Path, env: str, folder: str, day: str
) -> None:
    shop = Deployment(session, tmp_path / "shop", env, shared_data / folder)
    shop.run(day)
    assert read_outcome() == "SUCCEEDED"
    keys = [row[0] for row in shop.rows("SELECT customer_key FROM silver.customers ORDER BY 1")]
    column, table = ("customer_unique_id", "customers") if env == "olist" else ("CustomerID", "invoices")
    people = [row[0] for row in shop.rows(f"SELECT DISTINCT {column} FROM bronze.{table} WHERE {column} <> '' ORDER BY 1")]
    person = people[0].replace(".0", "")
    key = shop.key_of(person)
    assert key in keys
    orders = shop.rows(f"SELECT count(*), count(customer_key), count(*) FILTER (customer_key = '{key}') FROM silver.orders")

    done = shop.erase(person)

    assert done.proof.matches == {}
    ((count, known, mine),) = orders
    assert shop.rows("SELECT count(*), count(customer_key) FROM silver.orders") == [(count, known - mine)]
    assert [row[0] for row in shop.rows("SELECT customer_key FROM silver.customers ORDER BY 1")] == [
        each for each in keys if each != key
    ]
    silver = {name: rows for name, rows in shop.tables().items() if name.startswith("silver.")}
    shop.run(day, 2)
    assert read_outcome() == "SUCCEEDED"
    assert {name: rows for name, rows in shop.tables().items() if name.startswith("silver.")} == silver
