"""Rules find the rows that break them and no others; verdicts say why."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pytest

from daybook.contracts import load_table
from daybook.engines import DuckDBEngine
from daybook.lake import Lake
from daybook.quality import (
    Rule,
    RuleResult,
    Verdict,
    check,
    check_contract,
    contract_rules,
    differences,
    landing_rules,
    reasons_sql,
    refuse_broken,
    refuse_share,
)
from daybook.sources import Entity, Source, load_source

PRODUCTS = load_table("silver.products")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDBEngine:
    monkeypatch.chdir(tmp_path)
    return DuckDBEngine(Lake(str(tmp_path / "lake")), "Europe/Berlin")


@pytest.fixture
def source() -> Source:
    """A source whose files write ``n/a`` for no value."""
    return load_source("demo").model_copy(update={"null_values": ["n/a"]})


def entity(**columns: dict[str, Any]) -> Entity:
    return Entity.model_validate({"files": "rows.csv", "columns": columns})


def land(engine: DuckDBEngine, rows: list[dict[str, Optional[str]]]) -> None:
    """Make rows of text queryable as ``landed``, with no problem unless a row says so."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in [*names, "_problem"]}
    engine.register("landed", pa.table(columns))


def products(*keys: str, **others: Any) -> pa.Table:
    rows = [
        {"product_id": key, "version_at": 0, "landed_on": 0, **{name: values[number] for name, values in others.items()}}
        for number, key in enumerate(keys)
    ]
    return pa.Table.from_pylist(rows, schema=PRODUCTS.arrow_schema)


# Rules of landing entities


@pytest.mark.parametrize(
    ("column", "rule", "breaking", "fit"),
    [
        ({"required": True}, "value is present", ["", "  ", None, "n/a"], ["x", "0", "null"]),
        ({"type": "integer"}, "value is an integer", ["2.7", "two", "1e3", "1 000"], ["2", " -3 ", "17850.0", "", "n/a", None]),
        ({"type": "decimal"}, "value is a decimal", ["1e3", "12,50", "1.23456", "EUR 1"], ["12.5", "-.5", "7", "1.2300", None]),
        ({"type": "decimal", "decimal_comma": True}, "value is a decimal", ["1,2,3", "x"], ["1.234,50", "7"]),
        ({"type": "date"}, "value is a date", ["2025-02-30", "soon"], ["2025-02-28", ""]),
        ({"type": "timestamp"}, "value is a timestamp", ["2025-02-28 25:00", "noon"], ["2025-02-28 23:00:01", None]),
        ({"type": "date", "format": "%d.%m.%Y"}, "value is a date", ["2025-02-28", "31.02.2025"], ["28.02.2025"]),
        ({"type": "boolean"}, "value is a boolean", ["maybe"], ["true", "false", ""]),
        ({"accepted": ["paid", "it's"]}, "value is an accepted value", ["Paid", "unpaid"], ["paid", " it's ", "", None]),
        ({"type": "integer", "minimum": 1}, "value is at least 1", ["0", "-5"], ["1", "2", "x", None]),
        ({"type": "decimal", "minimum": 0.5}, "value is at least 0.5", ["0.4999"], ["0.5", "0.50"]),
        ({"type": "integer", "maximum": 5}, "value is at most 5", ["6"], ["5", "-6", "x", ""]),
        ({"type": "integer", "maximum": 1234567}, "value is at most 1234567", ["1234568"], ["1234567"]),
    ],
)
def test_a_rule_finds_the_rows_that_break_it_and_no_others(
    engine: DuckDBEngine, source: Source, column: dict[str, Any], rule: str, breaking: list[Any], fit: list[Any]
) -> None:
    land(engine, [{"value": text} for text in breaking + fit])
    rules = {each.name: each for each in landing_rules(source, entity(value=column))}
    found = engine.rows(f"SELECT value FROM landed WHERE {rules[rule].failing}")
    assert {row[0] for row in found} == set(breaking)


