"""Test overlapping exports of a flat file: each order counts once, as in its newest file."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.faults.conftest import FAULTS, Shop

pytestmark = pytest.mark.slow

EXPORTS = sorted((FAULTS / "overlapping_exports").glob("*.csv"))
DAY, NEXT = "2025-05-11", "2025-05-12"
S4 = "S4,2025-05-12 09:00:00 +0200,paid,Comb,1,5.00"
"""An order of NEXT; a landing without orders of its date is rejected."""
TRUTH = Decimal("674.85")
LINES = [("S1", 1, "Board", 1), ("S2", 1, "Wax", 2), ("S3", 1, "Wax", 1)]


def test_two_exports_of_one_landing_count_once(flat: Shop) -> None:
    flat.land_files(DAY, *EXPORTS)
    ran = flat.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("transform")
    assert (flat.gross(), flat.lines()) == (TRUTH, LINES)
    assert flat.rows("SELECT status FROM silver.orders ORDER BY order_id") == [("paid",)] * 3
    assert warnings == [
        "export: 2 orders are in more than one file of the date (S1, S2); the newest file of an order counts, "
        "and 2 rows of older files do not"
    ]


def test_row_number_as_line_number_gives_the_same_lines(flat: Shop) -> None:
    flat.project.replace(
        "params/sources/flat.yaml", "product_id: product, quantity", "line_number: _row_number, product_id: product, quantity"
    )
    flat.land_files(DAY, *EXPORTS)
    assert flat.run(DAY).outcome == "SUCCEEDED"
    assert (flat.gross(), flat.lines()) == (TRUTH, LINES)


@pytest.mark.parametrize("order", [(DAY, NEXT), (NEXT, DAY), (DAY, NEXT, DAY), (NEXT, NEXT, DAY)])
def test_export_of_a_later_date_replaces_orders(flat: Shop, order: tuple[str, ...]) -> None:
    flat.land_files(DAY, EXPORTS[0])
    flat.land_files(NEXT, EXPORTS[1])
    flat.land_rows(f"{NEXT}/orders_export_3.csv", S4)
    for day in order:
        assert flat.run(day).outcome == "SUCCEEDED"
    assert flat.gross() == TRUTH + 5
    assert flat.lines() == [*LINES, ("S4", 1, "Comb", 1)]


def test_later_export_with_fewer_lines_removes_lines(flat: Shop) -> None:
    flat.land_rows(
        f"{DAY}/orders.csv", "S1,2025-05-11 09:00:00 +0200,paid,Wax,1,3.00", "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00"
    )
    flat.land_rows(f"{NEXT}/orders.csv", "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00", S4)
    for day in (DAY, NEXT):
        assert flat.run(day).outcome == "SUCCEEDED"
    assert flat.rows("SELECT gross_revenue FROM gold.daily_sales ORDER BY order_date") == [(9,), (5,)]
    # The later export is delivered again without the order.
    flat.land_rows(f"{NEXT}/orders.csv", S4)
    assert flat.run(NEXT).outcome == "SUCCEEDED"
    assert flat.rows("SELECT gross_revenue FROM gold.daily_sales ORDER BY order_date") == [(12,), (5,)]


def test_tenth_export_is_newer_than_the_second(flat: Shop) -> None:
    for number, price in (("2", "2.00"), ("10", "10.00")):
        flat.land_rows(f"{DAY}/orders_export_{number}.csv", f"S1,2025-05-11 09:00:00 +0200,paid,Wax,1,{price}")
    assert flat.run(DAY).outcome == "SUCCEEDED"
    assert flat.gross() == 10


def test_duplicates_are_dropped_within_a_file(flat: Shop) -> None:
    flat.project.replace("params/sources/flat.yaml", "  export:\n", "  export:\n    duplicates: drop\n")
    wax = "S1,2025-05-11 09:00:00 +0200,paid,Wax,1,3.00"
    flat.land_rows(f"{DAY}/orders_1.csv", wax, "S1,2025-05-11 09:00:00 +0200,paid,Board,1,9.00")
    flat.land_rows(f"{DAY}/orders_2.csv", wax, wax, "S1,2025-05-11 09:00:00 +0200,paid,Board,1,8.00")
    assert flat.run(DAY).outcome == "SUCCEEDED"
    assert flat.gross() == 11


def test_parts_of_one_export_are_all_read(flat: Shop) -> None:
    for number in (1, 2):
        flat.land_rows(f"{DAY}/orders_{number}.csv", f"S{number},2025-05-11 09:00:00 +0200,paid,Wax,{number},1.00")
    ran = flat.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("transform")
    assert (flat.gross(), warnings) == (3, [])


def test_order_without_mapped_lines_is_a_warning(flat: Shop) -> None:
    lines = "order_items:\n    - from: export\n"
    flat.project.replace("params/sources/flat.yaml", lines, f"{lines}      where: qty > 0\n")
    flat.land_files(DAY, EXPORTS[1])
    assert flat.run(DAY).outcome == "SUCCEEDED"
    flat.land_rows(f"{NEXT}/orders_export_3.csv", "S1,2025-05-11 09:55:16 -0400,paid,Board,0,600.00", S4)
    ran = flat.run(NEXT)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("transform")
    assert warnings == [
        "export: 1 order_id has no row in the newest file that the mapping of 'order_items' keeps (S1); rows of an earlier "
        "date stay, so let the mapping keep such rows with values that count for nothing"
    ]
