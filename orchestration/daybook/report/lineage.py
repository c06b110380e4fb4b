"""Render a run's lineage: a diagram of its tables, and a list of the sources of each column."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from markupsafe import Markup

from daybook.lake.lineage import graph
from daybook.report.pages import render_page

LAYERS = ("bronze", "silver", "gold")
WIDTH = 960
_BOX_WIDTH, _BOX_HEIGHT, _GAP, _HEADING_HEIGHT = 190, 26, 10, 34


@dataclass(frozen=True)
class Box:
    """One table in the diagram. ``number`` identifies it in the page; ``x`` and ``y`` are its upper left corner in pixels."""

    number: int
    table: str
    label: str
    x: int
    y: int
    width: int = _BOX_WIDTH
    height: int = _BOX_HEIGHT
    described: bool = False


@dataclass(frozen=True)
class Edge:
    """A table that another one reads. ``near`` are the numbers of the boxes whose lineage contains this edge."""

    path: str
    values: bool
    near: Tuple[int, ...]


@dataclass(frozen=True)
class ColumnSources:
    """The sources of one column: of its values, of conditions on them, and the bronze columns that its values come from."""

    name: str
    values: Tuple[str, ...]
    decided_by: Tuple[str, ...]
    in_bronze: Tuple[str, ...]


@dataclass(frozen=True)
class TableSources:
    """One table: the columns that select its rows, and its own columns."""

    number: int
    table: str
    rows: Tuple[str, ...]
    columns: Tuple[ColumnSources, ...]


@dataclass(frozen=True)
class Diagram:
    """The tables by layer, from bronze on the left to gold on the right. Sizes are in pixels."""

    width: int
    height: int
    boxes: Tuple[Box, ...]
    lines: Tuple[Edge, ...]


def render_lineage(lineage: Optional[graph.Lineage]) -> Markup:
    """Return the lineage section of a run's page, empty if the run has no lineage."""
    if not lineage:
        return Markup()
    # Runs of the same code have the same lineage: the cache saves most of the time for a site of hundreds of runs.
    return _render_section(json.dumps(lineage))


@lru_cache(maxsize=16)
def _render_section(text: str) -> Markup:
    lineage: Dict[str, Any] = json.loads(text)
    diagram = build_diagram(lineage)
    numbers = {box.table: box.number for box in diagram.boxes}
    tables = [table for layer in reversed(LAYERS) for table in lineage if _table_layer(table) == layer]
    described = [describe_table(lineage, table, numbers[table]) for table in tables]
    # The template escapes the values of the record.
    return Markup(render_page("lineage", diagram=diagram, tables=described, heads=_layer_headings(diagram)))  # noqa: S704


def describe_table(lineage: graph.Lineage, table: str, number: int) -> TableSources:
    """Return the sources of one table and of its columns."""
    return TableSources(
        number=number,
        table=table,
        rows=tuple(lineage[table]["rows"]),
        columns=tuple(_describe_column(lineage, table, name) for name in lineage[table]["columns"]),
    )


def _describe_column(lineage: graph.Lineage, table: str, name: str) -> ColumnSources:
    sources: Mapping[str, Sequence[str]] = lineage[table]["columns"][name]
    values = [source for source, kinds in sources.items() if graph.is_direct(kinds)]
    traced = graph.trace_sources(lineage, f"{table}.{name}")
    bronze = [source for source, kinds in traced.items() if _table_layer(source) == "bronze" and graph.is_direct(kinds)]
    return ColumnSources(
        name=name,
        values=tuple(values),
        decided_by=tuple(source for source in sources if source not in values),
        in_bronze=tuple(sorted(bronze)),
    )


