"""Derive mutants of a SQL cell: the cell with one small change, such as another comparison or a dropped condition.

The last ORDER BY of a cell is left as it is: cases compare rows in any order, and tables are stored in the order of their key.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import sqlglot
from sqlglot import exp

from daybook.contracts import load_tables

_OTHER_OPERATORS: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GT),
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LT),
    exp.Add: (exp.Sub,),
    exp.Sub: (exp.Add,),
    exp.Mul: (exp.Add,),
    exp.Div: (exp.Mul,),
    exp.And: (exp.Or,),
    exp.Or: (exp.And,),
}
_OTHER_AGGREGATES: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.Min: (exp.Max,),
    exp.Max: (exp.Min,),
    exp.Sum: (exp.Max, exp.Min),
    exp.Avg: (exp.Max, exp.Sum),
}
_OTHER_JOINS = {"": ("LEFT", "RIGHT"), "LEFT": ("", "FULL"), "FULL": ("LEFT", "RIGHT", "")}
_OTHER_UNITS = {"DAY": ("MONTH",), "MONTH": ("DAY", "YEAR")}
_UNWRAPPED = (exp.Not, exp.Abs, exp.Lower, exp.Cast, exp.Nullif, exp.Coalesce)
"""Expressions that are replaced by their first argument."""
_LISTS = {exp.In: "expressions", exp.Case: "ifs", exp.Order: "expressions"}
"""Expressions that lose one element of a list."""
_CLAUSES = {exp.Select: ("where", "qualify", "distinct"), exp.Case: ("default",)}
"""Expressions that lose a clause."""
_CONTEXT, _WIDTH = 12, 60
"""Characters of SQL in the description of a change: at least before the first difference, and at most in all."""


class Mutant(NamedTuple):
    """A cell with one change."""

    change: str
    sql: str


def derive_mutants(sql: str) -> list[Mutant]:
    """Return all mutants of a cell, each once. Descriptions that are equal have numbers."""
    tree = sqlglot.parse_one(sql, read="duckdb")
    found = {_to_sql(tree): ""}
    described: Counter[str] = Counter()
    for place, node in enumerate(tree.walk()):
        if _orders_result(node, tree):
            continue
        for other in _alternatives(node):
            mutated = _to_sql(_replace(tree, place, other))
            if mutated not in found:
                change = _describe(node, other)
                described[change] += 1
                found[mutated] = change if described[change] == 1 else f"{change} ({described[change]})"
    return [Mutant(change, mutated) for mutated, change in found.items() if change]


def format_query(sql: str) -> str:
    """Return a cell as it is without a change: in the format of its mutants."""
    return _to_sql(sqlglot.parse_one(sql, read="duckdb"))


def _replace(tree: exp.Expr, place: int, other: exp.Expr) -> exp.Expr:
    """Return a copy of a tree with another node at a place (of ``walk``)."""
    copy = tree.copy()
    node = next(each for number, each in enumerate(copy.walk()) if number == place)
    if node is copy:
        return other
    node.replace(other)
    return copy


def _alternatives(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield what replaces a node in a mutant."""
    for operator in _OTHER_OPERATORS.get(type(node), ()):
        yield exp.paren(operator(this=node.this.copy(), expression=node.expression.copy()))
    for aggregate in _OTHER_AGGREGATES.get(type(node), ()):
        yield aggregate(this=node.this.copy())
    if isinstance(node, _UNWRAPPED):
        yield exp.paren(node.this.copy())
    if isinstance(node, exp.Coalesce):
        yield exp.paren(node.expressions[0].copy())
    if isinstance(node, exp.Connector):
        yield exp.paren(node.left.copy())
        yield exp.paren(node.right.copy())
    if isinstance(node, exp.In) or _is_condition(node):
        yield exp.Not(this=exp.paren(node.copy()))
    if isinstance(node, exp.Literal):
        values = ["mutant"] if node.is_string else [str(Decimal(node.this) + 1), str(Decimal(node.this) - 1)]
        yield from (exp.Literal(this=value, is_string=node.is_string) for value in values)
    if isinstance(node, exp.Var):
        yield from (exp.var(unit) for unit in _OTHER_UNITS.get(node.name.upper(), ()))
    if isinstance(node, exp.Ordered):
        yield exp.Ordered(this=node.this.copy(), desc=not node.args.get("desc"))
    if isinstance(node, exp.Count) and isinstance(node.this, exp.Distinct):
        yield exp.Count(this=node.this.expressions[0].copy())
    if isinstance(node, exp.Join) and node.kind != "CROSS":
        yield from (_with(node, side=side) for side in _OTHER_JOINS[node.side])
    if isinstance(node, exp.Column):
        yield from _columns_of_same_type(node)
    yield from _drop_parts(node)


