"""Find the columns of silver and gold that a change of cells, contracts or params affects, from the SQL of the notebooks.

A changed expression of a query gets a marker: a subquery on a table that does not exist. The lineage of the marked queries then
names the marker as a source of every column that reads the expression, through any number of cells and tables.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from daybook.contracts import Table
from daybook.errors import LineageError
from daybook.lake.lineage.graph import Lineage, is_direct, split_column, trace_sources
from daybook.lake.lineage.sql import LineageReader
from daybook.notebook.lineage import derivation_name

_MARKERS = "review.markers"
"""The table that markers read."""
_EXPRESSION = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)

Definitions = Mapping[str, Mapping[str, str]]
"""The SQL of named cells by notebook and name."""


class Affected(NamedTuple):
    """The affected columns of a table that have the same causes."""

    table: str
    columns: list[str]
    """Empty: all columns, since other rows exist or count."""
    values_from: list[str]
    """Changed cells, ``$setting`` and changed columns that are part of the columns' values."""
    decided_by: list[str]
    """Those that only decide which values or rows there are."""

    @property
    def causes(self) -> list[str]:
        """All of them."""
        return [*self.values_from, *self.decided_by]


@dataclass
class Effect:
    """What a change affects."""

    affected: list[Affected] = field(default_factory=list)
    reads: dict[str, set[str]] = field(default_factory=dict)
    """What each cell between a cause and an affected table reads, by name."""
    same_queries: set[tuple[str, str]] = field(default_factory=set)
    """Notebook and name of changed cells whose query is the same but for layout and comments."""
    unread: list[str] = field(default_factory=list)
    """Sentences about queries whose lineage cannot be read."""


def trace_effect(
    before: Definitions,
    after: Definitions,
    contracts: Mapping[str, Table],
    *,
    settings: Collection[str] = (),
    columns: Collection[str] = (),
) -> Effect:
    """Return the columns of silver and gold that a change affects.

    Parameters
    ----------
    before, after
        The SQL of the cells of both states.
    contracts
        The contracts of silver and gold after the change, by full name.
    settings
        Changed settings, which cells read as ``$name``.
    columns
        Columns whose contract or mapping changed, such as ``silver.orders.status`` and ``mapped.orders.status``; ``*`` in place
        of a name means all of a table.
    """
    effect = Effect()
    causes: dict[str, str] = {}
    lineage: dict[str, dict[str, Any]] = {}
    reads: dict[str, set[str]] = {}
    for notebook, cells in after.items():
        reader = _NotebookReader(contracts, causes)
        for name, sql in cells.items():
            earlier = before.get(notebook, {}).get(name)
            try:
                if not reader.add(name, sql, earlier, settings) and sql != earlier:
                    effect.same_queries.add((notebook, name))
            except SqlglotError as error:
                effect.unread.append(f"The query of {name} cannot be parsed ({str(error).splitlines()[0].rstrip('.')}).")
        for name, names in reader.reads.items():
            reads.setdefault(name, set()).update(names)
        for name in filter(contracts.__contains__, cells):
            if derivation_name(contracts[name]) in cells:
                reads[name].add(derivation_name(contracts[name]))
            try:
                lineage[name] = reader.lineage_of(name)
            except (LineageError, SqlglotError) as error:
                effect.unread.append(str(error).splitlines()[0])
    for name in lineage:
        effect.affected += _group_columns(name, lineage, causes, columns)
    _keep_paths(effect, reads)
    return effect


