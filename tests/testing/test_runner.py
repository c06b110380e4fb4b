"""Cases run the cells of the notebooks on given rows."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.testing.case import Case
from daybook.testing.cells import SqlCells
from daybook.testing.runner import CaseRunner
from tests.conftest import Project
from tests.testing.conftest import RunCase

SALE = """
given:
  silver.orders:
    - {order_id: a, order_date: 2025-11-30, status: delivered, customer_key: c1}
  silver.order_items:
    - {order_id: a, line_number: 1, product_id: p, quantity: 2, unit_price: 5, line_amount: 10.00, is_return: false}
"""
NOTEBOOK = "notebooks/4_aggregate.ipynb"


def test_equal_rows_pass(run_case: RunCase) -> None:
    assert run_case(SALE + "expect: [{order_date: 2025-11-30, orders: 1, gross_revenue: 10, new_customers: 1}]").passed


def test_inputs_of_one_case_are_empty_in_the_next(run_case: RunCase) -> None:
    assert not run_case(SALE + "expect: []").passed
    assert run_case("expect: []").passed


def test_differing_values_are_listed_by_key(run_case: RunCase) -> None:
    result = run_case(SALE + "expect: [{order_date: 2025-11-30, orders: 2, gross_revenue: 10.01, units: 2}]")
    found = [(each.row, each.column, each.expected, each.actual) for each in result.differences]
    assert found == [
        ("order_date=2025-11-30", "orders", "2", "1"),
        ("order_date=2025-11-30", "gross_revenue", "10.01", "10"),
    ]
    assert "order_date=2025-11-30  gross_revenue  10.01     10" in str(result)


def test_missing_and_unexpected_rows_are_listed(run_case: RunCase) -> None:
    result = run_case(SALE + "expect: [{order_date: 2025-11-29, orders: 1}]")
    found = [(each.row, each.expected, each.actual) for each in result.differences]
    assert found == [
        ("order_date=2025-11-29", "orders=1", "no row"),
        ("order_date=2025-11-30", "no row", "orders=1"),
    ]


def test_repeated_row_is_unexpected(run_case: RunCase) -> None:
    case = "given:\n  all_lines: [{order_id: a}, {order_id: a}]\n  touched: [{order_date: 2025-11-30}]\n"
    result = run_case(case + "expect: [{order_id: a}]", "all_lines_twice")
    assert "No cell of 4_aggregate defines all_lines_twice; did you mean" in str(result)
    case = "given: {touched_orders: [{order_id: a, is_counted: true}, {order_id: a, is_counted: true}]}\n"
    result = run_case(case + "expect: [{order_id: a}]", "counted")
    assert [(each.expected, each.actual) for each in result.differences] == [("no row", "order_id=a")]


def test_given_rows_replace_a_cell_and_its_inputs(run_case: RunCase) -> None:
    case = "given: {touched_orders: [{order_id: a, is_counted: true}, {order_id: b, is_counted: false}]}\n"
    assert run_case(case + "expect: [{order_id: a}]", "counted").passed
    assert run_case(SALE + "expect: [{order_id: a}]", "counted").passed


def test_rows_without_a_key_pair_by_equal_values(run_case: RunCase) -> None:
    case = "given: {touched_orders: [{order_id: a, status: x, is_counted: true}]}\n"
    result = run_case(case + "expect: [{order_id: a, status: y}]", "counted")
    assert [(each.row, each.column, each.expected, each.actual) for each in result.differences] == [
        ("order_id=a", "status", "y", "x")
    ]


def test_setting_of_a_case_is_used(run_case: RunCase) -> None:
    returned = """
parameters: {returns_count_on: HOW}
given:
  silver.orders: [{order_id: a, order_date: 2025-11-20, status: delivered}]
  silver.order_items:
    - {order_id: a, quantity: -1, unit_price: 5, line_amount: -5, is_return: true, returned_at: 2025-11-30 00:30:00+01:00}
"""
    expected = "expect: [{order_date: 2025-11-30, orders: 0, returns_amount: 5}]"
    assert run_case(returned.replace("HOW", "return_date") + expected).passed
    assert run_case(returned.replace("HOW", "order_date") + "expect: []").passed
    assert run_case(returned.replace("HOW", "return_date") + expected).passed


def test_touched_and_landed_dates_can_be_given(run_case: RunCase) -> None:
    assert run_case(SALE.replace("2025-11-30", "2025-11-28") + "expect: []").passed
    case = SALE.replace("2025-11-30", "2025-11-28") + "  touched: [{order_date: 2025-11-28}]\n"
    assert run_case(case + "expect: [{order_date: 2025-11-28}]").passed
    assert run_case(SALE + "expect: [{customer_key: c1, as_of: 2025-11-30, monetary: 10}]", "gold.customer_rfm").passed
    case = SALE + "  landed: [{order_date: 2025-12-02}]\n"
    assert run_case(case + "expect: []", "gold.customer_rfm").passed


def test_mapped_rows_give_silver(run_case: RunCase) -> None:
    case = """
