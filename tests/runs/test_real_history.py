"""Test one backfill of real shops' history: equal to day-by-day runs and to other ranges, and to the raw files to the cent.

The default is a week of each shop. ``pytest --real-days 0 tests/runs/test_real_history.py`` runs the half year of Online
Retail and 120 days of Olist in about an hour. The day-by-day runs use the same notebooks in this process, without kernels,
which takes a fraction of the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from daybook.notebook import context as stages
from tests.runs.content import hash_tables
from tests.runs.shop import DaybookHome
from tests.sessions import new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

RAW = {
    # Repeated lines of the export count once: SELECT DISTINCT.
    "online_retail": """
        WITH lines AS (
            SELECT DISTINCT strptime(parse_filename(filename, true), '%Y-%m-%d')::DATE AS day, * EXCLUDE (filename)
            FROM read_csv('{landing}/*.csv', all_varchar=true, header=true, filename=true)
        ), amounts AS (
            SELECT day, InvoiceNo, Quantity::BIGINT AS quantity, UnitPrice::DECIMAL(18,4) AS price,
                   Quantity::BIGINT * UnitPrice::DECIMAL(18,4) AS amount
            FROM lines WHERE day BETWEEN DATE '{first}' AND DATE '{last}'
        )
        SELECT day, coalesce(sum(amount) FILTER (WHERE quantity > 0 AND price > 0 AND InvoiceNo ~ '[0-9]+'), 0) AS gross,
               coalesce(sum(abs(amount)) FILTER (WHERE quantity < 0 AND InvoiceNo LIKE 'C%'), 0) AS returns,
               count(DISTINCT InvoiceNo) FILTER (WHERE quantity > 0 AND price > 0 AND InvoiceNo ~ '[0-9]+')
        FROM amounts GROUP BY day ORDER BY day
    """,
    "olist": """
        WITH orders AS (
            SELECT order_id, order_status, CAST(order_purchase_timestamp AS TIMESTAMP)::DATE AS day
            FROM read_csv('{landing}/olist_orders_dataset.csv', all_varchar=true, header=true)
        ), sold AS (
            SELECT order_id, sum(price::DECIMAL(18,4)) AS amount
            FROM read_csv('{landing}/olist_order_items_dataset.csv', all_varchar=true, header=true) GROUP BY order_id
        )
        SELECT day, coalesce(sum(amount) FILTER (WHERE order_status NOT IN ('canceled', 'unavailable')), 0), 0::DECIMAL(18,4),
               count(*) FILTER (WHERE order_status NOT IN ('canceled', 'unavailable'))
        FROM orders LEFT JOIN sold USING (order_id)
        WHERE day BETWEEN DATE '{first}' AND DATE '{last}' GROUP BY day ORDER BY day
    """,
}
"""Gross revenue, returns and orders by date, from one query over the raw files, independent of Daybook."""
SPANS = {"online_retail": (date(2010, 12, 1), date(2011, 5, 31)), "olist": (date(2017, 11, 1), date(2018, 2, 28))}


@dataclass
class History:
    """A shop's backfilled range of dates."""

    env: str
    landing: Path
    days: list[date]
    home: DaybookHome
    content: dict[str, str]
    """Hashes of the tables. The home of a later test is another one."""

    def raw(self) -> list[tuple[Any, ...]]:
        query = RAW[self.env].format(landing=self.landing, first=self.days[0], last=self.days[-1])
        with duckdb.connect() as connection:
            return connection.sql(query).fetchall()


@pytest.fixture(scope="module", params=list(SPANS))
def history(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    env, count = request.param, request.config.getoption("--real-days")
    first, last = SPANS[env]
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    days = days[: count or None]
    home = DaybookHome(tmp_path_factory.mktemp(env))
    landing = shared_data / env
    command = [sys.executable, "-c", "from daybook.cli import main; main()", "backfill", str(days[0]), str(days[-1])]
    command += ["--env", env, "--set", f"landing={landing}", "--parallel", "2", "--yes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_HOME", str(home.path))
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=3 * 3600)
        assert done.returncode == 0, done.stdout + done.stderr
        yield History(env, landing, days, home, hash_tables(home.engine(env)))


def test_totals_equal_one_query_over_the_raw_files(history: History) -> None:
    found = history.home.engine(history.env).rows(
        "SELECT order_date, gross_revenue, returns_amount, orders FROM gold.daily_sales ORDER BY order_date"
    )
    assert found == history.raw()


def test_days_without_a_file_are_skipped(history: History) -> None:
    archive = history.home.archive(history.env)
    traded = {row[0] for row in history.raw()}
    outcomes = {day: archive.run(archive.run_ids(day)[-1]).outcome for day in history.days}
    assert outcomes == {day: "SUCCEEDED" if day in traded else "SKIPPED" for day in history.days}


@pytest.fixture
def other(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DaybookHome:
    """Return an empty home with the key of the backfilled one."""
    home = DaybookHome(tmp_path / "other")
    home.path.mkdir()
    shutil.copy(history.home.path / "pii.key", home.path)
    monkeypatch.setenv("DAYBOOK_HOME", str(home.path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(stages, "current", None)
    return home


def test_content_equals_that_of_running_day_after_day(history: History, other: DaybookHome) -> None:
    assert len(history.content) == 13
    with new_session() as session:
        for day in history.days:
            session.run_day(day.isoformat(), 1, {"landing": str(history.landing)}, env=history.env)
    assert hash_tables(other.engine(history.env)) == history.content


def test_content_equals_that_of_other_ranges_in_another_order(history: History, other: DaybookHome) -> None:
    chance = Random(1)  # noqa: S311 (no secret)
    cuts = sorted(chance.sample(range(1, len(history.days)), min(len(history.days) // 3, 12)))
    ranges = [history.days[start:end] for start, end in zip([0, *cuts], [*cuts, len(history.days)])]
    chance.shuffle(ranges)
    with new_session() as session:
        for days in ranges:
            overrides = {"landing": str(history.landing)}
            if len(days) == 1:
                session.run_day(days[0].isoformat(), 1, overrides, env=history.env)
            else:
                session.run_range(days[0].isoformat(), days[-1].isoformat(), 1, overrides, env=history.env)
    assert hash_tables(other.engine(history.env)) == history.content
