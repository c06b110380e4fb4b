"""Test that the rules of a contract find exactly the rows that break them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pytest

from daybook.contracts import Table, load_table
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError
from daybook.lake.tables import Lake
from daybook.quality.rules import landing_rules, table_rules
from daybook.sources import Column, Entity, Source, load_source
from daybook.sources.mapping import typed_select

LOGICAL = {"text": "string", "decimal": "number"}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDBEngine:
    monkeypatch.chdir(tmp_path)
    return DuckDBEngine(Lake(str(tmp_path / "lake")), "Europe/Berlin")


def source_of(read_as: dict[str, Any], demands: dict[str, Any], *, name: str = "value", table: Any = None) -> Source:
    """Return a source whose entity ``rows`` has one column with the given specification. ``n/a`` is null."""
    kind = LOGICAL.get(read_as.get("type", "text"), read_as.get("type", "text"))
    item = {"name": name, "logicalType": kind, "physicalType": "VARCHAR", **demands}
    contract = Table.model_validate({"name": "rows", "properties": [item], **(table or {})})
    contract = contract.model_copy(update={"layer": "landing"})
    entity = Entity(files="rows.csv", columns={name: Column(**read_as)})
    demo = load_source("demo")
    return demo.model_copy(update={"null_values": ["n/a"], "entities": {"rows": entity}, "contracts": {"rows": contract}})


def land(
    engine: DuckDBEngine, source: Source, texts: list[Optional[str]], problems: Optional[list[Optional[str]]] = None
) -> None:
    """Load texts as the typed entity ``rows``."""
    (name,) = source.entities["rows"].columns
    rows = {
        name: pa.array(texts, pa.string()),
        "_source_file": pa.array(["rows.csv"] * len(texts), pa.string()),
        "_row_number": pa.array(range(1, len(texts) + 1), pa.int64()),
        "_problem": pa.array(problems or [None] * len(texts), pa.string()),
        "_copy": pa.array([1] * len(texts), pa.int64()),
        "_waived": pa.array([""] * len(texts), pa.string()),
    }
    engine.register("landed", pa.table(rows))
    engine.define("rows", typed_select(source, "rows", "landed"))


INTEGER, DECIMAL = {"type": "integer"}, {"type": "decimal"}


@pytest.mark.parametrize(
    ("read_as", "demands", "rule", "breaking", "fit"),
    [
        ({}, {"required": True}, "value is present", ["", "  ", None, "n/a"], ["x", "0", "null"]),
        (INTEGER, {"required": True}, "value is present", ["", None], ["7", "two"]),
        (INTEGER, {}, "value is an integer", ["2.7", "two", "1e3", "1 000"], ["2", " -3 ", "17850.0", "", "n/a", None]),
        (DECIMAL, {}, "value is a decimal", ["1e3", "12,50", "1.23456", "EUR 1"], ["12.5", "-.5", "7", "1.2300", None]),
        ({**DECIMAL, "decimal_comma": True}, {}, "value is a decimal", ["1,2,3", "x"], ["1.234,50", "7"]),
        ({"type": "date"}, {}, "value is a date", ["2025-02-30", "soon"], ["2025-02-28", ""]),
        ({"type": "timestamp"}, {}, "value is a timestamp", ["2025-02-28 25:00", "noon"], ["2025-02-28 23:00:01", None]),
        ({"type": "date", "format": "%d.%m.%Y"}, {}, "value is a date", ["2025-02-28", "31.02.2025"], ["28.02.2025"]),
        (
            {"type": "timestamp"},
            {},
            *(
                "value has a known time zone",
                ["2025-02-28 10:00 Uhr", "2025-02-28 10:00:00 GMT+2"],
                ["noon", "2025-02-28 1:00 PM"],
            ),
        ),
        (INTEGER, {}, "value has at most 18 digits", ["9" * 20, "-" + "9" * 40], ["9" * 18, "x" * 30, "1" + "0" * 18]),
        (
            DECIMAL,
            {},
            *("value has at most 14 digits before the point", ["9" * 15, "9" * 15 + ".50"], ["9" * 14 + ".9999", "1.23456"]),
        ),
        ({"type": "timestamp"}, {}, "value is at least 1900-01-01", ["1899-12-31 23:59:59"], ["1900-01-01", None, "infinity"]),
        ({"type": "timestamp"}, {}, "value is less than 2100-01-01", ["2100-01-01"], ["2099-12-31 23:59:59"]),
        ({"type": "date"}, {}, "value is less than 2100-01-01", ["2100-01-01", "9999-12-31"], ["2099-12-31"]),
        (
            {"type": "date"},
            {"logicalTypeOptions": {"minimum": "1800-01-01"}},
            *("value is at least 1800-01-01", ["1799-12-31"], ["1850-01-01"]),
        ),
        ({"type": "boolean"}, {}, "value is a boolean", ["maybe"], ["true", "false", ""]),
        (
            {},
            {"quality": [{"metric": "invalidValues", "mustBe": 0, "arguments": {"validValues": ["paid", "it's"]}}]},
            *("value is an accepted value", ["Paid", "unpaid"], ["paid", " it's ", "", None]),
        ),
        (
            {},
            {"quality": [{"metric": "invalidValues", "mustBe": 0, "arguments": {"pattern": "[A-Z]{2}"}}]},
            *("value is a valid value", ["de", "DEU"], ["DE", None]),
        ),
        (
            {},
            {"quality": [{"metric": "missingValues", "mustBe": 0, "arguments": {"missingValues": [None, "-"]}}]},
            *("value is given", ["-", None, ""], ["x"]),
        ),
        (INTEGER, {"logicalTypeOptions": {"minimum": 1}}, "value is at least 1", ["0", "-5"], ["1", "2", "x", None]),
        (DECIMAL, {"logicalTypeOptions": {"minimum": 0.5}}, "value is at least 0.5", ["0.4999"], ["0.5", "0.50"]),
        (INTEGER, {"logicalTypeOptions": {"maximum": 5}}, "value is at most 5", ["6"], ["5", "-6", "x", ""]),
        (INTEGER, {"logicalTypeOptions": {"maximum": 1234567}}, "value is at most 1,234,567", ["1234568"], ["1234567"]),
        (DECIMAL, {"logicalTypeOptions": {"exclusiveMinimum": 0}}, "value is more than 0", ["0", "-1"], ["0.01"]),
        (DECIMAL, {"logicalTypeOptions": {"exclusiveMaximum": 9}}, "value is less than 9", ["9", "10"], ["8.9999"]),
        (
            {"type": "date"},
            {"logicalTypeOptions": {"minimum": "2020-01-01"}},
            *("value is at least 2020-01-01", ["2019-12-31"], ["2020-01-01", "soon"]),
        ),
        ({}, {"logicalTypeOptions": {"minLength": 2}}, "value has at least 2 characters", ["x"], ["xy", None]),
        ({}, {"logicalTypeOptions": {"maxLength": 2}}, "value has at most 2 characters", ["xyz"], ["xy", None]),
        ({}, {"logicalTypeOptions": {"pattern": "a|b"}}, "value fits its pattern", ["ab", "xa", "c"], ["a", "b", None]),
    ],
)
def test_rule_finds_exactly_the_failing_rows(
    engine: DuckDBEngine,
    read_as: dict[str, Any],
    demands: dict[str, Any],
    rule: str,
    breaking: list[Optional[str]],
    fit: list[Optional[str]],
) -> None:
    source = source_of(read_as, demands)
    land(engine, source, breaking + fit)
    rules = {each.name: each for each in landing_rules(source, "rows")}
    found = engine.rows(f"SELECT _row_number FROM rows WHERE {rules[rule].failing} ORDER BY 1")
    assert [row[0] for row in found] == list(range(1, len(breaking) + 1))


def test_unconstrained_column_has_no_rule() -> None:
    assert [rule.name for rule in landing_rules(source_of({}, {}), "rows")] == ["row splits into the header's columns"]


def test_malformed_row_breaks_only_the_split_rule(engine: DuckDBEngine) -> None:
    source = source_of(INTEGER, {"required": True, "logicalTypeOptions": {"minimum": 1}})
    land(engine, source, [None, "7"], ["3 fields where the header has 1", None])
    broken = [
        each.name
        for each in landing_rules(source, "rows")
        if engine.fetch_row(f"SELECT count(*) FROM rows WHERE {each.failing}") != (0,)
    ]
    assert broken == ["row splits into the header's columns"]


def test_column_name_with_quotes_is_checked(engine: DuckDBEngine) -> None:
    source = source_of({}, {"required": True}, name="size 5\" 'n")
    land(engine, source, ["", "x"])
    rule = landing_rules(source, "rows")[-1]
    assert rule.name == "size 5\" 'n is present"
    assert engine.rows(f"SELECT _row_number FROM rows WHERE {rule.failing}") == [(1,)]


def sql_rule(query: str, **fields: Any) -> dict[str, Any]:
    return {"quality": [{"type": "sql", "name": "it holds", "query": query, **(fields or {"mustBe": 0})}]}


def test_sql_count_becomes_a_row_rule() -> None:
    source = source_of(INTEGER, {}, table=sql_rule("select count(*) from ${object} where value > 5 or value < 0"))
    rule = landing_rules(source, "rows")[-1]
    assert rule.is_per_row
    assert "value > 5 OR value < 0" in rule.failing


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(DISTINCT value) FROM ${object} WHERE value > 5",
        "SELECT COUNT(*) FROM ${object}",
        "SELECT COUNT(*) FROM ${object} AS a JOIN ${object} AS b ON a.value = b.value WHERE a.value > 5",
        "SELECT COUNT(*) FROM ${object} WHERE value > 5 GROUP BY value",
        "SELECT MAX(value) FROM ${object} WHERE value > 5",
        "SELECT COUNT(*) FROM ${object} AS o WHERE o.value > 5",
        "SELECT COUNT(*) FROM ${object} WHERE value > 5 AND DATE '${run_date}' > DATE '2020-01-01'",
    ],
)
def test_other_queries_become_table_rules(query: str) -> None:
    rule = landing_rules(source_of(INTEGER, {}, table=sql_rule(query)), "rows")[-1]
    assert (rule.failing, rule.value, rule.is_per_row) == ("", f"({query})", False)


def test_share_of_rows_is_not_a_row_rule() -> None:
    query = "SELECT COUNT(*) FROM ${object} WHERE value > 5"
    rule = landing_rules(source_of(INTEGER, {}, table=sql_rule(query, mustBeLessThan=10, unit="percent")), "rows")[-1]
    assert rule.failing
    assert not rule.is_per_row


def test_minimum_count_is_a_table_rule() -> None:
    query = "SELECT COUNT(*) FROM ${object} WHERE value > 5"
    rule = landing_rules(source_of(INTEGER, {}, table=sql_rule(query, mustBeGreaterOrEqualTo=1)), "rows")[-1]
    assert (rule.failing, rule.is_per_row) == ("", False)


def test_duplicates_are_not_a_row_rule() -> None:
    rule = landing_rules(source_of({}, {}, table={"quality": [{"metric": "duplicateValues", "mustBe": 0}]}), "rows")[-1]
    assert (rule.name, rule.is_per_row) == ("rows stand once", False)


@pytest.mark.parametrize("query", ["SELECT FROM", "DELETE FROM ${object}", "SELECT 1, 2"])
def test_query_that_is_no_select_of_a_number_raises(query: str) -> None:
    with pytest.raises(ContractError, match="key 'schema': rule 'it holds' has a query that"):
        landing_rules(source_of({}, {}, table=sql_rule(query)), "rows")


def test_duplicate_rule_names_raise() -> None:
    valid = {"metric": "invalidValues", "mustBe": 0, "arguments": {"validValues": ["a"]}}
    with pytest.raises(ContractError, match="key 'schema': 'rows' has two rules named"):
        landing_rules(source_of({}, {"quality": [valid, valid]}), "rows")


def test_keys_and_required_columns_cannot_be_waived() -> None:
    rules = {rule.name: rule for rule in table_rules(load_table("silver.order_items"))}
    assert not rules["(order_id, line_number) is unique"].waivable
    assert not rules["quantity is present"].waivable
    assert rules["a returned line has a negative quantity"].waivable


def test_foreign_key_warns_by_default() -> None:
    silver = {rule.name: rule for rule in table_rules(load_table("silver.order_items"))}
    gold = {rule.name: rule for rule in table_rules(load_table("gold.category_sales"))}
    assert silver["order_id is among orders"].severity == "warning"
    assert gold["order_date is among daily_sales"].severity == "error"


def test_explicit_bound_replaces_the_default_on_its_side():
    source = source_of({"type": "date"}, {"logicalTypeOptions": {"minimum": "1800-01-01"}})
    bounds = [rule for rule in landing_rules(source, "rows") if " than " in rule.name or "at least" in rule.name]
    assert [(rule.name, rule.default) for rule in bounds] == [
        ("value is at least 1800-01-01", False),
        ("value is less than 2100-01-01", True),
    ]