def build_diagram(lineage: graph.Lineage) -> Diagram:
    """Place every table of the lineage. In its layer, a table is near those that it is connected to."""
    edges = {
        (source, table): _is_value_source(lineage, source, table)
        for table in lineage
        for source in graph.list_source_tables(lineage, table)
        if _table_layer(source) in LAYERS
    }
    tables = sorted({*lineage, *(source for source, _ in edges)})
    columns = _order_tables({layer: [table for table in tables if _table_layer(table) == layer] for layer in LAYERS}, edges)
    tallest = max(len(column) for column in columns.values())
    height = _HEADING_HEIGHT + tallest * (_BOX_HEIGHT + _GAP)
    boxes: Dict[str, Box] = {}
    for place, layer in enumerate(LAYERS):
        x = 2 + place * (WIDTH - 4 - _BOX_WIDTH) // (len(LAYERS) - 1)
        free = (height - _HEADING_HEIGHT) / max(len(columns[layer]), 1)
        for index, table in enumerate(columns[layer]):
            y = round(_HEADING_HEIGHT + free * (index + 0.5) - _BOX_HEIGHT / 2)
            label = table.partition(".")[2]
            boxes[table] = Box(len(boxes), table, label, x, y, described=table in lineage)
    lines = [
        Edge(_edge_path(boxes[source], boxes[table]), values, _connected_boxes(source, table, edges, boxes))
        for (source, table), values in sorted(edges.items(), key=lambda edge: edge[1])  # edges of values are drawn on top
    ]
    return Diagram(WIDTH, height, tuple(boxes.values()), tuple(lines))


def _layer_headings(diagram: Diagram) -> List[Tuple[str, int]]:
    """Return the name of each layer and the middle of its column in pixels."""
    middles = {_table_layer(box.table): box.x + box.width // 2 for box in diagram.boxes}
    return list(middles.items())


def _table_layer(name: str) -> str:
    return name.split(".")[0]


def _is_value_source(lineage: graph.Lineage, source: str, table: str) -> bool:
    """Return whether values of ``source`` are in ``table``. If not, it only selects rows or chooses values."""
    return any(
        graph.is_direct(kinds)
        for sources in lineage[table]["columns"].values()
        for column, kinds in sources.items()
        if graph.split_column(column)[0] == source
    )


def _order_tables(columns: Dict[str, List[str]], edges: Iterable[Tuple[str, str]]) -> Dict[str, List[str]]:
    """Return each layer in an order with few crossings.

    Tables are sorted by the mean position of their neighbours (the barycenter heuristic), in sweeps from left to right and
    back.
    """
    neighbours: Dict[str, Set[str]] = defaultdict(set)
    for source, table in edges:
        neighbours[source].add(table)
        neighbours[table].add(source)
    sweeps = [("silver", "bronze"), ("gold", "silver"), ("silver", "gold"), ("bronze", "silver")]
    for layer, beside in [*sweeps, *sweeps, *sweeps]:
        places = {table: (index + 0.5) / len(columns[beside]) for index, table in enumerate(columns[beside])}

        def mean_position(table: str, places: Dict[str, float] = places) -> float:
            found = [places[other] for other in neighbours[table] if other in places]
            return fsum(found) / len(found) if found else 1.0  # A plain sum depends on the order of the set.

        columns[layer] = sorted(columns[layer], key=lambda table: (mean_position(table), table))
    return columns


def _edge_path(source: Box, table: Box) -> str:
    x1, y1, y2 = source.x + source.width, source.y + source.height // 2, table.y + table.height // 2
    if source.x == table.x:  # Within a layer the edge is an arc on the right.
        return f"M{x1} {y1} C{x1 + 46} {y1} {x1 + 46} {y2} {x1} {y2}"
    middle = (x1 + table.x) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {table.x} {y2}"


def _connected_boxes(source: str, table: str, edges: Iterable[Tuple[str, str]], boxes: Mapping[str, Box]) -> Tuple[int, ...]:
    """Return the boxes that are upstream or downstream of an edge, over any number of edges."""
    known = list(edges)
    before, after = {source}, {table}
    for _ in LAYERS:
        before |= {left for left, right in known if right in before}
        after |= {right for left, right in known if left in after}
    return tuple(sorted(boxes[name].number for name in before | after))
