"""Read the lineage of columns from SELECT statements with SQLGlot.

SQLGlot qualifies the names. ``sqlglot.lineage`` is not used: it lists all columns in an expression, so it does not separate
the values of a CASE from its conditions, or an argument from a window; it leaves out WHERE, JOIN, GROUP BY and the other
clauses that decide which rows exist; and it follows branches that a constant condition excludes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.simplify import simplify

from daybook.errors import LineageError
from daybook.lake.lineage.graph import Sources, add_sources


@dataclass
class _Relation:
    """A table, view or subquery: the sources of each column and of the set of rows, and the unique keys."""

    columns: dict[str, Sources]
    rows: Sources = field(default_factory=dict)
    unique: list[frozenset[str]] = field(default_factory=list)


class LineageReader:
    """Reads the lineage of named queries.

    Parameters
    ----------
    definitions
        DuckDB SELECTs by the name that they define.
    columns_of
        Returns the columns of any other table by name.
    stored_names
        The definitions that become tables. Columns of other definitions are traced to the tables that those read.
    keys
        The columns that identify a row, by table. A join to them adds no rows.
    """

    def __init__(
        self,
        definitions: Mapping[str, str],
        columns_of: Callable[[str], Sequence[str]],
        *,
        stored_names: Collection[str],
        keys: Optional[Mapping[str, Collection[str]]] = None,
    ) -> None:
        self.definitions = {name.lower(): sql for name, sql in definitions.items()}
        self.columns_of = columns_of
        self.stored_names = {name.lower(): name for name in stored_names}
        self.keys = {name.lower(): frozenset(column.lower() for column in key) for name, key in (keys or {}).items()}
        self._tables: dict[str, tuple[str, Sequence[str]]] = {}
        self._defined: dict[str, tuple[_Relation, list[str]]] = {}
        self._open: list[str] = []

    def entry(self, name: str) -> dict[str, Any]:
        """Return the lineage of a definition in the form of records (``graph``).

        Raises ``LineageError`` if its query has a construct that is not supported.
        """
        relation, names = self.resolve_definition(name.lower())
        return {
            "rows": _sort_sources(relation.rows),
            "columns": {column: _sort_sources(relation.columns[column.lower()], relation.rows) for column in names},
        }

    def resolve_definition(self, name: str) -> tuple[_Relation, list[str]]:
        """Return a definition's relation, and its column names as written."""
        if name not in self._defined:
            if name in self._open:
                raise LineageError(
                    f"The query of {name} reads itself through {', '.join(self._open)}; change one of these definitions."
                )
            self._open.append(name)
            try:
                query = self._qualify(self.definitions[name])
                relation = _SelectScope(self, {}).relation(query)
            except SqlglotError as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise LineageError(f"The lineage of {name} cannot be read: {reason}; simplify its query.") from None
            finally:
                self._open.pop()
            self._defined[name] = relation, [each.alias_or_name for each in query.selects]
        return self._defined[name]

    def base_relation(self, name: str) -> _Relation:
        """Return the relation of a table in a query; call ``_qualify`` with that query first."""
        if name in self.definitions and name not in self.stored_names:
            return self.resolve_definition(name)[0]
        shown, columns = self._tables[name]
        unique = [self.keys[name]] if name in self.keys else []
        return _Relation({column.lower(): {f"{shown}.{column}": {"IDENTITY"}} for column in columns}, unique=unique)

    def _columns(self, name: str) -> Sequence[str]:
        """Return the columns of a table by its name as written in a query."""
        key = name.lower()
        if key not in self._tables:
            known = self.resolve_definition(key)[1] if key in self.definitions else self.columns_of(name)
            self._tables[key] = self.stored_names.get(key, name), known
        return self._tables[key][1]

    def _qualify(self, sql: str) -> exp.Query:
        """Return the query with a table for each column, expanded stars, and each table's full name as one identifier."""
        query = sqlglot.parse_one(sql, read="duckdb")
        local = {item.alias.lower() for item in query.find_all(exp.CTE)}
        schema: dict[str, object] = {}
        for table in list(query.find_all(exp.Table)):
            if not isinstance(table.this, exp.Identifier):
                raise LineageError(
                    f"{table.sql('duckdb')} is not a table, so the lineage of this query cannot be read; read a table."
                )
            name = f"{table.db}.{table.name}" if table.db else table.name
            if name.lower() in local:
                continue
            schema[name] = dict.fromkeys((column.lower() for column in self._columns(name)), "VARCHAR")
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.alias or table.name)))
            table.set("this", exp.to_identifier(name, quoted=True))
            table.set("db", None)
        for column in query.find_all(exp.Column):
            column.set("db", None)
        qualified = qualify(query, schema=schema, dialect="duckdb", identify=False, quote_identifiers=False)
        if not isinstance(qualified, exp.Query):
            raise LineageError(f"{sql.split()[0]} is not a SELECT, so its lineage cannot be read; write a SELECT.")
        return qualified


