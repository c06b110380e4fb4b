"""Test that payments that differ from order totals are a warning of the quality stage, never a rejection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.faults.lines_support import HEADER, Shop, open_shop, warnings_of

DAY = "2025-05-11"
PAYMENTS = """mapping:
  payments:
    - from: export
      group_by: ['"order"']
      columns: {order_id: '"order"', sequence: "1", method: "'card'", amount: max(total)}
"""
TOTAL = "      - {name: total, logicalType: number, physicalType: VARCHAR}\n"


@pytest.fixture
def shop(project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop("flat", project, home, monkeypatch) as opened:
        project.replace("params/sources/flat.yaml", "mapping:\n", PAYMENTS)
        project.replace("params/sources/flat.yaml", "quantity: qty", "quantity: qty, is_return: qty < 0, freight: fee")
        contract = project.root / "params/contracts/landing/flat.yaml"
        contract.write_text(contract.read_text(encoding="utf-8") + TOTAL + TOTAL.replace("total", "fee"), encoding="utf-8")
        yield opened


def land(shop: Shop, *orders: str) -> None:
    """Write lines of order, status, quantity, price, total and fee."""
    rows = []
    for order in orders:
        name, status, *amounts = order.split(",")
        rows.append(",".join([name, f"{DAY} 09:00:00 +0200", status, "Wax", *amounts]))
    shop.land(DAY, "orders.csv", *rows, header=f"{HEADER},total,fee")


def test_payments_off_by_more_than_a_cent_are_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    land(
        shop,
        "even,paid,2,3.00,7.50,1.50",
        "cent,paid,1,3.00,3.01,",
        "less,paid,1,3.00,2.98,",
        "more,paid,1,3.00,30.00,1.00",
        "returned,paid,1,3.00,3.00,",
        "returned,paid,-1,3.00,3.00,",
    )
    with warnings_of("quality", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    payment_warnings = [each for each in warnings if each.startswith("silver.payments: ")]
    assert payment_warnings == [
        "silver.payments: 2 orders differ by more than a cent from the sum of lines and freight (less, more); "
        "compare them with the source"
    ]


def test_matching_payments_are_not_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    land(shop, "a,paid,1,3.00,3.00,", "b,paid,2,3.00,6.00,")
    with warnings_of("quality", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    assert not [each for each in warnings if "silver.payments" in each]
