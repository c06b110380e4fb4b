"""Test times within the hour that the clock repeats: versions keep their order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.faults.conftest import FAULTS

pytestmark = pytest.mark.slow

DAY = "2025-10-26"


def test_versions_in_the_repeated_hour_keep_their_order(shop):
    shop.land_files(f"o/{DAY}", *(FAULTS / "dst_fold").glob("*.csv"))
    assert shop.run(DAY).outcome == "SUCCEEDED"
    assert shop.rows("SELECT order_id, status FROM silver.orders ORDER BY order_id") == [
        ("F1", "cancelled"), ("F2", "paid"), ("F3", "paid"), ("F4", "paid"),
    ]  # fmt: skip
    assert shop.rows("SELECT count(*) FROM quarantine.orders") == [(0,)]
    assert shop.rows("SELECT gross_revenue FROM gold.daily_sales") == [(Decimal("27.0000"),)]


def test_ambiguous_local_times_are_counted_as_a_warning(shop):
    shop.land(
        f"o/{DAY}/orders.csv",
        "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
        "A1,1,2025-10-26 02:30:00,paid,,2025-10-26 12:00:00\n"
        "A2,2,2025-10-26T02:30:00+02:00,paid,,2025-10-26 12:00:00\n",
    )
    shop.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nA1,1,A,1,1.00\nA2,1,A,1,1.00\n")
    ran = shop.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    assert ran.warnings_of("validate") == ["orders: 1 row breaks 'ordered_at is not in the hour that the clock repeats'"]
    assert shop.rows("SELECT count(DISTINCT ordered_at) FROM silver.orders") == [(2,)]