def _sort_sources(sources: Sources, without: Optional[Sources] = None) -> dict[str, list[str]]:
    """Return sources in the form of records, without the kinds that others have."""
    left = {source: kinds - (without or {}).get(source, set()) for source, kinds in sorted(sources.items())}
    return {source: sorted(kinds) for source, kinds in left.items() if kinds}


class _SelectScope:
    """One level of a query: the relations of its names, within those of the enclosing levels."""

    def __init__(self, reader: LineageReader, named: Mapping[str, _Relation], outer: Optional[_SelectScope] = None) -> None:
        self.reader = reader
        self.named = dict(named)  # common table expressions
        self.outer = outer
        self.sources: dict[str, _Relation] = {}

    def relation(self, query: exp.Expr) -> _Relation:
        """Return the relation of a query."""
        if isinstance(query, exp.Subquery):
            return self.relation(query.this)
        with_ = query.args.get("with_") or query.args.get("with")
        if with_ is not None:
            if with_.args.get("recursive"):
                raise LineageError(
                    "WITH RECURSIVE is not supported, so its lineage cannot be read; write the query without it."
                )
            for item in with_.expressions:
                self.named[item.alias.lower()] = _SelectScope(self.reader, self.named, self.outer).relation(item.this)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query)
        if isinstance(query, exp.Select):
            return self._select(query)
        raise LineageError(f"{type(query).__name__} is not supported, so its lineage cannot be read; write a SELECT.")

    def _set_operation(self, query: exp.SetOperation) -> _Relation:
        sides = [_SelectScope(self.reader, self.named, self.outer).relation(side) for side in (query.left, query.right)]
        names = list(sides[0].columns)
        # A set operation pairs columns by position, not by name.
        merged = _Relation({name: {} for name in names})
        for side in sides:
            add_sources(merged.rows, side.rows)
            for name, sources in zip(names, side.columns.values()):
                add_sources(merged.columns[name], sources)
        if query.args.get("distinct") or not isinstance(query, exp.Union):
            for sources in list(merged.columns.values()):
                add_sources(merged.rows, sources, "GROUP_BY")
        for sources in merged.columns.values():
            add_sources(sources, merged.rows)
        return merged

    def _select(self, query: exp.Select) -> _Relation:
        rows: Sources = {}
        start = query.args.get("from_") or query.args.get("from")
        if start is not None:
            self._enter(start.this, rows)
        for join in query.args.get("joins") or []:
            self._join(join, rows)
        for name in ("where", "having", "qualify"):
            if query.args.get(name) is not None:
                add_sources(rows, self.value(query.args[name].this), "FILTER")
        values = [self.value(each) for each in query.selects]
        names = [each.alias_or_name.lower() for each in query.selects]
        group = query.args.get("group")
        unique = self._unique_keys(query, names)
        decisive = rows
        if group is not None:
            for key in [each for part in group.args.values() if isinstance(part, list) for each in part]:
                if isinstance(key, exp.Expr):
                    add_sources(rows, self.value(key), "GROUP_BY")
        elif any(_is_aggregate(each) for each in query.selects) and query.args.get("having") is None:
            decisive = {}  # There is exactly one row.
        if query.args.get("distinct") is not None:
            for sources in values:
                add_sources(rows, sources, "GROUP_BY")
        if query.args.get("limit") is not None or query.args.get("offset") is not None:
            for key in query.args["order"].expressions if query.args.get("order") else []:
                add_sources(rows, self.value(key), "SORT")
        for sources in values:
            add_sources(sources, rows)
        return _Relation(dict(zip(names, values)), decisive, unique)

    def _enter(self, item: exp.Expr, rows: Sources) -> _Relation:
        """Add a table or subquery of FROM under its alias; the query's rows depend on its rows."""
        relation = self._resolve_source(item)
        self.sources[item.alias_or_name.lower()] = relation
        add_sources(rows, relation.rows)
        for join in item.args.get("joins") or []:
            self._join(join, rows)
        return relation

    def _resolve_source(self, item: exp.Expr) -> _Relation:
        if isinstance(item, exp.Table):
            name = item.name.lower()
            return self.named[name] if name in self.named else self.reader.base_relation(name)
        if isinstance(item, exp.Subquery):
            return _SelectScope(self.reader, self.named, self.outer).relation(item.this)
        raise LineageError(f"{item.sql('duckdb')} is not a table, so the lineage of this query cannot be read; read a table.")

    def _join(self, join: exp.Join, rows: Sources) -> None:
        entered: Sources = {}
        relation = self._enter(join.this, entered)
        condition = join.args.get("on")
        on = self.value(condition) if condition is not None else {}
        alias = join.this.alias_or_name.lower()
        if join.side == "LEFT" and not join.kind and self._is_lookup_join(condition, alias, relation):
            # Each row finds at most one row: only this table's columns depend on the condition.
            found: dict[str, Sources] = {name: {} for name in relation.columns}
            for name, sources in relation.columns.items():
                for part, kind in ((sources, "IDENTITY"), (entered, "IDENTITY"), (on, "JOIN")):
                    add_sources(found[name], part, kind)
            self.sources[alias] = _Relation(found, relation.rows, relation.unique)
            return
        add_sources(rows, entered)
        add_sources(rows, on, "JOIN")

    def _is_lookup_join(self, condition: Optional[exp.Expr], alias: str, relation: _Relation) -> bool:
        if condition is None:
            return False
        equal = set()
        for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            if isinstance(part, exp.EQ):
                for side, other in ((part.left, part.right), (part.right, part.left)):
                    tables = {column.table.lower() for column in other.find_all(exp.Column)}
                    if isinstance(side, exp.Column) and side.table.lower() == alias and alias not in tables:
                        equal.add(side.name.lower())
        return any(key <= equal for key in relation.unique)

    def _unique_keys(self, query: exp.Select, names: list[str]) -> list[frozenset[str]]:
        """Return the sets of output columns that are unique keys of the rows."""
        shown = {each.unalias().sql("duckdb", normalize=True): name for each, name in zip(query.selects, names)}
        group = query.args.get("group")
        if group is not None:
            keys = [each.sql("duckdb", normalize=True) for each in group.expressions]
            plain = keys and len(keys) == sum(len(part) for part in group.args.values() if isinstance(part, list))
            return [frozenset(shown[key] for key in keys)] if plain and all(key in shown for key in keys) else []
        if len(self.sources) != 1:
            return []
        ((alias, relation),) = self.sources.items()
        columns = {f"{alias}.{name}": name for name in relation.columns}
        kept = {columns[text]: name for text, name in shown.items() if text in columns}
        return [frozenset(kept[name] for name in key) for key in relation.unique if all(name in kept for name in key)]

    def value(self, node: exp.Expr, outer: str = "IDENTITY") -> Sources:
        """Return the sources of an expression's value."""
        found: Sources = {}
        self._read(node, outer, found)
        return found

    def _read(self, node: exp.Expr, outer: str, found: Sources) -> None:
        if isinstance(node, exp.Column):
            add_sources(found, self._column(node), outer)
            return
        if isinstance(node, (exp.Alias, exp.Paren, exp.Ordered)):
            self._read(node.this, outer, found)
            return
        if isinstance(node, (exp.Subquery, exp.Select, exp.SetOperation)):
            relation = _SelectScope(self.reader, self.named, self).relation(node)
            for sources in relation.columns.values():
                add_sources(found, sources, outer)
            add_sources(found, relation.rows, "FILTER")
            return
        values, conditions, windows = _split_operands(node)
        inner = outer
        if outer in ("IDENTITY", "TRANSFORMATION"):
            inner = "AGGREGATION" if isinstance(node, exp.AggFunc) else "TRANSFORMATION"
        for each in values:
            self._read(each, inner, found)
        for each in conditions:
            self._read(each, "CONDITIONAL", found)
        for each in windows:
            self._read(each, "WINDOW", found)

    def _column(self, column: exp.Column) -> Sources:
        level: Optional[_SelectScope] = self
        while level is not None:
            relation = level.sources.get(column.table.lower())
            if relation is not None:
                if column.name.lower() not in relation.columns:
                    break
                return relation.columns[column.name.lower()]
            level = level.outer
        raise LineageError(
            f"The column {column.sql('duckdb')} is unknown, so the lineage of this query cannot be read; check its name."
        )


