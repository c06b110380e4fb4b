"""Test text after a time of day: a zone or AM/PM is read, any other text quarantines the row."""

from __future__ import annotations

import pytest

from tests.faults.conftest import FAULTS

pytestmark = pytest.mark.slow

DAY = "2025-10-07"


def test_twelve_hour_clock_is_read(shop):
    shop.land_files(f"o/{DAY}", *(FAULTS / "zone_suffix").glob("*.csv"))
    # Z2 is changed before it is placed, which breaks a rule of the contract.
    assert shop.run(DAY).outcome == "SUCCEEDED"
    assert shop.rows("SELECT order_id, _reasons FROM quarantine.orders") == [
        ("Z2", "an order is not changed before it is placed")
    ]


def test_unknown_zone_quarantines_the_row_with_its_rule(shop):
    suffixes = {"Uhr": False, "GMT+2": False, "N/A": False, "BST": False, "CEST": True, "+0200": True, "Europe/Berlin": True}
    header = "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
    orders = [f"{n},1,2025-10-07 10:00:00 {text},paid,,2025-10-07 12:00:00\n" for n, text in enumerate(suffixes)]
    shop.land(f"o/{DAY}/orders.csv", header + "".join(orders))
    lines = [f"{n},1,A,1,1.00\n" for n in range(len(suffixes))]
    shop.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\n" + "".join(lines))
    assert shop.run(DAY).outcome == "SUCCEEDED"
    rejected = shop.rows("SELECT order_id, _source_file, _row_number, _reasons FROM quarantine.orders ORDER BY order_id")
    assert [row[0] for row in rejected] == [str(n) for n, known in enumerate(suffixes.values()) if not known]
    assert {row[3] for row in rejected} == {"ordered_at has a known time zone"}
    assert {row[2] for row in rejected} == {1, 2, 3, 4}
    assert shop.rows("SELECT DISTINCT CAST(ordered_at AS VARCHAR) FROM silver.orders") == [("2025-10-07 10:00:00+02",)]
