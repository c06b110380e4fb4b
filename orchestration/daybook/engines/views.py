"""Show cells and ``daybook sql`` the tables of another engine, with pseudonyms in place of restricted values of raw rows."""

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
"""Columns of ``quarantine.releases`` without free text. Its other columns are the repairs and the reason."""
_ERASED_MARK = r"\[erased(:[0-9a-f]{12})?\]"
"""A mark that ``daybook.privacy.erasure.masking`` puts in place of a value."""


class ViewEngine(DuckDBEngine):
    """An engine that reads the tables of another engine through views. Names that cells define exist in this engine only.

    Raw rows have a pseudonym in every column that the landing contract does not declare free of personal data. NULL, the empty
    text and the marks of erased values stay.

    Parameters
    ----------
    tables
        The other engine. It must not have bound a table yet.
    source
        The source whose landing contract applies.
    pseudonyms
        Returns the SQL function ``pseudonym``; called when the first view needs it. None if ``tables`` has the function.
    """

    catalog = "memory"

    def __init__(self, tables: DuckDBEngine, source: Source, pseudonyms: Optional[Callable[[], TextFunction]] = None) -> None:
        self.tables = tables
        self._source = source
        self._pseudonyms = pseudonyms
        self._open(tables.lake, tables.connection.cursor())
        tables._open_connections.append(self._connection)
        tables._change_listeners.append(self._drop_view)
        self._visible: set[str] = set()
        """Names of views of the other engine's tables."""

    def define(self, name: str, sql: str) -> None:
        """Define a name for a query. Names that the other engine's own tables can have are an error."""
        _require_user_name(name)
        super().define(name, sql)

    def _parse(self, sql: str) -> exp.Expression:
        statement = super()._parse(sql)
        for item in statement.find_all(exp.CTE):
            # Outside of its scope such a name would read the table behind a view.
            _require_user_name(item.alias)
        return statement

    def refresh(self, name: str) -> None:
        """Make the next query read the newest version of a table; remove a definition of that name."""
        super().refresh(name)
        self.tables.refresh(name)

    def names(self) -> list[str]:
        """Return every table and view that a query can name."""
        return sorted({*(name for name in self.tables.names() if self._is_visible(name)), *self._bound})

    def _drop_view(self, name: str) -> None:
        """Drop the view of a table that has changed. A definition of that name by a cell stays."""
        if name in self._visible:
            super().refresh(name)

    def _invalidate(self, changed: str) -> None:
        self._visible.discard(changed)
        super()._invalidate(changed)

    def _bind_table(self, name: str) -> None:
        if not self._is_visible(name):
            self._raise_unknown_table(name)
        found = self.tables.query(f"SELECT * FROM {name} LIMIT 0").columns
        restricted = restricted_columns(self._source, name, found)
        if restricted and self._pseudonyms is not None:
            self.add_text_function("pseudonym", self._pseudonyms())
            self._pseudonyms = None
        columns = ", ".join(_pseudonym_sql(each) if each in restricted else quote(each) for each in found)
        raw = ".".join(quote(part) for part in (name if "." in name else f"main.{name}").split("."))
        self._replace_view(name, f"SELECT {columns if restricted else '*'} FROM {self.tables.catalog}.{raw}")
        self._visible.add(name)

    def _is_visible(self, name: str) -> bool:
        """Return whether cells may read a table of the other engine: of the lake, or with rows of an entity or a mapping."""
        layer, _, table = name.rpartition(".")
        if layer in ("", *_ROW_SCHEMAS):
            return table in self._source.entities or name == "landed.primary"
        return layer == _MAPPED_SCHEMA or layer in SCHEMAS


def _require_user_name(name: str) -> None:
    """Raise ``SqlError`` for a name that begins as those of the other engine's own tables."""
    if name.startswith("_"):
        raise SqlError(
            f"The name {name} begins with _, which is reserved for Daybook's own tables; give the query another name."
        )


def restricted_columns(source: Source, name: str, columns: Iterable[str]) -> set[str]:
    """Return the columns of a table that views show as pseudonyms.

    Raw rows: all columns except the technical ones and those that the landing contract declares without a PII class. An
    undeclared column may hold anything. Mapped rows: texts that the mapping takes from a restricted column.
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
            # With a join, a column without a table may belong to either table, and a table may be an alias.
            own = "" if select.join else select.from_
            read = sqlglot.parse_one(given, read="duckdb").find_all(exp.Column)
            if any(column_key(each.name) in personal.get(each.table or own, anywhere) for each in read):
                found.add(name)
    return found


def _pseudonym_sql(column: str) -> str:
    text = f"CAST({quote(column)} AS VARCHAR)"
    shown = f"{text} = '' OR regexp_full_match({text}, '{_ERASED_MARK}')"
    return f"CASE WHEN {shown} THEN {text} ELSE pseudonym({text}) END AS {quote(column)}"