def _drop_parts(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield a node without one of its parts: an element of a list, a branch, a key, a clause."""
    name = _LISTS.get(type(node), "")
    parts = node.args.get(name) or []
    if len(parts) > 1:
        for place in range(len(parts)):
            yield _with(node, **{name: [*parts[:place], *parts[place + 1 :]]})
    if isinstance(node, exp.Window):
        keys = node.args.get("partition_by") or []
        for place in range(len(keys)):
            yield _with(node, partition_by=[*keys[:place], *keys[place + 1 :]])
    for clause in _CLAUSES.get(type(node), ()):
        if node.args.get(clause):
            yield _with(node, **{clause: None})


def _is_condition(node: exp.Expr) -> bool:
    """Return whether a node is a column that is a condition of its own, such as ``is_sold``."""
    if not isinstance(node, exp.Column):
        return False
    return isinstance(node.parent, (exp.Where, exp.Connector)) or (isinstance(node.parent, exp.If) and node.arg_key == "this")


def _columns_of_same_type(node: exp.Column) -> Iterator[exp.Expr]:
    """Yield the other columns of a type that the query reads from the same table."""
    query = node.find_ancestor(exp.Select)
    assert query is not None
    named = (each.name for each in query.find_all(exp.Column) if each.table == node.table)
    types = _column_types()
    for name in dict.fromkeys(named):
        if name != node.name and types.get(name) == types.get(node.name):
            yield exp.column(name, table=node.table or None)


@functools.cache
def _column_types() -> dict[str, str]:
    """Return the SQL types of the columns of all contracts by name. A name that no contract has is of no known type."""
    tables = [*load_tables("silver").values(), *load_tables("gold").values()]
    types = {name: table.type_of(name) for table in tables for name in table.columns}
    return {**types, "_source_file": "VARCHAR", "_row_number": "BIGINT"}


def _orders_result(node: exp.Expr, tree: exp.Expr) -> bool:
    """Return whether a node is in the last ORDER BY of a cell."""
    order = node if isinstance(node, exp.Order) else node.find_ancestor(exp.Order)
    return order is not None and order.parent is tree


def _with(node: exp.Expr, **arguments: object) -> exp.Expr:
    """Return a copy of a node with other arguments."""
    other = node.copy()
    for name, value in arguments.items():
        other.set(name, value)
    return other


def _to_sql(tree: exp.Expr) -> str:
    return tree.sql(dialect="duckdb")


def _describe(node: exp.Expr, other: exp.Expr) -> str:
    """Return where a change is (the CTE and the column) and the SQL before and after it, from the first difference on."""
    before, after = _to_sql(node), _to_sql(other)
    if isinstance(node, exp.Join):
        before, after = (f"{each.side} JOIN {each.this.sql()}".lstrip() for each in (node, other))
    same = next((place for place, pair in enumerate(zip(before, after)) if pair[0] != pair[1]), 0)
    start = before.rfind(" ", 0, max(same - _CONTEXT, 0)) + 1
    columns = [each for each in (node.find_ancestor(exp.CTE), node.find_ancestor(exp.Alias)) if each]
    where = ".".join(each.alias for each in columns) or "query"
    return f"{where}: {_shorten(before[start:])} -> {_shorten(after[start:])}"


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
