"""Validate the SQL of rules by running it on empty tables with the declared columns."""

from __future__ import annotations

from datetime import date

from daybook.contracts import Table
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, EngineError, SqlError
from daybook.quality.checks import counting_sql, failing_sql
from daybook.quality.rules import WHOLE_ROW_CONDITION, Rule, landing_rules, table_rules
from daybook.sources.config import Source
from daybook.sources.mapping import quote, typed_select

_EXAMPLE_DATE = date(2000, 1, 1)


def dry_run_table(table: Table, engine: DuckDBEngine, file: str) -> None:
    """Run every rule of a silver or gold contract. Raises ``ContractError`` with the file and the invalid rule."""
    _dry_run_rules(table_rules(table), table.full_name, table.full_name, table.key, engine, file)


def dry_run_landing(source: Source, engine: DuckDBEngine, file: str) -> None:
    """Run every rule of a source's landing contract. Raises ``ContractError`` with the file and the invalid rule."""
    for name, entity in source.entities.items():
        texts = [f"CAST(NULL AS VARCHAR) AS {quote(column)}" for column in [*entity.columns, "_source_file", "_problem"]]
        technical = "CAST(NULL AS BIGINT) AS _row_number, CAST(NULL AS BIGINT) AS _copy, '' AS _waived"
        empty = f"(SELECT {', '.join(texts)}, {technical} WHERE 1 = 0) AS landed"
        engine.define(f"typed.{name}", typed_select(source, name, empty))
        engine.define(name, f"SELECT * FROM typed.{name} WHERE {WHOLE_ROW_CONDITION}")
    for name in source.entities:
        _dry_run_rules(landing_rules(source, name), f"typed.{name}", name, ["_source_file", "_row_number"], engine, file)


def _dry_run_rules(rules: list[Rule], relation: str, objects: str, key: list[str], engine: DuckDBEngine, file: str) -> None:
    sql_rules = [rule for rule in rules if rule.history is None]
    try:
        _run_rules(sql_rules, relation, objects, key, engine)
    except (SqlError, EngineError):
        for rule in sql_rules:
            try:
                _run_rules([rule], relation, objects, key, engine)
            except (SqlError, EngineError) as error:
                raise ContractError(f"{file}: rule {rule.name!r} cannot be run: {error}") from None
        raise


def _run_rules(rules: list[Rule], relation: str, objects: str, key: list[str], engine: DuckDBEngine) -> None:
    engine.fetch_row(counting_sql(relation, rules, objects=objects, run_date=_EXAMPLE_DATE))
    row_rules = [rule for rule in rules if rule.failing]
    if row_rules:
        engine.rows(failing_sql(relation, row_rules, key))
