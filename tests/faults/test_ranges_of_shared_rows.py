"""Test that a range gives what its dates give where dates share a file, or an order is in several files of a date."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.sources.mapping import quote
from tests.faults.conftest import Shop
from tests.faults.test_undated_rows import DAY, HEADER, OTHER, snapshot

__all__ = ["snapshot"]
pytestmark = pytest.mark.slow
LAST = "2025-10-28"
DAYS = [DAY, OTHER, LAST]


def read_all(lake: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables of landed rows, silver and gold, without the run that wrote them."""
    engine = DuckDBEngine(Lake(lake), "UTC")
    layers = ("bronze.", "quarantine.", "silver.", "gold.")
    found = {}
    for table in filter(lambda name: name.startswith(layers), engine.lake.tables()):
        columns = [name for name in engine.query(f"SELECT * FROM {table} LIMIT 0").columns if name != "_run_id"]
        found[table] = sorted(engine.rows(f"SELECT {', '.join(map(quote, columns))} FROM {table}"), key=repr)
    return found


def run_both_ways(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    """Run the dates one by one and as a range; require equal tables, counts and warnings, and return the tables."""
    lakes = [f"{shop.settings().lake}-{way}" for way in ("by-date", "range")]
    by_date = {day: shop.run(day, {"lake": lakes[0]}) for day in DAYS}
    together = shop.run(DAYS[0], {"lake": lakes[1]}, until=DAYS[-1])
    assert together.outcome == "SUCCEEDED"
    for day, alone in by_date.items():
        assert alone.outcome == "SUCCEEDED", alone.reasons
        for stage in ("ingest", "validate", "transform"):
            result = together.stages[stage].results[date.fromisoformat(day)]
            assert result.warnings == alone.warnings_of(stage), (day, stage)
            assert result.details.get("accounting") == alone.stages[stage].details.get("accounting"), (day, stage)
    tables = read_all(lakes[1])
    assert tables == read_all(lakes[0])
    return tables


def test_dates_of_a_range_share_a_snapshot(snapshot: Shop) -> None:
    """Undated rows, rows of an order outside the range and cut rows are there for each date."""
    days = [*(f"{day} 10:00:00" for day in (*DAYS, "2025-10-29")), "soon"]
    orders = [f"{name},C1,{day},paid,,2025-10-30 10:00:00" for name, day in zip(("A1", "B1", "C1", "D1", "N1"), days)]
    snapshot.land("orders.csv", "\n".join([HEADER, *orders, "X,cut off"]) + "\n")
    lines = [f"{name},1,S1,1,5.00" for name in ("A1", "B1", "C1", "D1", "N1")]
    snapshot.land("lines.csv", "\n".join(["order_id,line,sku,qty,price", *lines, "A1,2,S1"]) + "\n")
    tables = run_both_ways(snapshot)
    assert [len(tables[f"{layer}.orders"]) for layer in ("bronze", "quarantine", "silver")] == [3 * 3, 3 * 2, 3]
    assert [len(tables[f"{layer}.lines"]) for layer in ("bronze", "quarantine")] == [3 + 3, 3]


def test_superseded_rows_of_each_date_of_a_range_are_left_out(flat: Shop) -> None:
    """An order in two files of a date counts as in the newer one; one in files of two dates as on the later date."""

    def line(name: str, day: str, price: str) -> str:
        return f"{name},{day} 09:00:00 +0200,paid,Wax,1,{price}"

    flat.land_rows(f"{DAY}/orders_1.csv", line("S1", DAY, "1.00"), line("S2", DAY, "2.00"))
    flat.land_rows(f"{DAY}/orders_2.csv", line("S1", DAY, "10.00"))
    flat.land_rows(f"{OTHER}/orders_1.csv", line("S2", DAY, "20.00"), line("S3", OTHER, "3.00"), line("S4", OTHER, "4.00"))
    flat.land_rows(f"{OTHER}/orders_2.csv", line("S4", OTHER, "40.00"))
    flat.land_rows(f"{LAST}/orders_1.csv", line("S5", LAST, "5.00"), line("S1", DAY, "100.00"))
    tables = run_both_ways(flat)
    prices = {row[0]: float(row[5]) for row in tables["silver.order_items"]}
    assert sorted(prices.values()) == [3, 5, 20, 40, 100], prices