class _NotebookReader:
    """Reads the lineage of the tables that the cells of one notebook define, with markers where cells changed."""

    def __init__(self, contracts: Mapping[str, Table], causes: dict[str, str]) -> None:
        self.contracts = contracts
        self.causes = causes
        """What each marker stands for, by its name."""
        self.queries: dict[str, exp.Query] = {}
        self.reads: dict[str, set[str]] = {}
        self._reader: Optional[LineageReader] = None

    def add(self, name: str, sql: str, before: Optional[str], settings: Collection[str]) -> bool:
        """Add a cell; mark where it differs from the query before, and where it reads a changed setting.

        Returns whether the queries differ.
        """
        query = _parse(sql)
        reads = {_table_name(each) for each in query.find_all(exp.Table)} - {each.alias for each in query.find_all(exp.CTE)}
        marker = self._marker(name)
        earlier = None if before is None else _parse(before)
        differs = earlier != query
        if earlier is None:
            _mark_rows(query, marker)
        else:
            _mark_changes(earlier, query, marker)
        for each in list(query.find_all(exp.Placeholder)):
            if each.name in settings:
                reads.add(f"${each.name}")
                each.replace(self._marker(f"${each.name}"))
        self.queries[name] = query
        self.reads[name] = reads
        return differs

    def lineage_of(self, name: str) -> dict[str, Any]:
        """Return the lineage of a table, with that of its derived columns."""
        if self._reader is None:
            texts = {name: query.sql("duckdb") for name, query in self.queries.items()}
            keys = {name: contract.key for name, contract in self.contracts.items()}
            self._reader = LineageReader(texts, self._columns_of, stored_names=self.contracts, keys=keys)
        entry = self._reader.entry(name)
        contract = self.contracts[name]
        if derivation_name(contract) in self.queries:
            derived = self._reader.entry(derivation_name(contract))
            for column in contract.derived:
                entry["columns"][column] = {**derived["rows"], **derived["columns"].get(column, {})}
        return entry

    def _marker(self, cause: str) -> exp.Subquery:
        name = f"m{zlib.crc32(cause.encode()):x}"
        self.causes[f"{_MARKERS}.{name}"] = cause
        return exp.select(name).from_(_MARKERS).subquery()

    def _columns_of(self, name: str) -> Sequence[str]:
        """Return the columns of a table that no cell defines: by its contract, else those that the cells read of it."""
        if name == _MARKERS:
            return [split_column(each)[1] for each in self.causes]
        if name in self.contracts:
            return self.contracts[name].columns
        return list(dict.fromkeys(column for query in self.queries.values() for column in _columns_read(query, name)))


def _parse(sql: str) -> exp.Query:
    """Return a query in which each ``{{ expression }}`` is a placeholder, as ``$name`` is."""
    text = _EXPRESSION.sub(lambda found: f"$e{zlib.crc32(found[1].strip().encode()):x}", sql)
    parsed = normalize_identifiers(sqlglot.parse_one(text.strip().rstrip(";"), read="duckdb"), dialect="duckdb")
    if not isinstance(parsed, exp.Query):
        raise SqlglotError(f"{type(parsed).__name__} is no query")
    return parsed


def _mark_changes(before: exp.Query, after: exp.Query, marker: exp.Subquery) -> None:
    """Mark the expressions of a query that differ from the query before. Comments, layout and case do not count."""
    if before == after:
        return
    known = {each.alias: each.this for each in before.ctes}
    for each in after.ctes:
        if each.alias in known:
            _mark_changes(known[each.alias], each.this, marker)
        else:
            _mark_rows(each.this, marker)
    if isinstance(before, exp.Select) and isinstance(after, exp.Select):
        _mark_select(before, after, marker)
    elif isinstance(before, exp.SetOperation) and isinstance(after, exp.SetOperation) and _are_alike(before, after):
        _mark_changes(before.left, after.left, marker)
        _mark_changes(before.right, after.right, marker)
    else:
        _mark_rows(after, marker)


def _are_alike(before: exp.SetOperation, after: exp.SetOperation) -> bool:
    """Return whether two set operations combine the same columns in the same way. Columns are paired by position."""
    names = [[side.named_selects for side in (each.left, each.right)] for each in (before, after)]
    return names[0] == names[1] and _frame(before) == _frame(after)