def test_a_column_that_declares_nothing_has_no_rule(source: Source) -> None:
    assert [rule.name for rule in landing_rules(source, entity(value={}))] == ["row splits into the header's columns"]


def test_a_row_that_does_not_split_breaks_that_rule_alone(engine: DuckDBEngine, source: Source) -> None:
    rules = landing_rules(source, entity(value={"type": "integer", "required": True, "minimum": 1, "accepted": ["7"]}))
    land(engine, [{"value": None, "_problem": "3 fields where the header has 1"}, {"value": "7"}])
    broken = {each.rule: each.failing for each in check(engine, "landed", rules, "orders") if each.failing}
    assert broken == {"row splits into the header's columns": 1}


def test_a_text_that_does_not_fit_its_type_breaks_no_bound(engine: DuckDBEngine, source: Source) -> None:
    rules = landing_rules(source, entity(value={"type": "integer", "minimum": 1, "maximum": 5}))
    land(engine, [{"value": "many"}])
    assert [each.rule for each in check(engine, "landed", rules, "orders") if each.failing] == ["value is an integer"]


def test_a_column_name_with_quotes_is_checked_like_any_other(engine: DuckDBEngine, source: Source) -> None:
    land(engine, [{"size 5\" 'n": ""}, {"size 5\" 'n": "x"}])
    rules = landing_rules(source, entity(**{"size 5\" 'n": {"required": True}}))
    assert [each.failing for each in check(engine, "landed", rules, "nails")] == [0, 1]
    assert engine.rows(f"SELECT {reasons_sql(rules)} FROM landed") == [("size 5\" 'n is present",), ("",)]


# Counting and reasons


def test_a_check_says_what_was_checked_and_how_much_fails(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"n": [1, 2, 3, None]}))
    rules = [Rule("n is small", "n > 1"), Rule("n is present", "n IS NULL")]
    assert check(engine, "numbers", rules, "shop.numbers") == [
        RuleResult("shop.numbers", "n is small", 4, 2),
        RuleResult("shop.numbers", "n is present", 4, 1),
    ]


def test_all_rules_are_counted_in_one_query(engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.register("numbers", pa.table({"n": [1, 2]}))
    asked: list[str] = []
    query = engine.query
    monkeypatch.setattr(engine, "query", lambda sql: asked.append(sql) or query(sql))
    check(engine, "numbers", [Rule(f"n is not {number}", f"n = {number}") for number in range(20)], "numbers")
    assert len(asked) == 1


def test_a_check_of_no_rows_finds_nothing(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"n": pa.array([], pa.int64())}))
    (result,) = check(engine, "numbers", [Rule("n is small", "n > 1")], "numbers")
    assert (result.checked, result.failing, result.share) == (0, 0, 0.0)


def test_the_share_is_of_the_rows_checked() -> None:
    assert RuleResult("orders", "a rule", checked=8, failing=2).share == 0.25


def test_reasons_name_every_rule_that_a_row_breaks(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"n": [1, 5, 9, None]}))
    rules = [Rule("n is below 4", "n >= 4"), Rule("n isn't 9; ever", "n = 9")]
    found = engine.rows(f"SELECT n, {reasons_sql(rules)} FROM numbers ORDER BY n")
    assert found == [(1, ""), (5, "n is below 4"), (9, "n is below 4; n isn't 9; ever"), (None, "")]


# Contracts


def test_the_rules_of_a_contract_are_its_required_columns() -> None:
    assert [rule.name for rule in contract_rules(PRODUCTS)] == [f"{name} is present" for name in PRODUCTS.required]
    assert "product_id" in PRODUCTS.required


def test_rows_that_keep_a_contract_break_no_rule(engine: DuckDBEngine) -> None:
    engine.register("new", products("a", "b"))
    results = check_contract(engine, "new", PRODUCTS)
    assert {each.rule: each.failing for each in results if each.failing} == {}
    assert results[-1] == RuleResult("silver.products", "(product_id) is unique", 2, 0)


