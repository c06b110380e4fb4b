"""Test the fixture ``shop``."""

from __future__ import annotations

from tests.faults.conftest import Shop


def test_shop_runs_a_date(shop: Shop) -> None:
    """Run all stages of a date and read the result from the tables."""
    shop.land(
        "o/2025-10-26/orders.csv",
        "order_id,customer,ordered_at,status,shipped_at,updated_at\nA1,C1,2025-10-26 10:00:00,paid,,2025-10-26 10:00:00\n",
    )
    shop.land("o/2025-10-26/lines.csv.gz", "order_id,line,sku,qty,price\nA1,1,S1,2,10.00\n")
    ran = shop.run("2025-10-26")
    assert (ran.outcome, set(ran.stages)) == ("SUCCEEDED", {"ingest", "validate", "transform", "aggregate", "quality"})
    assert shop.rows("SELECT gross_revenue FROM gold.daily_sales")[0][0] == 20
