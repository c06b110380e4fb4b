"""Store lineage in records, and trace a gold column to silver and bronze.

    {"gold.daily_sales": {
        "rows": {"silver.orders.order_date": ["FILTER", "GROUP_BY"]},              # what the set of rows depends on
        "columns": {"units": {"silver.order_items.quantity": ["AGGREGATION"],      # what a column depends on
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
"""Kinds in which values of the source are part of the column's values, from the closest to the farthest."""
INDIRECT_KINDS = ("CONDITIONAL", "WINDOW", "JOIN", "FILTER", "GROUP_BY", "SORT")
"""Kinds in which the source only affects which values or rows exist."""

Sources = dict[str, set[str]]
"""Kinds of dependence by source column (``silver.orders.status``)."""
Lineage = Mapping[str, Mapping[str, Any]]
"""The value of ``lineage`` in a run's record, by table."""


def combine_kinds(inner: Iterable[str], outer: str) -> set[str]:
    """Return the kinds of a path: of a column's source (``inner``), through a query that uses the column (``outer``).

    A path with an indirect kind is indirect. An aggregate of a computed value is an aggregate.
    """
    if outer in INDIRECT_KINDS:
        return {kind if kind in INDIRECT_KINDS else outer for kind in inner}
    return {kind if kind in INDIRECT_KINDS else max(kind, outer, key=DIRECT_KINDS.index) for kind in inner}


def add_sources(sources: Sources, more: Mapping[str, Iterable[str]], outer: str = "IDENTITY") -> None:
    """Add dependences to ``sources``, combined with the kind ``outer``."""
    for name, kinds in more.items():
        sources.setdefault(name, set()).update(combine_kinds(kinds, outer))


def collect_lineage(attempts: Iterable[AttemptRecord], order: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return the lineage of a run.

    Parameters
    ----------
    attempts
        Records of the run's attempts, with ``lineage`` in their details. For each table the last attempt with it counts.
    order
        The columns of tables in the order of the result.
    """
    found: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        for table, entry in attempt.details.lineage.items():
            known = {column_key(name): (name, sources) for name, sources in entry["columns"].items()}
            # A query can write a column in another case than the contract.
            ordered = {column_key(name): name for name in order.get(table, ())}
            columns = {name: known[key][1] for key, name in ordered.items() if key in known}
            columns.update(each for key, each in known.items() if key not in ordered)
            found[table] = {"rows": entry["rows"], "columns": columns}
    return found


def without_lineage(attempt: AttemptRecord) -> AttemptRecord:
    """Return an attempt's record without its lineage, which the run's record has for all stages."""
    details = attempt.details.model_dump(exclude={"lineage"}, exclude_unset=True, by_alias=True)
    return attempt.changed(details=StageDetails.model_validate(details))


def find_sources(lineage: Lineage, column: str) -> Sources:
    """Return what a column (``gold.daily_sales.units``) depends on in the tables that its query reads.

    Sources of its values come first, then those of its table's rows. Empty for a table without a query, such as bronze.
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
    """Return everything that a column depends on, down to the tables that no query of the run defines."""
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
    """Return whether values of the source are part of the column's values."""
    return any(kind in DIRECT_KINDS for kind in kinds)


def split_column(column: str) -> tuple[str, str]:
    """Return the table and the name of ``silver.orders.status``; the table can lack a layer."""
    table, _, name = column.rpartition(".")
    return table, name


def list_source_tables(lineage: Lineage, table: str) -> list[str]:
    """Return the tables whose columns the query of ``table`` reads, sorted by name."""
    entry = lineage[table]
    columns = [*entry["rows"], *(source for sources in entry["columns"].values() for source in sources)]
    return sorted({split_column(column)[0] for column in columns})
