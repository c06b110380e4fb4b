"""Run SQL over the lake on one machine with DuckDB.

Every engine has this interface: ``define``, ``materialize``, ``create_table``, ``register``, ``query``, ``arrow``, ``rows``,
``names``, ``refresh``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset
import sqlglot
from sqlglot import exp

from daybook.compatibility import read_batches
from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import column_key, is_plain_name, normalize_column_name
from daybook.engines.memory import connect, memory_limit
from daybook.errors import DaybookError, EngineError, SqlError
from daybook.lake.delta import sequential_dataset, stored_columns
from daybook.lake.schema_evolution import find_contract
from daybook.lake.tables import SCHEMAS, BatchSource, Lake
from daybook.sources.mapping import literal, quote
from daybook.sources.timestamps import list_macro_statements

Query = duckdb.DuckDBPyRelation
TextFunction = Callable[[list[Optional[str]]], list[Optional[str]]]
_BATCH_ROWS = 1 << 11
"""Rows of a batch that is written to a table: deltalake reads about a hundred batches ahead."""
_QUERY_ERRORS = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.NotSupportedError,
    duckdb.DataError,
)
"""Errors of a query or of the values that it reads. All others may be faults of the machine: DuckDB reports a network error
while it reads a table as InvalidInputException."""
_CATALOG = "_raw"
"""The attached database with the tables themselves. The default database has what cells define and see (``views``)."""
_MAX_LISTED_TABLES = 8
"""Largest number of tables that an error about an unknown name lists."""
_TABLE_FUNCTIONS = {"generate_series", "range", "repeat", "unnest"}
"""The table functions that queries may call. Others read files, or tables by names that only the database sees (``query``)."""
_COSTLY_EXPRESSIONS = (exp.Join, exp.Group, exp.Distinct, exp.Order, exp.Window, exp.SetOperation, exp.AggFunc)
"""Expressions that make it worthwhile to keep a query's rows."""


class _Definition(NamedTuple):
    """A named query: its text and its syntax tree."""

    sql: str
    statement: exp.Expression


