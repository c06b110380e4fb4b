"""SQL over the lake on one machine, through DuckDB.

Interface (another engine has the same): ``define``, ``materialize``, ``create_table``, ``register``, ``query``, ``arrow``, ``rows``,
``names``, ``refresh``.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, TypeVar, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset
import sqlglot
from duckdb.functional import FunctionNullHandling, PythonUDFType
from duckdb.typing import VARCHAR
from sqlglot import exp

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import column_key, is_plain_name, normalize_column_name
from daybook.engines.memory import connect, memory_limit
from daybook.engines.newest import newest_of_each
from daybook.errors import DaybookError, EngineError, SqlError
from daybook.lake.delta import sequential_dataset, stored_columns
from daybook.lake.schema_evolution import find_contract
from daybook.lake.tables import SCHEMAS, BatchSource, Lake
from daybook.sources.mapping import literal, quote
from daybook.sources.timestamps import list_macro_statements

Query = duckdb.DuckDBPyRelation
TextFunction = Callable[[list[Optional[str]]], list[Optional[str]]]
FetchResult = TypeVar("FetchResult")
_BATCH_ROWS = 1 << 11
"""Rows that go to a table at a time: deltalake takes in some hundred batches ahead of what it has written."""
_MANY = 50_000
"""From so many rows on it costs less to look for repeated keys before rows are sorted."""
_QUERY_ERRORS = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.NotSupportedError,
    duckdb.DataError,
)
"""Errors of a query or of the values that it reads. All others may be faults of the machine: DuckDB reports a network error in
a table that it reads as InvalidInputException."""
_CATALOG = "_raw"
"""The attached database with the tables as they are. The default one has what cells define and see (``views``)."""
_MAX_LISTED_TABLES = 8
"""Number of tables up to which all are listed if a name is unknown."""
_TABLE_FUNCTIONS = {"generate_series", "range", "repeat", "unnest"}
"""The table functions that queries may call. Others read files, or tables by names that only the database sees (``query``)."""
_COSTLY_EXPRESSIONS = (exp.Join, exp.Group, exp.Distinct, exp.Order, exp.Window, exp.SetOperation, exp.AggFunc)
"""What makes a query worth running once only."""


class _Definition(NamedTuple):
    """A query that has a name: as it was written, and understood."""

    sql: str
    statement: exp.Expression


class DuckDBEngine:
    """One DuckDB connection over a lake. Times show in ``timezone``; a table keeps the version it was first read at.

    What does not fit into memory goes below ``spill``: the working folder, which is a stage's scratch, unless told otherwise.
    """

    name = "duckdb"
    catalog = _CATALOG

    def __init__(self, lake: Lake, timezone: str, *, spill: Optional[Path] = None) -> None:
        connection = connect((spill or Path.cwd()) / ".duckdb_tmp", timezone=timezone)
        connection.execute(f"ATTACH ':memory:' AS {_CATALOG}")
        self._open(lake, connection)

    def _open(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self.lake = lake
        self.version = f"duckdb {duckdb.__version__}"
        self._has_memory_limit = memory_limit() is not None
        self._connection = connection
        self._connection.execute(f"USE {self.catalog}")
        self._open_connections = [connection]
        """Connections that registered rows have to be given to: each knows only its own."""
        self._change_listeners: list[Callable[[str], None]] = []
        """What is called with a name that gets another meaning."""
        # A cast raises on a zone that is not among these.
        listed = "SELECT string_agg(name, '|') FROM pg_timezone_names() WHERE contains(name, '/')"
        for statement in list_macro_statements(f"|{self._connection.execute(listed).fetchall()[0][0]}|"):
            self._connection.execute(statement)
        self._bound: set[str] = set()
        self._schemas: set[str] = set()
        self._defined: dict[str, _Definition] = {}
        self._materialized: dict[str, set[str]] = {}
        """Definitions whose rows are kept, with all that they read."""
        self._row_counts: dict[str, int] = {}
        """How many rows there are under names that queries were kept under."""

    def define(self, name: str, sql: str) -> None:
        """Give a query a name (``silver.orders`` or a plain one); it runs when the name is read."""
        if not all(map(is_plain_name, name.split("."))) or name.count(".") > 1:
            raise SqlError(
                f"{name!r} cannot name a query; give a name of letters, digits and _, not a keyword of SQL, such as my_orders."
            )
        statement = self._parse(sql)
        if not isinstance(statement, exp.Query):
            raise SqlError(f"Only a SELECT can be given the name {name}; write SELECT * FROM (PIVOT … ON column IN (…) …).")
        if name in self._referenced_tables(statement):
            raise SqlError(f"The query that defines {name} reads {name} itself; read it under another name.")
        self._bind(statement)
        self._invalidate(name)
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS {sql}")
        self._defined[name] = _Definition(sql, statement)
        self._bound.add(name)

    def materialize(self, name: str) -> int:
        """Run a definition's query and keep its rows: whatever reads the name next reads those, until the query, or something
        that it reads, gets another meaning. Returns how many rows there are.

        A query that only picks columns and rows of one table costs as little when it is read: it stays as it is."""
        definition = self._defined[name]
        if name not in self._materialized and definition.statement.find(*_COSTLY_EXPRESSIONS) is not None:
            newest = newest_of_each(definition.statement)
            if newest is not None and self._rows_kept(newest.table) >= _MANY:
                # A window over all rows sorts them whole, in memory; nearly every key stands once.
                self._execute(f"CREATE OR REPLACE TABLE {_materialized_table(name)} AS {newest.repeated}")
                (repeated,) = self._connection.execute(f"SELECT count(*) FROM {_materialized_table(name)}").fetchall()[0]
                self._execute(
                    f"CREATE OR REPLACE VIEW {self._view_name(name)} AS {newest.rows(_materialized_table(name) if repeated else '')}"
                )
            else:
                self._execute(f"CREATE OR REPLACE TABLE {_materialized_table(name)} AS {definition.sql}")
                self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT * FROM {_materialized_table(name)}")
            self._materialized[name] = self._referenced_tables(definition.statement)
        return int(self.fetch_row(f"SELECT count(*) FROM {name}")[0])

    def _invalidate(self, changed: str) -> None:
        """Forget the rows of a definition that gets another meaning, and of those that read it."""
        self._row_counts.pop(changed, None)
        for call in self._change_listeners:
            call(changed)
        for name, reads in list(self._materialized.items()):
            if name == changed or changed in reads:
                del self._materialized[name]
                self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS {self._defined[name].sql}")
                self._execute(f"DROP TABLE {_materialized_table(name)}")

    def create_table(self, name: str, sql: str) -> int:
        """Run a query and keep its rows under a name, where reading them again costs little; returns how many there are.

        DuckDB compresses them, and moves what does not fit into memory to disk."""
        self._bind(self._parse(sql))
        self._invalidate(name)
        hidden = self._internal_table(name)
        self._execute(f"CREATE OR REPLACE TABLE {hidden} AS {sql}")
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT * FROM {hidden}")
        self._bound.add(name)
        self._row_counts[name] = int(self.fetch_row(f"SELECT count(*) FROM {name}")[0])
        return self._row_counts[name]

    def register(self, name: str, rows: Any) -> None:
        """Give Arrow data a name."""
        self._invalidate(name)
        hidden = f"_{name.replace('.', '__')}"
        if self._has_memory_limit and isinstance(rows, pa.dataset.Dataset):
            rows = sequential_dataset(rows)
        for connection in self._open_connections:
            connection.register(hidden, rows)
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT * FROM {quote(hidden)}")
        self._bound.add(name)

    def _internal_table(self, name: str) -> str:
        # With its database, since another connection may read the view of it.
        return f"{self.catalog}.main.{_internal_name('kept', name)}"

    def _rows_kept(self, name: str) -> int:
        return self._row_counts.get(name, 0)

    def _name_columns(self, name: str, schema: pa.Schema) -> None:
        """Give a table of the lake each column once, whatever names it is stored under, and called as its contract does."""
        contract, stored = find_contract(name), stored_columns(schema)
        shown = {key: normalize_column_name(names[0]) for key, names in stored.items()}
        shown.update({column_key(each): each for each in (contract.columns if contract else ()) if column_key(each) in stored})
        if list(shown.values()) == schema.names:
            return
        # By place: DuckDB cannot tell stored names apart that differ in case alone.
        bound = {stored_name: f"c{place}" for place, stored_name in enumerate(schema.names)}
        columns = (f"{_coalesce_sql([bound[each] for each in names])} AS {quote(shown[key])}" for key, names in stored.items())
        rows = f"{quote('_' + name.replace('.', '__'))} AS stored({', '.join(bound.values())})"
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT {', '.join(columns)} FROM {rows}")

    def add_text_function(self, name: str, function: TextFunction) -> None:
        """Add a SQL function that maps a text to a text. ``function`` maps a batch; it also gets and may return None."""

        def mapped(values: pa.ChunkedArray) -> pa.Array:
            return pa.array(function(values.to_pylist()), pa.string())

        self._connection.create_function(
            name,
            mapped,
            [VARCHAR],
            VARCHAR,
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )

    def query(self, sql: str) -> Query:
        """A lazy result: ``.df()``, ``.arrow()``, ``.fetchall()``. Raises ``SqlError`` or ``EngineError``."""
        sql = self._bind_sql(sql)
        try:
            return self._connection.sql(sql)
        except duckdb.Error as error:
            raise query_error(error) from None

    def arrow(self, sql: str) -> pa.Table:
        """The whole result as an Arrow table."""
        return self._fetch(sql, lambda done: done.arrow())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The whole result as tuples."""
        return list(self._fetch(sql, lambda done: done.fetchall()))

    def fetch_row(self, sql: str) -> tuple[Any, ...]:
        """The single row of a result."""
        (row,) = self.rows(sql)
        return row

    def range_predicate(self, column: str, sql: str) -> str:
        """A condition in plain values that holds for all rows whose ``column`` is among a query's, ids or dates.

        Files whose values lie elsewhere are not read then; DuckDB learns from a join only when it has read the table.
        """
        least, most = self.fetch_row(
            f"SELECT CAST(min({column}) AS VARCHAR), CAST(max({column}) AS VARCHAR) FROM ({sql}) AS asked"
        )
        return "FALSE" if least is None else f"{column} BETWEEN {literal(least)} AND {literal(most)}"

    def is_defined(self, name: str) -> bool:
        """Whether ``define`` has given a query this name."""
        return name in self._defined

    def referenced_tables(self, sql: str) -> list[str]:
        """Return the names of the tables that a query reads."""
        return sorted(self._referenced_tables(self._parse(sql)))

    def names(self) -> list[str]:
        """Every table and view that a query can name."""
        return sorted({*self.lake.tables(), *self._bound})

    def refresh(self, name: str) -> None:
        """Forget which version of a table was bound, so that the next query reads the newest."""
        self._invalidate(name)
        self._bound.discard(name)
        self._defined.pop(name, None)

    def _fetch(self, sql: str, fetch: Callable[[duckdb.DuckDBPyConnection], FetchResult]) -> FetchResult:
        # Executed at once: a relation, as `query` gives, is bound to learn its columns, and again when it is fetched.
        sql = self._bind_sql(sql)
        try:
            return fetch(self._connection.execute(sql))
        except duckdb.Error as error:
            raise query_error(error) from None

    def _parse(self, sql: str) -> exp.Expression:
        try:
            parsed = sqlglot.parse(sql, read="duckdb")
        except sqlglot.errors.SqlglotError as error:
            reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0].rstrip(".")
            raise SqlError(f"The query does not parse: {reason}.") from None
        # A remark after the last semicolon is no statement.
        statements = [item for item in parsed if item is not None and not isinstance(item, exp.Semicolon)]
        if len(statements) != 1 or not _is_read_only(statements[0]):
            raise SqlError(
                "Give one SELECT, PIVOT, UNPIVOT, DESCRIBE, SUMMARIZE or SHOW TABLES; tables are changed by the stages only."
            )
        for other in _find_other_sources(statements[0]) - _TABLE_FUNCTIONS:
            raise SqlError(f"A query cannot read from {other}; give the name of a table.")
        return cast(exp.Expression, statements[0])

    def _bind_sql(self, sql: str) -> str:
        """Bind the tables that a statement names; return the SQL to execute."""
        statement = self._parse(sql)
        if isinstance(statement, exp.Show):
            # The database itself knows only the tables that were read.
            layer = statement.args.get("from_") or statement.args.get("from")
            shown = f"{layer.name.lower()}." if layer else ""
            names = ", ".join(literal(name) for name in self.names() if name.startswith(shown) and not name.startswith("_"))
            return f"SELECT unnest(CAST([{names}] AS VARCHAR[])) AS name"
        self._bind(statement)
        return sql

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
        """The tables that a query names, and those that the definitions among them name in turn."""
        local = {item.alias for item in statement.find_all(exp.CTE)}
        tables = [table for table in statement.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
        named = {_full_name(table) for table in tables if table.db or table.name not in local}
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
        try:
            self._connection.execute(sql)
        except duckdb.Error as error:
            raise query_error(error) from None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The database itself, for work on tables that are no notebook's."""
        return self._connection

    def create_view(self, name: str, sql: str) -> None:
        """Give a name to a query over tables that are in the database and not in the lake."""
        self._invalidate(name)
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS {sql}")
        self._bound.add(name)

    def append(self, name: str, rows: pa.Table) -> None:
        """Keep rows of text beside those that were kept under the name (see ``keep``); columns that either lacks are null."""
        self._invalidate(name)
        hidden = self._internal_table(name)
        self._connection.register("_more", rows)
        if name not in self._bound:
            self._execute(f"CREATE OR REPLACE TABLE {hidden} AS SELECT * FROM _more")
        else:
            kept = set(self.query(f"SELECT * FROM {name} LIMIT 0").columns)
            for column in rows.column_names:
                if column not in kept:
                    self._execute(f"ALTER TABLE {hidden} ADD COLUMN {quote(column)} VARCHAR")
            self._execute(f"INSERT INTO {hidden} BY NAME SELECT * FROM _more")
        self._connection.unregister("_more")
        self._execute(f"CREATE OR REPLACE VIEW {self._view_name(name)} AS SELECT * FROM {hidden}")
        self._bound.add(name)

    def batches(self, sql: str) -> BatchSource:
        """A query's rows for a table of the lake, a batch at a time."""
        self._bind(self._parse(sql))
        schema = self._connection.execute(f"SELECT * FROM ({sql}) AS found LIMIT 0").arrow().schema
        return BatchSource(schema, lambda: self._cursor().execute(sql).fetch_record_batch(_BATCH_ROWS))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        return self._connection.cursor().execute(f"USE {self.catalog}")


def _coalesce_sql(columns: list[str]) -> str:
    """SQL for the first value that is there. A single column stays one, so that its conditions reach the files."""
    return columns[0] if len(columns) == 1 else f"coalesce({', '.join(columns)})"


def _materialized_table(name: str) -> str:
    """The table that keeps a definition's rows."""
    return _internal_name("settled", name)


def _internal_name(kind: str, name: str) -> str:
    """The table or view behind a name, as SQL writes it."""
    return quote(f"_{kind}_{name.replace('.', '__')}")


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
    """Return the known names that ``name`` may stand for: itself, the same table in other layers, else the one most alike."""
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
    # Quoted as a whole, "gold.daily_sales" is the name of no table.
    whole = len(parts) == 1 and "." in parts[0] and parts[0].partition(".")[0] in SCHEMAS
    return quote(parts[0]) if whole else ".".join(parts)


def query_error(error: duckdb.Error) -> DaybookError:
    """Return ``SqlError`` where the query is wrong, which is permanent, and ``EngineError`` where running it failed."""
    said = _format_error(error)
    wrong = isinstance(error, _QUERY_ERRORS) or said.startswith("Invalid Input Error: Could not parse string")
    return (SqlError if wrong else EngineError)(said)


def _format_error(error: duckdb.Error) -> str:
    """The first lines of DuckDB's message that say what is wrong, without the picture of the query."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = []
    for line in lines:
        if not line or line.startswith(("LINE ", "^")):
            break
        said.append(line)
    return " ".join(said).rstrip(".") + "."