def _split_operands(node: exp.Expr) -> tuple[list[exp.Expr], list[exp.Expr], list[exp.Expr]]:
    """Return the parts of an expression: values, conditions, and window clauses."""
    if isinstance(node, exp.Case):
        # A setting in a condition is a constant: a branch that it excludes does not contribute.
        branches = [each for each in node.args.get("ifs") or [] if simplify(each.this.copy()) != exp.false()]
        values = [branch.args["true"] for branch in branches] + _list_expressions(node.args.get("default"))
        return values, _list_expressions(node.this) + [branch.this for branch in branches], []
    if isinstance(node, exp.If):
        return _list_expressions(node.args.get("true")) + _list_expressions(node.args.get("false")), [node.this], []
    if isinstance(node, exp.Filter):
        return [node.this], [node.expression.this], []
    if isinstance(node, exp.Window):
        others = [each for name, part in node.args.items() if name != "this" for each in _list_expressions(part)]
        return [node.this], [], others
    return [each for part in node.args.values() for each in _list_expressions(part)], [], []


def _list_expressions(part: Any) -> list[exp.Expr]:
    return [each for each in (part if isinstance(part, list) else [part]) if isinstance(each, exp.Expr)]


def _is_aggregate(node: exp.Expr) -> bool:
    """Return whether an output column aggregates rows; an aggregate over a window does not."""
    if isinstance(node, (exp.Window, exp.Subquery)):
        return False
    return isinstance(node, exp.AggFunc) or any(
        _is_aggregate(each) for part in node.args.values() for each in _list_expressions(part)
    )