class DuckDBEngine:
    """One DuckDB connection over a lake. A table keeps the version that was first read.

    Parameters
    ----------
    lake
        The lake whose tables queries can name.
    timezone
        The time zone that timestamps are shown in.
    spill
        The folder for data that does not fit into memory; by default the working folder, which is a stage's scratch folder.
    threads
        The number of threads of queries; by default one for each processor, or fewer if memory is short.
    """

    name = "duckdb"
    catalog = _CATALOG

    def __init__(self, lake: Lake, timezone: str, *, spill: Optional[Path] = None, threads: Optional[int] = None) -> None:
        connection = connect((spill or Path.cwd()) / ".duckdb_tmp", timezone=timezone, threads=threads)
        connection.execute(f"ATTACH ':memory:' AS {_CATALOG}")
        self._open(lake, connection)

    def _open(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self.lake = lake
        self.version = f"duckdb {duckdb.__version__}"
        self._has_memory_limit = memory_limit() is not None
        self._connection = connection
        self._connection.execute(f"USE {self.catalog}")
        self._open_connections = [connection]
        """Connections that rows are registered with: a registration is valid for one connection only."""
        self._change_listeners: list[Callable[[str], None]] = []
        """Functions that are called with each name whose definition changes."""
        for statement in list_macro_statements(f"|{'|'.join(_list_zones())}|"):
            self._connection.execute(statement)
        self._schemas: set[str] = set()
        self._bound: set[str] = set()
        self._defined: dict[str, _Definition] = {}
        self._materialized: dict[str, set[str]] = {}
        """Definitions whose rows are kept, with the names of all tables that they read."""

    def define(self, name: str, sql: str) -> None:
        """Define a name (``silver.orders``, or one without a layer) for a query, which runs when the name is read."""
        if not all(map(is_plain_name, name.split("."))) or name.count(".") > 1:
            raise SqlError(
                f"{name!r} cannot name a query; use letters, digits and _, and no SQL keyword, for example my_orders."
            )
        statement = self._parse(sql)
        if not isinstance(statement, exp.Query):
            raise SqlError(f"Only a SELECT can define {name}; write SELECT * FROM (PIVOT … ON column IN (…) …).")
        if name in self._referenced_tables(statement):
            raise SqlError(f"The query that defines {name} reads {name} itself; define it under another name.")
        self._bind(statement)
        self.create_view(name, sql)
        self._defined[name] = _Definition(sql, statement)

    def materialize(self, name: str) -> int:
        """Run a definition's query once and keep its rows, until its definition or one that it reads changes.

        A query that only selects columns and rows of one table is not kept: it costs little each time. Returns the number of
        rows.
        """
        definition = self._defined[name]
        if name not in self._materialized and definition.statement.find(*_COSTLY_EXPRESSIONS) is not None:
            self._store_rows(name, self._internal_table(name, "materialized"), definition.sql)
            self._materialized[name] = self._referenced_tables(definition.statement)
        return int(self.fetch_row(f"SELECT count(*) FROM {name}")[0])

    def _invalidate(self, changed: str) -> None:
        """Drop the kept rows of a definition that changes, and of those that read it."""
        for call in self._change_listeners:
            call(changed)
        for name, reads in list(self._materialized.items()):
            if name == changed or changed in reads:
                del self._materialized[name]
                self._replace_view(name, self._defined[name].sql)
                self._execute(f"DROP TABLE {self._internal_table(name, 'materialized')}")

    def create_table(self, name: str, sql: str) -> int:
        """Store a query's rows under a name; returns the number of rows.

        DuckDB compresses them and moves what does not fit into memory to disk.
        """
        self._bind(self._parse(sql))
        self._invalidate(name)
        return self._store_rows(name, self._internal_table(name), sql)

    def _store_rows(self, name: str, table: str, sql: str) -> int:
        with _query_errors():
            ((count,),) = self._connection.execute(f"CREATE OR REPLACE TABLE {table} AS {sql}").fetchall()
        self._replace_view(name, f"SELECT * FROM {table}")
        return int(count)

    def register(self, name: str, rows: Any) -> None:
        """Define a name for Arrow data."""
        self._invalidate(name)
        hidden = f"_{name.replace('.', '__')}"
        if self._has_memory_limit and isinstance(rows, pa.dataset.Dataset):
            rows = sequential_dataset(rows)
        for connection in self._open_connections:
            connection.register(hidden, rows)
        self._replace_view(name, f"SELECT * FROM {quote(hidden)}")

    def _internal_table(self, name: str, kind: str = "stored") -> str:
        """Return the table behind a name, with the database's name: another connection may read the view of this table."""
        return f"{self.catalog}.main.{quote('_'.join(('', kind, name.replace('.', '__'))))}"

    def _name_columns(self, name: str, schema: pa.Schema) -> None:
        """Show each column of a lake's table once, with the contract's name, even if it is stored under several names."""
        shown = shown_columns_sql(quote("_" + name.replace(".", "__")), schema, find_contract(name))
        if shown is not None:
            self._replace_view(name, shown)

    def add_text_function(self, name: str, function: TextFunction) -> None:
        """Add a SQL function that maps a text to a text. ``function`` maps a batch of values, in which NULL is None."""

        def mapped(values: pa.ChunkedArray) -> pa.Array:
            return pa.array(function(values.to_pylist()), pa.string())

        # Texts, as all releases of DuckDB take them; 1.2 has classes for them in its stubs.
        kinds: dict[str, Any] = {"return_type": "VARCHAR", "type": "arrow", "null_handling": "special"}
        parameters: list[Any] = ["VARCHAR"]
        self._connection.create_function(name, mapped, parameters, **kinds)

    def query(self, sql: str) -> Query:
        """Return a lazy result with ``.df()``, ``.to_arrow_table()`` and ``.fetchall()``.

        Raises
        ------
        SqlError
            The query is wrong.
        EngineError
            The query failed for another reason.
        """
        sql = self._bind_sql(sql)
        with _query_errors():
            return self._connection.sql(sql)

    def arrow(self, sql: str) -> pa.Table:
        """Return the whole result as an Arrow table."""
        sql = self._bind_sql(sql)
        with _query_errors():
            return self._connection.sql(sql).to_arrow_table()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the whole result as tuples."""
        sql = self._bind_sql(sql)
        with _query_errors():
            return self._connection.execute(sql).fetchall()

    def fetch_row(self, sql: str) -> tuple[Any, ...]:
        """Return the only row of a result."""
        (row,) = self.rows(sql)
        return row

    def range_predicate(self, column: str, sql: str) -> str:
        """Return a condition that is true for all rows whose ``column`` (ids or dates) is in a query's result.

        The condition has literal values, so that files with other values are not read: DuckDB 1.2.2 applies a join's values
        only after it has read the table.
        """
        least, most = self.fetch_row(
            f"SELECT CAST(min({column}) AS VARCHAR), CAST(max({column}) AS VARCHAR) FROM ({sql}) AS asked"
        )
        return "FALSE" if least is None else f"{column} BETWEEN {literal(least)} AND {literal(most)}"

    def is_defined(self, name: str) -> bool:
        """Return whether ``define`` was called with this name."""
        return name in self._defined

    def referenced_tables(self, sql: str) -> list[str]:
        """Return the names of the tables that a query reads."""
        return sorted(self._referenced_tables(self._parse(sql)))

    def names(self) -> list[str]:
        """Return the names of all tables and views that a query can read."""
        return sorted({*self.lake.tables(), *self._bound})

    def refresh(self, name: str) -> None:
        """Make the next query read the newest version of a table; remove a definition of that name."""
        self._invalidate(name)
        self._bound.discard(name)
        self._defined.pop(name, None)

    def _parse(self, sql: str) -> exp.Expression:
        return _parse_statement(sql)

    def _bind_sql(self, sql: str) -> str:
        """Bind the tables that a statement reads; return the SQL to execute."""
        statement = self._parse(sql)
        if isinstance(statement, exp.Show):
            # DuckDB lists only the tables that were read before.
            layer = statement.args.get("from_") or statement.args.get("from")
            shown = f"{layer.name.lower()}." if layer else ""
            names = ", ".join(literal(name) for name in self.names() if name.startswith(shown) and not name.startswith("_"))
            return f"SELECT unnest(CAST([{names}] AS VARCHAR[])) AS name"
        self._bind(statement)
        return _remove_semicolon(sql)

    def _bind(self, statement: exp.Expression) -> None:
        for name in sorted(self._referenced_tables(statement)):
            if name not in self._bound:
                self._bind_table(name)

    def _bind_table(self, name: str) -> None:
        schema = name.split(".")[0]
        if "." not in name or schema not in SCHEMAS:
            self._raise_unknown_table(name)
        rows: Any = self.lake.dataset(name)
        if rows is None:
            contract = load_tables(schema).get(name) if schema in LAYERS else None
            if contract is None:
                self._raise_unknown_table(name)
            else:
                rows = contract.arrow_schema.empty_table()
        self.register(name, rows)
        self._name_columns(name, rows.schema)

    def _referenced_tables(self, statement: exp.Expression) -> set[str]:
        """Return the tables that a query reads, and those that the definitions among them read."""
        named = named_tables(statement)
        for name in sorted(named & self._defined.keys()):
            named |= self._referenced_tables(self._defined[name].statement)
        return named

    def _raise_unknown_table(self, name: str) -> None:
        known = [each for each in self.names() if not each.startswith("_")]
        close = _find_close_names(name, known)
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        elif len(known) <= _MAX_LISTED_TABLES:
            hint = f"the tables are: {', '.join(known) or 'none'}."
        else:
            hint = "SHOW TABLES lists the tables."
        raise SqlError(f"There is no table {name}; {hint}")

    def _view_name(self, name: str) -> str:
        schema, _, rest = name.rpartition(".")
        if schema:
            if schema not in self._schemas:
                self._execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
                self._schemas.add(schema)
            return f"{quote(schema)}.{quote(rest)}"
        return quote(rest)

    def _execute(self, sql: str) -> None:
        with _query_errors():
            self._connection.execute(sql)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for tables that no notebook reads."""
        return self._connection

    def create_view(self, name: str, sql: str) -> None:
        """Define a name for a query over tables of the database that are not in the lake."""
        self._invalidate(name)
        self._replace_view(name, sql)

    def _replace_view(self, name: str, sql: str) -> None:
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS {sql}")
        self._bound.add(name)

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows of text to those stored under a name (``create_table``); a column that only one of them has is null."""
        self._invalidate(name)
        hidden = self._internal_table(name)
        self._connection.register("_more", rows)
        if name not in self._bound:
            self._store_rows(name, hidden, "SELECT * FROM _more")
        else:
            kept = set(self.query(f"SELECT * FROM {name} LIMIT 0").columns)
            for column in rows.column_names:
                if column not in kept:
                    self._execute(f"ALTER TABLE {hidden} ADD COLUMN {quote(column)} VARCHAR")
            self._execute(f"INSERT INTO {hidden} BY NAME SELECT * FROM _more")
            self._replace_view(name, f"SELECT * FROM {hidden}")
        self._connection.unregister("_more")

    def delete(self, name: str, condition: str) -> None:
        """Delete rows of those stored under a name (``create_table``, ``append``)."""
        self._invalidate(name)
        self._execute(f"DELETE FROM {self._internal_table(name)} WHERE {condition}")

    def batches(self, sql: str) -> BatchSource:
        """Return a query's rows in batches, for a table of the lake."""
        self._bind(self._parse(sql))
        schema = self._connection.sql(f"SELECT * FROM ({sql}) AS found LIMIT 0").to_arrow_table().schema
        return BatchSource(schema, lambda: read_batches(self._cursor(), sql, _BATCH_ROWS))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        return self._connection.cursor().execute(f"USE {self.catalog}")


@cache
def _list_zones() -> list[str]:
    """Return DuckDB's time zones. A cast to a time zone that is not in this list raises an error."""
    with duckdb.connect() as connection:
        return [zone for zone, *_ in connection.execute("FROM pg_timezone_names()").fetchall() if "/" in zone]


@lru_cache(maxsize=512)
def _parse_statement(sql: str) -> exp.Expression:
    """Return the only statement of a text, which must read tables. It is shared, so callers must not change it."""
    try:
        parsed = sqlglot.parse(sql, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0].rstrip(".")
        raise SqlError(f"The query does not parse: {reason}.") from None
    # A comment after the last semicolon is not a statement.
    statements = [item for item in parsed if item is not None and not isinstance(item, exp.Semicolon)]
    if len(statements) != 1 or not _is_read_only(statements[0]):
        raise SqlError(
            "Give one SELECT, PIVOT, UNPIVOT, DESCRIBE, SUMMARIZE or SHOW TABLES; tables are changed by the stages only."
        )
    for other in _find_other_sources(statements[0]) - _TABLE_FUNCTIONS:
        raise SqlError(f"A query cannot read from {other}; write the name of a table.")
    return cast(exp.Expression, statements[0])


def _remove_semicolon(sql: str) -> str:
    """Return one statement without a semicolon and what follows: DuckDB 2 puts the text of some statements into others."""
    tokens = sqlglot.tokenize(sql, read="duckdb") if ";" in sql else []
    semicolons = [each.token_type == sqlglot.TokenType.SEMICOLON for each in tokens]
    ends = (token.start for token, is_end, before in zip(tokens[1:], semicolons[1:], semicolons) if is_end and not before)
    return sql[: next(ends, len(sql))]


def shown_columns_sql(rows: str, schema: pa.Schema, contract: Optional[Table]) -> Optional[str]:
    """Return a query that shows each column of a lake's table once, with the contract's name; None if ``rows`` does so.

    Parameters
    ----------
    rows, schema
        The relation of the stored rows, and its schema. A column can be stored under several names.
    contract
        The table's contract, or None.
    """
    stored = stored_columns(schema)
    shown = {key: normalize_column_name(names[0]) for key, names in stored.items()}
    shown.update({column_key(each): each for each in (contract.columns if contract else ()) if column_key(each) in stored})
    if list(shown.values()) == schema.names:
        return None
    # By position: DuckDB cannot distinguish stored names that differ in case only.
    bound = {stored_name: f"c{place}" for place, stored_name in enumerate(schema.names)}
    columns = (f"{_coalesce_sql([bound[each] for each in names])} AS {quote(shown[key])}" for key, names in stored.items())
    return f"SELECT {', '.join(columns)} FROM {rows} AS stored({', '.join(bound.values())})"


def named_tables(statement: exp.Expr) -> set[str]:
    """Return the names of the tables in a statement, without those that its WITH defines."""
    local = {item.alias for item in statement.find_all(exp.CTE)}
    tables = [table for table in statement.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
    return {_full_name(table) for table in tables if table.db or table.name not in local}


def _coalesce_sql(columns: list[str]) -> str:
    """Return SQL for the first value that is not NULL. A single column stays a column, so that filters reach the files."""
    return columns[0] if len(columns) == 1 else f"coalesce({', '.join(columns)})"


def _is_read_only(statement: Any) -> bool:
    """Return whether a statement is one of those that read tables."""
    if isinstance(statement, (exp.Describe, exp.Summarize)):
        return isinstance(statement.this, (exp.Query, exp.Table))
    if isinstance(statement, exp.Show):
        return str(statement.name).upper() == "TABLES"
    return isinstance(statement, (exp.Query, exp.Pivot))


def _find_other_sources(statement: exp.Expr) -> set[str]:
    """Return the names of what a statement reads rows from, except tables and queries: functions and parameters."""
    read = [each.this for each in statement.find_all(exp.Table, exp.Lateral)]
    called = [each for each in read if not isinstance(each, (exp.Identifier, exp.Subquery))]
    known = [each.sql_name() for each in called if isinstance(each, exp.Func) and not isinstance(each, exp.Anonymous)]
    others = [each.name or each.sql() for each in called if isinstance(each, exp.Anonymous) or not isinstance(each, exp.Func)]
    return {name.lower() for name in (*known, *others)}


def _find_close_names(name: str, known: list[str]) -> list[str]:
    """Return known names close to ``name``: itself, the same table in other layers, or the most similar name."""
    name = name.lower().replace('"', "")
    itself = [each for each in known if each.lower() == name]
    if itself:
        return itself
    table = name.rpartition(".")[2]
    same = [each for each in known if each.lower().rpartition(".")[2] == table]
    if same:
        return same[:3]
    alike = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if alike:
        return alike
    tables = {each.rpartition(".")[2]: each for each in known}
    return [tables[each] for each in difflib.get_close_matches(table, tables, n=1, cutoff=0.6)]


def _full_name(table: exp.Table) -> str:
    parts = [part for part in (table.catalog, table.db, table.name) if part]
    # "gold.daily_sales" quoted as a whole is not the name of a table.
    whole = len(parts) == 1 and "." in parts[0] and parts[0].partition(".")[0] in SCHEMAS
    return quote(parts[0]) if whole else ".".join(parts)


@contextmanager
def _query_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise query_error(error) from None


def query_error(error: duckdb.Error) -> DaybookError:
    """Return ``SqlError`` if the query is wrong, which is permanent, and ``EngineError`` if its execution failed."""
    message = _format_error(error)
    wrong = isinstance(error, _QUERY_ERRORS) or message.startswith("Invalid Input Error: Could not parse string")
    return (SqlError if wrong else EngineError)(message)


def _format_error(error: duckdb.Error) -> str:
    """Return DuckDB's message without the excerpt of the query."""
    lines = [line.strip() for line in str(error).splitlines()]
    message = takewhile(lambda line: line and not line.startswith(("LINE ", "^")), lines)
    return " ".join(message).rstrip(".") + "."
