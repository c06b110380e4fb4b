"""Bind the SQL of a source's mapping against empty entities, to find errors without data."""

from __future__ import annotations

from datetime import date
from typing import Callable, Optional, Protocol

from daybook.contracts import load_tables
from daybook.errors import EngineError, SourceError, SqlError
from daybook.sources.config import Source, row_position
from daybook.sources.mapping import find_invalid_expression, mapped_sql, newest_files_sql, quote, typed_sql


class _Engine(Protocol):
    def define(self, name: str, sql: str) -> None: ...
    def add_text_function(self, name: str, function: Callable[[list[Optional[str]]], list[Optional[str]]]) -> None: ...
    def query(self, sql: str) -> object: ...


def dry_run_mapping(source: Source, engine: _Engine) -> None:
    """Bind every SELECT of the mapping; ``SourceError`` names the file, the table and what SQL says is wrong."""
    engine.add_text_function("pseudonym", lambda texts: texts)
    for name, entity in source.entities.items():
        landed = [f"CAST(NULL AS VARCHAR) AS {quote(column)}" for column in entity.columns]
        typed = [f"{typed_sql(column, spec, source.null_values)} AS {quote(column)}" for column, spec in entity.columns.items()]
        typed += ["CAST(NULL AS VARCHAR) AS _source_file", "CAST(NULL AS BIGINT) AS _row_number"]
        try:
            engine.define(name, f"SELECT {', '.join(typed)} FROM (SELECT {', '.join(landed)}) AS landed WHERE 1 = 0")
        except (SqlError, EngineError) as error:
            raise SourceError(f"params/sources/{source.name}.yaml: entity {name!r}: {error}") from None
    for name, person in source.people.items():
        try:
            engine.query(f"SELECT CAST({person} AS VARCHAR) FROM {quote(name)}")
        except (SqlError, EngineError) as error:
            raise SourceError(f"params/sources/{source.name}.yaml: people of {name!r}: {error}") from None
    for name in load_tables("silver"):
        table = name.split(".")[1]
        # Checked first: in the whole query, "quantity, 1" would be two columns, of which the second gets the name.
        wrong = find_invalid_expression(source, table)
        try:
            if wrong is None:
                engine.query(mapped_sql(source, table, date(2000, 1, 1)))
        except (SqlError, EngineError) as error:
            wrong = f"mapping of {table!r}: {error}"
        if wrong:
            raise SourceError(f"params/sources/{source.name}.yaml: {wrong.rstrip('.')}.") from None
    for name in source.flat_entities:
        try:
            engine.query(newest_files_sql(source, name, ["a file"], date(2000, 1, 1)))
        except SqlError as error:
            position = row_position(source.flat_table)
            raise SourceError(
                f"params/sources/{source.name}.yaml: mapping of {source.flat_table!r} from {name!r} gives no "
                f"{position.column}, so its {position.within} must be an expression over a single row: {error}"
            ) from None
