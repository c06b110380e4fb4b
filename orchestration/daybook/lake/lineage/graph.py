"""Lineage as records hold it, and the walk through it: from a gold column to silver to bronze.

    {"gold.daily_sales": {
        "rows": {"silver.orders.order_date": ["FILTER", "GROUP_BY"]},              # which rows there are
        "columns": {"units": {"silver.order_items.quantity": ["AGGREGATION"],      # what a column's values come from
                              "silver.orders.status": ["CONDITIONAL"]}}}}

Kinds and their names are those of OpenLineage's columnLineage facet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daybook.contracts.columns import column_key, find_column
from daybook.errors import UsageError
from daybook.records.models import AttemptRecord, StageDetails

DIRECT_KINDS = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
"""The source's values are in the column's, from the closest to the farthest."""
INDIRECT_KINDS = ("CONDITIONAL", "WINDOW", "JOIN", "FILTER", "GROUP_BY", "SORT")
"""The source's values only decide which values or rows there are."""

Sources = dict[str, set[str]]
"""The kinds of dependence by source column, ``silver.orders.status``."""
Lineage = Mapping[str, Mapping[str, Any]]
"""What a run's record holds under ``lineage``, by table."""


def combine_kinds(inner: Iterable[str], outer: str) -> set[str]:
    """The kinds of a path: what a query does (``outer``) with a column that itself has a source in the ``inner`` kinds.

    Once indirect, always indirect; an aggregate of a computed value is an aggregate.
    """
    found = set()
    for kind in inner:
        if kind in INDIRECT_KINDS:
            found.add(kind)
        elif outer in INDIRECT_KINDS:
            found.add(outer)
        else:
            found.add(max(kind, outer, key=DIRECT_KINDS.index))
    return found


def add_sources(sources: Sources, more: Mapping[str, Iterable[str]], outer: str = "IDENTITY") -> None:
    """Add dependences to ``sources``, seen through ``outer``."""
    for name, kinds in more.items():
        sources.setdefault(name, set()).update(combine_kinds(kinds, outer))


def collect_lineage(attempts: Iterable[AttemptRecord], order: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The lineage of a run, from what its attempts left in their details; the last attempt that knows a table counts.

    ``order`` gives the columns of tables in the order in which they are to stand.
    """
    found: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        for table, entry in attempt.details.lineage.items():
            known = {column_key(name): (name, sources) for name, sources in entry["columns"].items()}
            # A query may write a column in another case than its contract.
            ordered = {column_key(name): name for name in order.get(table, ())}
            columns = {name: known[key][1] for key, name in ordered.items() if key in known}
            columns.update(each for key, each in known.items() if key not in ordered)
            found[table] = {"rows": entry["rows"], "columns": columns}
    return found


def without_lineage(attempt: AttemptRecord) -> AttemptRecord:
    """Return an attempt's record as a run's record holds it: the run has the lineage of all its stages in one place."""
    details = attempt.details.model_dump(exclude={"lineage"}, exclude_unset=True, by_alias=True)
    return attempt.changed(details=StageDetails.model_validate(details))


def find_sources(lineage: Lineage, column: str) -> Sources:
    """What ``gold.daily_sales.units`` depends on in the tables its query reads: values first, then what decides rows.

    Empty for a column of a table whose query the lineage does not hold, such as bronze.
    """
    table, name = split_column(column)
    if table not in lineage:
        return {}
    columns = lineage[table]["columns"]
    known = find_column(columns, name)
    if known is None:
        raise UsageError(f"{table} has no column {name!r}; its columns are: {', '.join(columns)}.")
    found: Sources = {}
    add_sources(found, columns[known])
    add_sources(found, lineage[table]["rows"])
    return found


def trace_sources(lineage: Lineage, column: str) -> Sources:
    """Everything that a column depends on, through all tables down to those that no query of the run defines."""
    found: Sources = {}
    frontier = find_sources(lineage, column)
    while frontier:
        further: Sources = {}
        for name, kinds in frontier.items():
            new = kinds - found.get(name, set())
            if not new:
                continue
            found.setdefault(name, set()).update(new)
            for kind in new:
                add_sources(further, find_sources(lineage, name), kind)
        frontier = further
    return found


def is_direct(kinds: Iterable[str]) -> bool:
    """Whether values of the source are in the column's values."""
    return any(kind in DIRECT_KINDS for kind in kinds)


def split_column(column: str) -> tuple[str, str]:
    """Table and name of ``silver.orders.status``; the table may have no layer."""
    table, _, name = column.rpartition(".")
    return table, name


def list_source_tables(lineage: Lineage, table: str) -> list[str]:
    """The tables that the query of ``table`` reads a column of, in the order of their names."""
    entry = lineage[table]
    columns = [*entry["rows"], *(source for sources in entry["columns"].values() for source in sources)]
    return sorted({split_column(column)[0] for column in columns})