def test_nulls_in_required_columns_are_counted(engine: DuckDBEngine) -> None:
    engine.register("new", products("a", "b", version_at=[None, 0]))
    assert {each.rule: each.failing for each in check_contract(engine, "new", PRODUCTS) if each.failing} == {
        "version_at is present": 1
    }


def test_rows_beyond_the_first_of_a_key_are_counted(engine: DuckDBEngine) -> None:
    engine.register("new", products("a", "a", "a", "b", "b"))
    assert check_contract(engine, "new", PRODUCTS)[-1].failing == 3


def test_a_key_of_several_columns_repeats_only_as_a_whole(engine: DuckDBEngine) -> None:
    payments = load_table("silver.payments")
    rows = [{"order_id": order, "sequence": number} for order, number in [("a", 1), ("a", 2), ("b", 1), ("b", 1)]]
    engine.register("new", pa.Table.from_pylist(rows, schema=payments.arrow_schema))
    assert check_contract(engine, "new", payments)[-1] == RuleResult("silver.payments", "(order_id, sequence) is unique", 4, 1)


def test_a_null_key_is_present_in_no_row(engine: DuckDBEngine) -> None:
    engine.register("new", products(*[None, None, "a"]))  # type: ignore[list-item]
    broken = {each.rule: each.failing for each in check_contract(engine, "new", PRODUCTS) if each.failing}
    assert broken == {"product_id is present": 2, "(product_id) is unique": 1}


# Verdicts


def test_a_verdict_passes_until_there_is_a_reason() -> None:
    assert Verdict().passed
    assert not Verdict(["because"]).passed


def test_broken_rules_are_refused_with_table_count_and_rule() -> None:
    results = [
        RuleResult("silver.orders", "status is present", 5000, 1200),
        RuleResult("silver.orders", "order_id is present", 5000, 0),
    ]
    assert refuse_broken(results).reasons == ["silver.orders: 1,200 rows break 'status is present'"]
    assert refuse_broken(results[1:]).passed


@pytest.mark.parametrize(
    ("landed", "rejected", "passes"),
    [
        (1000, 0, True),
        (1000, 50, True),
        (1000, 51, False),
        (10, 5, True),  # so few never stop a day
        (10, 6, False),
        (5, 5, True),
        (0, 0, True),
    ],
)
def test_too_large_a_share_is_refused_beyond_a_few_rows(landed: int, rejected: int, passes: bool) -> None:
    assert refuse_share("orders", landed, rejected, most=0.05, tolerated=5).passed is passes


def test_a_refused_share_says_what_was_rejected_and_what_is_allowed() -> None:
    verdict = refuse_share("orders", 2000, 1500, most=0.05, tolerated=5)
    assert verdict.reasons == ["orders: 1,500 of 2,000 rows (75.0%) are rejected, more than 5.0%"]


def test_figures_that_differ_are_refused_with_both_sides() -> None:
    agree = {"daily_sales.orders": (7, 7), "daily_sales.net_revenue": (Decimal("1.50"), Decimal("1.5000"))}
    assert differences(agree).passed
    assert differences({**agree, "daily_sales.units": (3, 4)}).reasons == ["daily_sales.units: 3 where silver gives 4"]


def test_a_status_that_is_not_in_the_contract_breaks_its_rule(engine: DuckDBEngine) -> None:
    orders = load_table("silver.orders")
    engine.register("new_orders", pa.table({"status": ["delivered", "canceled", "refunded"]}))
    (rule,) = [each for each in contract_rules(orders) if each.name == "status is a valid value"]
    assert engine.rows(f"SELECT status FROM new_orders WHERE {rule.failing} ORDER BY status") == [("canceled",), ("refunded",)]