def _mark_select(before: exp.Select, after: exp.Select, marker: exp.Subquery) -> None:
    names = {each.alias_or_name: each for each in before.selects}
    joins = {each.alias_or_name: each for each in before.args.get("joins") or []}
    changed_columns = [each for each in after.selects if each != names.get(each.alias_or_name)]
    changed_joins = [each for each in after.args.get("joins") or [] if each != joins.pop(each.alias_or_name, None)]
    other_rows = _frame(before) != _frame(after) or bool(joins)
    for each in changed_columns:
        if each.is_star:
            other_rows = True
            continue
        value = each.unalias()
        each.replace(exp.alias_(exp.func("COALESCE", value.copy(), marker.copy()), each.alias_or_name))
    for each in changed_joins:
        # A marker in the condition affects only the columns of a table that is looked up.
        on = each.args.get("on")
        if on is not None:
            each.set("on", exp.and_(*(on.flatten() if isinstance(on, exp.And) else [on]), _condition(marker)))
        else:
            other_rows = True
    if other_rows:
        after.where(_condition(marker), copy=False)


def _frame(query: exp.Query) -> exp.Query:
    """Return a query without its columns, joins, common table expressions, sides, and an order that selects no rows."""
    frame = query.copy()
    for part in ("with_", "joins", "expressions", "this", "expression"):
        frame.set(part, None)
    if not (frame.args.get("limit") or frame.args.get("offset")):
        frame.set("order", None)
    return frame


def _mark_rows(query: exp.Expr, marker: exp.Subquery) -> None:
    """Mark that other rows exist."""
    for each in [query] if isinstance(query, exp.Select) else list(query.find_all(exp.Select)):
        each.where(_condition(marker), copy=False)


def _condition(marker: exp.Subquery) -> exp.Expr:
    return exp.EQ(this=marker.copy(), expression=exp.Literal.number(1))


def _table_name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db else table.name


def _columns_read(query: exp.Query, name: str) -> Iterator[str]:
    """Yield the columns that a query can read of a table."""
    for each in query.find_all(exp.Table):
        level = each.find_ancestor(exp.Select)
        if _table_name(each) != name or level is None:
            continue
        alone = not level.args.get("joins")
        for column in level.find_all(exp.Column):
            if column.table == each.alias_or_name or (alone and not column.table):
                yield column.name


def _group_columns(table: str, lineage: Lineage, causes: Mapping[str, str], changed: Collection[str]) -> Iterator[Affected]:
    """Yield the affected columns of a table, grouped by their causes."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for column in lineage[table]["columns"]:
        sources = trace_sources(lineage, f"{table}.{column}")
        sources.setdefault(f"{table}.{column}", {"IDENTITY"})
        found: dict[str, set[str]] = {}
        for source, kinds in sources.items():
            name = causes.get(source) or _match_column(source, changed)
            if name:
                found.setdefault(name, set()).update(kinds)
        if found:
            direct = {name for name, kinds in found.items() if is_direct(kinds)}
            groups.setdefault((tuple(sorted(direct)), tuple(sorted(found.keys() - direct))), []).append(column)
    for (values_from, decided_by), columns in groups.items():
        whole = len(columns) == len(lineage[table]["columns"])
        yield Affected(table, [] if whole else columns, list(values_from), list(decided_by))


def _match_column(source: str, changed: Collection[str]) -> Optional[str]:
    return next((each for each in (source, f"{split_column(source)[0]}.*") if each in changed), None)


def _keep_paths(effect: Effect, reads: Mapping[str, set[str]]) -> None:
    """Keep what lies between a cause and an affected table."""
    tables = {each.table for each in effect.affected}
    causes = {cause for each in effect.affected for cause in each.causes}
    causes = {each if each in reads or each.startswith("$") else split_column(each)[0] for each in causes}
    readers: dict[str, set[str]] = {}
    for name, names in reads.items():
        for each in names:
            readers.setdefault(each, set()).add(name)
    between = _reachable(causes, readers) & _reachable(tables, reads)
    effect.reads = {name: found for name, names in reads.items() if name in between for found in (names & between,) if found}


def _reachable(start: Collection[str], edges: Mapping[str, set[str]]) -> set[str]:
    """Return the names that edges lead to, with those of the start."""
    found, frontier = set(start), set(start)
    while frontier:
        frontier = {each for name in frontier for each in edges.get(name, ())} - found
        found |= frontier
    return found
