"""Test that an order in two exports of a flat file counts once, in the version of the newest file."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.faults.lines_support import FAULTS, Shop, open_shop, warnings_of

EXPORTS = sorted((FAULTS / "overlapping_exports").glob("*.csv"))
DAY, NEXT = "2025-05-11", "2025-05-12"
S4 = "S4,2025-05-12 09:00:00 +0200,paid,Comb,1,5.00"
"""An order of the next date, which needs at least one."""
TRUTH = Decimal("674.85")
LINES = [("S1", 1, "Board", 1), ("S2", 1, "Wax", 2), ("S3", 1, "Wax", 1)]


@pytest.fixture
def shop(project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop("flat", project, home, monkeypatch) as opened:
        yield opened


def test_two_exports_of_one_landing_count_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.land_files(DAY, *EXPORTS)
    with warnings_of("transform", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    assert (shop.gross(), shop.lines()) == (TRUTH, LINES)
    assert shop.rows("SELECT status FROM silver.orders ORDER BY order_id") == [("paid",)] * 3
    assert warnings == [
        "export: 2 orders are in more than one file of the date (S1, S2); the newest file of an order counts, "
        "and 2 rows of older files do not"
    ]


def test_row_number_as_line_number_is_equivalent(shop: Shop, project: Project) -> None:
    project.replace(
        "params/sources/flat.yaml", "product_id: product, quantity", "line_number: _row_number, product_id: product, quantity"
    )
    shop.land_files(DAY, *EXPORTS)
    assert shop.run(DAY) == "SUCCEEDED"
    assert (shop.gross(), shop.lines()) == (TRUTH, LINES)


@pytest.mark.parametrize("order", [(DAY, NEXT), (NEXT, DAY), (DAY, NEXT, DAY), (NEXT, NEXT, DAY)])
def test_export_of_a_later_date_replaces_orders(shop: Shop, order: tuple[str, ...]) -> None:
    shop.land_files(DAY, EXPORTS[0])
    shop.land_files(NEXT, EXPORTS[1])
    shop.land(NEXT, "orders_export_3.csv", S4)
    for number, day in enumerate(order, start=1):
        assert shop.run(day, number) == "SUCCEEDED"
    assert shop.gross() == TRUTH + 5
    assert shop.lines() == [*LINES, ("S4", 1, "Comb", 1)]


def test_later_export_with_fewer_lines_removes_lines(shop: Shop) -> None:
    shop.land(
        DAY, "orders.csv", "S1,2025-05-11 09:00:00 +0200,paid,Wax,1,3.00", "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00"
    )
    shop.land(NEXT, "orders.csv", "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00", S4)
    for day in (DAY, NEXT):
        assert shop.run(day) == "SUCCEEDED"
    assert shop.rows("SELECT gross_revenue FROM gold.daily_sales ORDER BY order_date") == [(9,), (5,)]
    # The later export lands again without the order.
    shop.land(NEXT, "orders.csv", S4)
    assert shop.run(NEXT, 2) == "SUCCEEDED"
    assert shop.rows("SELECT gross_revenue FROM gold.daily_sales ORDER BY order_date") == [(12,), (5,)]


def test_tenth_export_is_newer_than_the_second(shop: Shop) -> None:
    for number, price in (("2", "2.00"), ("10", "10.00")):
        shop.land(DAY, f"orders_export_{number}.csv", f"S1,2025-05-11 09:00:00 +0200,paid,Wax,1,{price}")
    assert shop.run(DAY) == "SUCCEEDED"
    assert shop.gross() == 10


def test_duplicates_are_dropped_within_a_file(shop: Shop, project: Project) -> None:
    project.replace("params/sources/flat.yaml", "  export:\n", "  export:\n    duplicates: drop\n")
    wax = "S1,2025-05-11 09:00:00 +0200,paid,Wax,1,3.00"
    shop.land(DAY, "orders_1.csv", wax, "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00")
    shop.land(DAY, "orders_2.csv", wax, wax, "S1,2025-05-11 09:00:00 +0200,paid,Board,1,8.00")
    assert shop.run(DAY) == "SUCCEEDED"
    assert shop.gross() == 11


def test_parts_of_one_export_are_all_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        shop.land(DAY, f"orders_{number}.csv", f"S{number},2025-05-11 09:00:00 +0200,paid,Wax,{number},1.00")
    with warnings_of("transform", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    assert (shop.gross(), warnings) == (3, [])


def test_order_without_its_newest_lines_is_a_warning(shop: Shop, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "order_items:\n    - from: export\n"
    project.replace("params/sources/flat.yaml", lines, f"{lines}      where: qty > 0\n")
    shop.land_files(DAY, EXPORTS[1])
    assert shop.run(DAY) == "SUCCEEDED"
    shop.land(NEXT, "orders_export_3.csv", "S1,2025-05-11 09:55:16 -0400,paid,Board,0,600.00", S4)
    with warnings_of("transform", monkeypatch) as warnings:
        assert shop.run(NEXT, 2) == "SUCCEEDED"
    assert warnings == [
        "export: 1 order_id has no row in the newest file that the mapping of 'order_items' keeps (S1); rows of an earlier "
        "date stay, so let the mapping keep such rows with values that count for nothing"
    ]
