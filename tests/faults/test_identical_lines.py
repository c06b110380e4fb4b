"""Test that two equal lines of one order in a flat file are two lines."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.faults.conftest import FAULTS, Shop

pytestmark = pytest.mark.slow

DAY = "2025-05-11"


@pytest.fixture
def shop(flat: Shop) -> Shop:
    flat.land_files(DAY, FAULTS / "identical_lines" / "orders.csv")
    return flat


def test_two_equal_lines_of_an_order_both_count(shop: Shop) -> None:
    assert shop.run(DAY).outcome == "SUCCEEDED"
    assert shop.gross() == Decimal("649.90")
    assert shop.lines() == [("S1", 1, "Wax", 1), ("S1", 2, "Wax", 1), ("S1", 3, "Board", 1)]


def test_equal_lines_count_once_if_the_source_drops_them(shop: Shop) -> None:
    shop.project.replace("params/sources/flat.yaml", "  export:\n", "  export:\n    duplicates: drop\n")
    assert shop.run(DAY).outcome == "SUCCEEDED"
    assert shop.gross() == Decimal("624.95")
