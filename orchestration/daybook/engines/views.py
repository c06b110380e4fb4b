"""What cells and ``daybook sql`` read: the tables of another engine, raw rows with pseudonyms in place of restricted values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, Optional

import sqlglot
from sqlglot import exp

from daybook.contracts import load_tables
from daybook.contracts.columns import column_key
from daybook.engines.duckdb import DuckDBEngine, TextFunction
from daybook.errors import SqlError
from daybook.lake.table_properties import RESTRICTED_LAYERS
from daybook.lake.tables import SCHEMAS
from daybook.sources import Source
from daybook.sources.mapping import quote

_ROW_SCHEMAS = ("landed", "typed", "rejected")
"""Schemas of tables with an entity's raw rows, besides those of the lake. Accepted rows have the bare name of the entity."""
_MAPPED_SCHEMA = "mapped"
_TECHNICAL_COLUMNS = {"_source_file", "_row_number", "_run_id", "run_date", "_copy", "_waived", "_reasons"}
"""Technical columns that hold no text of a row. ``_raw``, ``_problem`` and ``_text_…`` can."""
_RELEASE_COLUMNS = {"entity", "digest", "waived", "released_by", "released_at"}
"""Columns of ``quarantine.releases`` besides the repairs and the reason, which people write."""
_ERASED_MARK = r"\[erased(:[0-9a-f]{12})?\]"
"""What ``daybook.privacy.erasure.masking`` puts in place of a value; no more than that is shown."""


class ViewEngine(DuckDBEngine):
    """An engine that reads the tables of another, ``tables``, through views. What cells define belongs to it alone.

    In raw rows every column is a pseudonym which the landing contract does not declare as free of personal data. NULL, the
    empty text and the marks of erased values stay. ``tables`` has bound nothing yet. ``pseudonyms`` returns the SQL function
    ``pseudonym`` when the first view needs it; None if ``tables`` has it already.
    """

    catalog = "memory"

    def __init__(self, tables: DuckDBEngine, source: Source, pseudonyms: Optional[Callable[[], TextFunction]] = None) -> None:
        self.tables = tables
        self._source = source
        self._pseudonyms = pseudonyms
        self._open(tables.lake, tables.connection.cursor())
        tables._open_connections.append(self._connection)
        tables._change_listeners.append(self._forget)
        self._shown: set[str] = set()
        """Names that are views of ``tables``."""

    def define(self, name: str, sql: str) -> None:
        """Give a query a name, which must not be one that tables behind the views can have."""
        _require_user_name(name)
        super().define(name, sql)

    def _parse(self, sql: str) -> exp.Expression:
        statement = super()._parse(sql)
        for item in statement.find_all(exp.CTE):
            # Outside of its scope such a name would mean the table behind a view.
            _require_user_name(item.alias)
        return statement

    def refresh(self, name: str) -> None:
        """Forget a definition and which version of a table was bound, so that the next query reads the newest."""
        super().refresh(name)
        self.tables.refresh(name)

    def names(self) -> list[str]:
        """Return every table and view that a query can name."""
        return sorted({*(name for name in self.tables.names() if self._is_visible(name)), *self._bound})

    def _forget(self, name: str) -> None:
        """Drop the view of a table that has changed. What cells define under that name stays."""
        if name in self._shown:
            super().refresh(name)

    def _invalidate(self, changed: str) -> None:
        self._shown.discard(changed)
        super()._invalidate(changed)

    def _rows_kept(self, name: str) -> int:
        return self.tables._rows_kept(name) if name in self._shown else super()._rows_kept(name)

    def _bind_table(self, name: str) -> None:
        if not self._is_visible(name):
            self._raise_unknown_table(name)
        found = self.tables.query(f"SELECT * FROM {name} LIMIT 0").columns
        restricted = restricted_columns(self._source, name, found)
        if restricted and self._pseudonyms is not None:
            self.add_text_function("pseudonym", self._pseudonyms())
            self._pseudonyms = None
        columns = ", ".join(_pseudonym_sql(each) if each in restricted else quote(each) for each in found)
        raw = ".".join(quote(part) for part in name.split("."))
        raw = f"{self.tables.catalog}.{raw}" if "." in name else f"{self.tables.catalog}.main.{raw}"
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT {columns if restricted else '*'} FROM {raw}")
        self._bound.add(name)
        self._shown.add(name)

    def _is_visible(self, name: str) -> bool:
        """Return whether cells may read a table of ``tables``: one of the lake, or with the rows of an entity or a mapping."""
        layer, _, table = name.rpartition(".")
        if layer in ("", *_ROW_SCHEMAS):
            return table in self._source.entities or name == "landed.primary"
        return layer == _MAPPED_SCHEMA or layer in SCHEMAS


def _require_user_name(name: str) -> None:
    """Raise ``SqlError`` for a name that begins as those of tables behind the views do."""
    if name.startswith("_"):
        raise SqlError(f"The name {name} begins with _, as only names of Daybook's own tables do; give the query another name.")


def restricted_columns(source: Source, name: str, columns: Iterable[str]) -> set[str]:
    """Return those columns of a table that are pseudonyms in views.

    Of raw rows these are all but the technical ones and those that the landing contract declares and does not restrict: nobody
    has said of the others what they hold. Of mapped rows these are texts that a mapping takes from a restricted column.
    """
    layer, _, table = name.rpartition(".")
    if layer == _MAPPED_SCHEMA:
        return _find_restricted_mappings(source, table)
    if layer and layer not in (*RESTRICTED_LAYERS, *_ROW_SCHEMAS):
        return set()
    entity = source.entities.get(source.primary if name == "landed.primary" else table)
    if entity is None:
        plain = _RELEASE_COLUMNS if table == "releases" else set()
    else:
        declared = [column_key(each) for each, column in entity.columns.items() if not column.pii]
        plain = {*declared, *(f"_clock_{each}" for each in declared)}
    return {each for each in columns if column_key(each) not in plain | _TECHNICAL_COLUMNS}


def _find_restricted_mappings(source: Source, table: str) -> set[str]:
    """Return the text columns of a canonical table, without its pseudonyms, whose mapping reads a restricted column."""
    contract = load_tables("silver").get(f"silver.{table}")
    if contract is None:
        return set()
    personal = {entity: {column_key(each) for each in columns} for entity, columns in source.personal_columns().items()}
    anywhere = set().union(*personal.values())
    found = set()
    for select in source.mapping.get(table, []):
        for name in contract.columns:
            given = select.expression(name)
            if given is None or name in contract.pseudonyms or contract.type_of(name) != "VARCHAR":
                continue
            # A column without a table can be of a joined one, and another table is a join's alias.
            own = "" if select.join else select.from_
            read = sqlglot.parse_one(given, read="duckdb").find_all(exp.Column)
            if any(column_key(each.name) in personal.get(each.table or own, anywhere) for each in read):
                found.add(name)
    return found


def _pseudonym_sql(column: str) -> str:
    text = f"CAST({quote(column)} AS VARCHAR)"
    stays = f"{text} = '' OR regexp_full_match({text}, '{_ERASED_MARK}')"
    return f"CASE WHEN {stays} THEN {text} ELSE pseudonym({text}) END AS {quote(column)}"