given:
  mapped.orders:
    - {order_id: a, status: PAID, ordered_at: 2025-11-29 23:30:00Z, version_at: 2025-11-30 10:00:00+01:00}
    - {order_id: a, status: Shipped, ordered_at: 2025-11-29 23:30:00Z, version_at: 2025-11-30 11:00:00+01:00}
expect: [{order_id: a, status: shipped, order_date: 2025-11-30, ordered_at: 2025-11-30 00:30:00+01:00}]
"""
    assert run_case(case, "silver.orders", "3_transform").passed


def test_derived_columns_read_given_silver(run_case: RunCase) -> None:
    case = """
given: {silver.orders: [{customer_key: c, order_date: 2025-11-03}, {customer_key: c, order_date: 2025-11-01}]}
expect: [{customer_key: c, first_order_date: 2025-11-01}]
"""
    assert run_case(case, "derived.customers", "3_transform").passed


def test_repeated_hour_keeps_its_offsets_apart(run_case: RunCase) -> None:
    case = """
given:
  mapped.orders: [{order_id: a, ordered_at: 2025-10-26 02:30:00+02:00}, {order_id: b, ordered_at: 2025-10-26 02:30:00+01:00}]
expect: [{order_id: a, ordered_at: 2025-10-26 02:30:00+01:00}, {order_id: b, ordered_at: 2025-10-26 02:30:00+01:00}]
"""
    result = run_case(case, "silver.orders", "3_transform")
    assert [(each.row, each.column) for each in result.differences] == [("order_id=a", "ordered_at")]
    assert result.differences[0].actual == "2025-10-26 02:30:00+02:00"


def test_given_rows_of_landing_are_judged(run_case: RunCase) -> None:
    case = """
given:
  landed.orders:
    - {order_id: DB-000001, customer_id: c1, status: SHIPD, ordered_at: 2025-11-20 17:56:49, updated_at: 2025-11-20 17:56:49}
    - {order_id: DB-000002, customer_id: c1, status: paid, ordered_at: 2025-11-20 17:56:49, updated_at: 2025-11-20 17:56:49}
expect: [{order_id: DB-000001, _reasons: status is an accepted value}]
"""
    assert run_case(case, "rejected.orders", "2_validate").passed
    assert run_case("expect: []", "rejected.orders", "2_validate").passed


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("given: {silver.order: []}\nexpect: []", "given: there is no input 'silver.order'; did you mean silver.orders"),
        (
            "given: {silver.orders: [{order_idd: a}]}\nexpect: []",
            "there is no column 'order_idd'; did you mean order_id",
        ),
        ("expect: [{order: 1}]", "expect, row 1: there is no column 'order'; did you mean orders"),
        ("given: {silver.order_items: [{unit_price: 1.23456}]}\nexpect: []", "unit_price does not fit decimal128(18, 4)"),
        ("given: {silver.order_items: [{quantity: 1.5}]}\nexpect: []", "'quantity' is '1.5'; write a whole number"),
        ("given: {silver.orders: [{order_date: 30.11.}]}\nexpect: []", "write a date as YYYY-MM-DD"),
        ("given: {silver.orders: [{ordered_at: 2025-10-26 02:30}]}\nexpect: []", "clocks change in Europe/Berlin"),
        ("given: {silver.orders: [{ordered_at: 2025-03-30 02:30}]}\nexpect: []", "clocks change in Europe/Berlin"),
        ("given: {silver.order_items: [{is_return: ja}]}\nexpect: []", "write true or false"),
        ("given: {gold.daily_sales: []}\nexpect: []", "gold.daily_sales are both given and expected"),
        ("parameters: {run_date: today}\nexpect: []", "'today' is not a business date"),
        ("env: nowhere\nexpect: []", "There is no params/nowhere.yaml"),
        ("notebook: 4_aggregat\nexpect: []", "There is no notebook '4_aggregat'; did you mean 4_aggregate"),
        ("columns: all\nexpect: [{order_date: 2025-11-30}]", "columns is all, and an expected row does not name orders"),
        ("notebook: 5_quality\ntable: from_silver\nexpect: []", "needs Python for {{ ids.lowest[0] }}"),
    ],
)
def test_error_of_a_case_is_its_reason(run_case: RunCase, case: str, message: str) -> None:
    lines = [line for line in case.splitlines() if not line.startswith(("notebook", "table"))]
    given = dict(line.split(": ") for line in case.splitlines() if line.startswith(("notebook", "table")))
    result = run_case("\n".join(lines), **given)
    assert not result.passed
    assert message in str(result)


def test_value_of_an_expression_can_be_given() -> None:
    values = {"audit.dates[0]": date(2025, 11, 1), "audit.dates[-1]": date(2025, 11, 30)}
    assert "BETWEEN DATE '2025-11-01' AND DATE '2025-11-30'" in SqlCells("5_quality").bind("checked_orders", values)


def test_value_beyond_its_contract_fails(run_case: RunCase) -> None:
    line = "{order_id: a, product_id: p, quantity: 1, unit_price: 1, line_amount: 99999999999999}"
    case = f"""
