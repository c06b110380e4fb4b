"""Test that the pipeline computes the figures that the demo shop's account expects, in spite of faulty rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from demo_shop import generate
from tests.sessions import Session

pytestmark = pytest.mark.slow

DAYS = ("2025-11-27", "2025-11-28", "2025-11-29", "2025-11-30")


def test_figures_of_the_last_days_are_as_expected(session: Session, tmp_path: Path) -> None:
    summary = generate(tmp_path / "landing", orders_per_day=60)
    overrides = {name: str(tmp_path / name) for name in ("landing", "lake")}
    overrides["pii_key"] = str(tmp_path / "pii.key")
    assert session.run_range(DAYS[0], DAYS[2], 1, overrides) == "SUCCEEDED"
    assert session.run_day(DAYS[3], 1, overrides) == "SUCCEEDED"

    engine = DuckDBEngine(Lake(overrides["lake"]), "Europe/Berlin")
    columns = "order_date, orders + cancelled_orders, cancelled_orders, units, gross_revenue, returns_amount"
    found = engine.rows(f"SELECT {columns} FROM gold.daily_sales ORDER BY order_date")
    expected = [(day, summary.expected[day]) for day in map(date.fromisoformat, DAYS)]
    assert found == [
        (day, each.orders, each.cancelled_orders, each.units, each.gross_revenue, each.returns_amount) for day, each in expected
    ]
    assert len({each.kind for each in summary.faults if each.day.isoformat() in DAYS}) > 10
