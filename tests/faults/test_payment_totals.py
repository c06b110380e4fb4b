"""Test that payments that differ from their orders are a warning of the quality stage, not a rejection."""

from __future__ import annotations

import pytest

from tests.faults.conftest import FLAT_HEADER, Shop

pytestmark = pytest.mark.slow

DAY = "2025-05-11"
PAYMENTS = """mapping:
  payments:
    - from: export
      group_by: ['"order"']
      columns: {order_id: '"order"', sequence: "1", method: "'card'", amount: max(total)}
"""
TOTAL = "      - {name: total, logicalType: number, physicalType: VARCHAR}\n"


@pytest.fixture
def shop(flat: Shop) -> Shop:
    flat.project.replace("params/sources/flat.yaml", "mapping:\n", PAYMENTS)
    flat.project.replace("params/sources/flat.yaml", "quantity: qty", "quantity: qty, is_return: qty < 0, freight: fee")
    contract = flat.project.root / "params/contracts/landing/flat.yaml"
    contract.write_text(contract.read_text(encoding="utf-8") + TOTAL + TOTAL.replace("total", "fee"), encoding="utf-8")
    return flat


def land(shop: Shop, *orders: str) -> None:
    """Land lines of order, status, quantity, price, total and fee."""
    rows = []
    for order in orders:
        name, status, *amounts = order.split(",")
        rows.append(",".join([name, f"{DAY} 09:00:00 +0200", status, "Wax", *amounts]))
    shop.land_rows(f"{DAY}/orders.csv", *rows, header=f"{FLAT_HEADER},total,fee")


def test_payments_off_by_over_a_cent_are_a_warning(shop: Shop) -> None:
    land(
        shop,
        "even,paid,2,3.00,7.50,1.50",
        "cent,paid,1,3.00,3.01,",
        "less,paid,1,3.00,2.98,",
        "more,paid,1,3.00,30.00,1.00",
        "returned,paid,1,3.00,3.00,",
        "returned,paid,-1,3.00,3.00,",
    )
    ran = shop.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("quality")
    found = [each for each in warnings if each.startswith("silver.payments: ")]
    assert found == [
        "silver.payments: 2 orders differ by more than a cent from the sum of lines and freight (less, more); "
        "compare them with the source"
    ]


def test_matching_payments_are_no_warning(shop: Shop) -> None:
    land(shop, "a,paid,1,3.00,3.00,", "b,paid,2,3.00,6.00,")
    ran = shop.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("quality")
    assert not [each for each in warnings if "silver.payments" in each]