given:
  silver.orders: [{{order_id: a, order_date: 2025-11-30, status: paid}}]
  silver.order_items: [{line}, {line}]
expect: [{{order_date: 2025-11-30}}]
"""
    result = run_case(case)
    assert result.reason == (
        "The row order_date=2025-11-30 has a value that does not fit the contract of gold.daily_sales: "
        "gross_revenue, net_revenue, average_order_value."
    )


def test_changed_cell_fails_a_case(project: Project) -> None:
    case = Case(
        name="a",
        notebook="4_aggregate",
        table="gold.daily_sales",
        given={"silver.orders": [{"order_id": "a", "order_date": "2025-11-30", "status": "cancelled"}]},
        expect=[{"orders": "0", "cancelled_orders": "1"}],
    )
    assert CaseRunner().run(case).passed
    project.replace(NOTEBOOK, "status NOT IN ('cancelled', 'unavailable', 'adjustment')", "status <> 'unavailable'")
    assert [each.column for each in CaseRunner().run(case).differences] == ["orders"]
    project.replace(NOTEBOOK, "FROM counts AS n", "FROM count AS n")
    assert "There is no table count" in str(CaseRunner().run(case))


def build_case(table: str, given: dict[str, Any], expect: list[Any], notebook: str = "3_transform", **parameters: str) -> Case:
    parameters = {"run_date": "2025-11-30", **parameters}
    return Case(name=table, notebook=notebook, table=table, parameters=parameters, given=given, expect=expect)


LANDED = {"mapped.orders": [{"order_id": "a", "customer_key": "c", "status": "PAID", "ordered_at": "2025-11-30"}]}
STORED = {"silver.orders": [{"order_id": "b", "customer_key": "c", "order_date": "2025-11-03"}]}
ORDER = {"silver.orders": [{"order_id": "a", "order_date": "2025-11-30", "status": "paid"}]}
RETURNED = {"order_id": "a", "quantity": "-1", "line_amount": "-5", "is_return": "true", "returned_at": "2025-11-29"}
LINES = {**ORDER, "silver.order_items": [RETURNED]}
IN_ANY_ORDER = [
    build_case("silver.orders", LANDED, [{"order_id": "a", "status": "paid"}]),
    build_case("silver.orders", {}, []),
    build_case("derived.customers", LANDED, [{"customer_key": "c", "first_order_date": "2025-11-30"}]),
    build_case("derived.customers", STORED, [{"customer_key": "c", "first_order_date": "2025-11-03"}]),
    build_case("gold.daily_sales", LINES, [{"returns_amount": "5"}], "4_aggregate"),
    build_case("gold.daily_sales", LINES, [{"returns_amount": "0"}], "4_aggregate", returns_count_on="return_date"),
    build_case("gold.daily_sales", {}, [], "4_aggregate"),
    build_case("lines", {"all_lines": [{"order_id": "x", "counts_on": "2025-11-30"}]}, [{"order_id": "x"}], "4_aggregate"),
    build_case("counted", ORDER, [{"order_id": "a"}], "4_aggregate"),
    build_case("counted", {"all_orders": []}, [], "4_aggregate"),
]


@settings(max_examples=6)
@given(cases=st.permutations(IN_ANY_ORDER))
def test_result_does_not_depend_on_earlier_cases(runner: CaseRunner, cases: list[Case]) -> None:
    for case in cases:
        result = runner.run(case)
        assert result.passed, str(result)
