"""Compare the sources of two notebooks, cell by cell; outputs, ids and metadata are never compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Optional

from daybook.notebook.sql_cells import read_definition

if TYPE_CHECKING:
    from nbformat import NotebookNode

_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_CONTEXT_LINES = 3


@dataclass(frozen=True)
class CellChange:
    """A changed cell: its source before and after, None where it does not exist."""

    heading: str
    """The markdown heading that the cell is under; empty without one."""
    kind: str
    """``markdown`` or ``code``."""
    before: Optional[str]
    after: Optional[str]
    moved: bool = False
    """Whether the same source was removed and added elsewhere in the notebook."""

    @property
    def source(self) -> str:
        """The newest source of the cell."""
        return self.before or "" if self.after is None else self.after

    @property
    def defines(self) -> str:
        """The name that a ``%%sql`` cell defines; empty for other cells."""
        return read_definition(self.source)[0] if self.kind == "code" else ""

    def lines(self) -> list[str]:
        """Return the lines of a unified diff, without its header."""
        before, after = ((text or "").splitlines() for text in (self.before, self.after))
        context = _CONTEXT_LINES if self.before is not None and self.after is not None else 0
        return list(unified_diff(before, after, lineterm="", n=context))[2:]


def diff_notebooks(before: Optional[NotebookNode], after: Optional[NotebookNode]) -> list[CellChange]:
    """Return the changed cells in the order of the notebook; None is a notebook that does not exist."""
    old, new = _list_cells(before), _list_cells(after)
    changes = []
    for was, now in _pair_changed_cells(old, new):
        cells, position = (old, was) if now is None else (new, now)
        change = CellChange(
            heading=_find_heading(cells, position or 0),
            kind=cells[position or 0]["cell_type"],
            before=None if was is None else old[was]["source"],
            after=None if now is None else new[now]["source"],
        )
        if change.before != change.after:
            changes.append(change)
    return list(_join_moves(changes))


def _list_cells(notebook: Optional[NotebookNode]) -> list[dict[str, Any]]:
    """Return what identifies the cells of a notebook, and their sources."""
    return [
        {"cell_type": cell.cell_type, "source": cell.source, "outputs": [], **({"id": cell.id} if "id" in cell else {})}
        for cell in (notebook.cells if notebook else [])
    ]


def _pair_changed_cells(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[tuple[Optional[int], Optional[int]]]:
    """Yield the positions of changed cells before and after, as nbdime pairs them: by id, else by similar sources."""
    from nbdime import diff_notebooks as diff
    from nbdime.diff_format import DiffOp

    shift = 0
    for each in (each for entry in diff({"cells": old}, {"cells": new}) for each in entry.diff):
        if each.op == DiffOp.PATCH:
            yield each.key, each.key + shift
        elif each.op == DiffOp.REMOVERANGE:
            yield from ((each.key + number, None) for number in range(each.length))
            shift -= each.length
        else:
            yield from ((None, each.key + shift + number) for number in range(len(each.valuelist)))
            shift += len(each.valuelist)


def _find_heading(cells: list[dict[str, Any]], position: int) -> str:
    """Return the first heading in a cell, else the last one above it."""
    own = _HEADING.search(cells[position]["source"]) if cells[position]["cell_type"] == "markdown" else None
    if own:
        return own[1]
    above = [
        found for cell in cells[:position] if cell["cell_type"] == "markdown" for found in _HEADING.findall(cell["source"])
    ]
    return above[-1] if above else ""


def _join_moves(changes: list[CellChange]) -> Iterator[CellChange]:
    """Replace a removed and an added cell of the same source by one cell that was moved."""
    moved = {(each.kind, each.before) for each in changes if each.after is None}
    moved &= {(each.kind, each.after) for each in changes if each.before is None}
    for each in changes:
        if (each.kind, each.source) not in moved:
            yield each
        elif each.before is None:
            yield replace(each, before=each.after, moved=True)
