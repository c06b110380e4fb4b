"""Test that SQLGlot translates every query of a rule to Spark, without functions of DuckDB only."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from daybook.contracts import load_tables
from daybook.quality.checks import counting_sql, failing_sql
from daybook.quality.rules import Rule, landing_rules, table_rules
from daybook.sources.config import list_sources, load_source
from tests.quality.conftest import ADDRESS
from tests.quality.valid_tables import DAY

IN_SPARK = {
    *(
        exp.Abs,
        exp.And,
        exp.Avg,
        exp.Case,
        exp.Cast,
        exp.Coalesce,
        exp.Count,
        exp.CountIf,
        exp.DateDiff,
        exp.If,
        exp.Length,
        exp.Max,
    ),
    *(exp.Min, exp.Nullif, exp.Or, exp.RegexpLike, exp.StartsWith, exp.Sum, exp.TryCast, exp.TsOrDsToDate),
}
"""Functions of rules that Spark 3.5 has, by its reference. Check it before adding one."""


def queries() -> dict[str, str]:
    """Return every query of a table's rules, by name."""
    found = {}
    for source in map(load_source, list_sources()):
        for entity in source.entities:
            name = f"{source.name}.{entity}"
            found.update(_of_rules(name, landing_rules(source, entity), f"typed.{entity}", ADDRESS))
    for layer in ("silver", "gold"):
        for name, contract in load_tables(layer).items():
            found.update(_of_rules(name, table_rules(contract), f"candidate.{contract.name}", contract.key))
    return found


def _of_rules(name: str, rules: list[Rule], relation: str, key: list[str]) -> dict[str, str]:
    counted = [rule for rule in rules if rule.history is None]
    of_rows = [rule for rule in counted if rule.failing]
    return {
        f"{name} counting": counting_sql(relation, counted, run_date=DAY),
        f"{name} failing": failing_sql(relation, of_rows, key),
    }


QUERIES = queries()


def in_spark(sql: str) -> exp.Expression:
    """Return a DuckDB query translated to Spark. Raises if SQLGlot cannot translate it."""
    (spark,) = sqlglot.transpile(sql, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    return sqlglot.parse_one(spark, read="spark")


@pytest.mark.parametrize("name", QUERIES)
def test_rule_queries_translate_to_spark(name: str) -> None:
    functions = {type(each) for each in in_spark(QUERIES[name]).find_all(exp.Func)}
    # SQLGlot passes an unknown function on unchanged, as Anonymous.
    assert functions <= IN_SPARK


def test_duckdb_only_function_is_detected() -> None:
    parsed = in_spark("SELECT count(*) FILTER (WHERE damerau_levenshtein(status, 'paid') = 1) FROM orders")
    assert exp.Anonymous in {type(each) for each in parsed.find_all(exp.Func)}


def test_every_contract_has_queries() -> None:
    tables = sum(len(load_source(name).entities) for name in list_sources())
    assert len(QUERIES) == 2 * (tables + len(load_tables("silver")) + len(load_tables("gold")))
