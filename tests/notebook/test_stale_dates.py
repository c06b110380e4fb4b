"""Dates compose: run in any order, and again, the stage notebooks leave the same silver and gold.

The real notebooks, cell by cell in this process, on a demo shop with late status changes, returns and corrections.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.settings import load_settings
from demo_shop import generate
from tests.sessions import Session, read_outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with landing files of a small shop and the key of its pseudonyms."""
    place = tmp_path_factory.mktemp("shop")
    generate(place / "landing", days=20, last_day=date(2025, 11, 30), orders_per_day=30)
    return place


def content(
    session: Session, shop: Path, lake: Path, days: Sequence[int] = (), **settings: str
) -> dict[str, list[tuple[Any, ...]]]:
    """Run these days of November in this order, or the last two at once; return all rows of silver and gold."""
    overrides = {"landing": str(shop / "landing"), "lake": str(lake), "pii_key": str(shop / "pii.key"), **settings}
    for number, day in enumerate(days, start=1):
        session.run_day(f"2025-11-{day}", number, overrides)
    if not days:
        session.run_range("2025-11-29", "2025-11-30", 1, overrides)
    return rows_of(lake)


def rows_of(lake: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of silver and gold by table, sorted."""
    engine = DuckDBEngine(Lake(str(lake)), load_settings("local").timezone)
    tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold."))]
    return {name: sorted(engine.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


@pytest.mark.parametrize("returns", ["order_date", "return_date"])
def test_order_and_reruns_of_dates_do_not_change_tables(session: Session, shop: Path, tmp_path: Path, returns: str) -> None:
    at_once = content(session, shop, tmp_path / "at-once", returns_count_on=returns)
    otherwise = content(session, shop, tmp_path / "otherwise", [30, 29, 30], returns_count_on=returns)
    assert len(at_once["gold.daily_sales"]) == 2
    assert otherwise == at_once


def test_rerun_of_a_real_shop_does_not_change_tables(session: Session, shared_data: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    overrides = {"landing": str(shared_data / "olist"), "lake": str(lake), "pii_key": str(tmp_path / "pii.key")}
    session.run_day("2017-11-24", 1, overrides, env="olist")
    once = rows_of(lake)
    session.run_day("2017-11-24", 2, overrides, env="olist")
    assert len(once["silver.orders"]) > 50
    assert rows_of(lake) == once


def test_later_day_restates_the_days_that_it_changes(session: Session, shop: Path, tmp_path: Path) -> None:
    before = content(session, shop, tmp_path / "before", [26, 27])
    after = content(session, shop, tmp_path / "before", [28, 29])
    statuses = {row[0]: row for row in before["silver.orders"]}
    changed = [row for row in after["silver.orders"] if row[0] in statuses and row != statuses[row[0]]]
    assert changed
    ((cancelled, returned),) = DuckDBEngine(Lake(str(tmp_path / "before")), "Europe/Berlin").rows(
        "SELECT count(*) FILTER (WHERE o.status = 'cancelled'), "
        "(SELECT coalesce(sum(abs(line_amount)), 0) FROM silver.order_items WHERE is_return AND order_id IN "
        "(SELECT order_id FROM silver.orders WHERE order_date IN (DATE '2025-11-26', DATE '2025-11-27'))) "
        "FROM silver.orders AS o WHERE o.order_date IN (DATE '2025-11-26', DATE '2025-11-27')"
    )
    days = [row for row in after["gold.daily_sales"] if row[0] < date(2025, 11, 28)]
    assert sum(row[2] for row in days) == cancelled
    assert sum(row[5] for row in days) == returned


def test_later_days_do_not_publish_a_rejected_day(session: Session, shop: Path, tmp_path: Path) -> None:
    landing = shutil.copytree(shop / "landing", tmp_path / "landing")
    orders = landing / "orders" / "2025-11-27" / "orders.csv"
    orders.write_text(orders.read_text().replace(",paid,", ",lost,"))
    overrides = {"landing": str(landing), "lake": str(tmp_path / "lake"), "pii_key": str(shop / "pii.key")}
    session.run_day("2025-11-27", 1, overrides)
    assert read_outcome() == "REJECTED"

    session.run_day("2025-11-28", 1, overrides)

    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "Europe/Berlin")
    assert engine.rows("SELECT count(*) FROM silver.orders WHERE order_date = DATE '2025-11-27'")[0][0] > 0
    assert engine.rows("SELECT order_date FROM gold.daily_sales") == [(date(2025, 11, 28),)]
    assert engine.rows("SELECT max(last_order_date), min(last_order_date) FROM gold.customer_rfm") == [
        (date(2025, 11, 28),) * 2
    ]
