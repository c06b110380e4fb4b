"""Read the SQL cells of the stage notebooks, with values filled in, for tests that run them without a session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbformat

from daybook.notebook.magic import bind_values, named_values
from daybook.notebook.parameters import notebook_path
from daybook.sources.mapping import literal

_SQL_CELL = re.compile(r"%%sql(?: +(?P<name>[a-z][a-z_.]*))?(?P<options>[^\n]*)\n(?P<sql>.*)", re.DOTALL)


def load_sql_cells(stage: str, *, returns_count_on: str = "order_date") -> dict[str, str]:
    """Return what the ``%%sql`` cells of a stage's notebook define, by name, with one setting filled in."""
    return {
        found["name"]: found["sql"].replace("$returns_count_on", literal(returns_count_on)).strip()
        for found in _match_sql_cells(stage)
        if found["name"]
    }


def define_sql_cells(stage: Any, notebook: str, **variables: Any) -> dict[str, Any]:
    """Define the queries of a notebook's named ``%%sql`` cells in an open stage, and return its DataFrames by name.

    Code cells do not run; ``variables`` are what they would assign.
    """
    frames: dict[str, Any] = {}
    for found in _match_sql_cells(notebook):
        assigned = {**variables, **frames, "stage": stage}
        values = named_values(stage.settings, stage.run_date, stage.until, assigned)
        sql = bind_values(found["sql"], values, lambda text, names=assigned: eval(text, names))  # noqa: S307
        if found["name"]:
            stage.engine.define(found["name"], sql)
            stage.definitions[found["name"]] = sql
        frame = re.search(r"--as +(\w+)", found["options"])
        if frame:
            frames[frame[1]] = stage.engine.query(sql).df()
    return frames


def _match_sql_cells(notebook: str) -> Iterator[re.Match[str]]:
    for cell in nbformat.read(notebook_path(notebook), as_version=4).cells:
        found = _SQL_CELL.match(cell.source)
        if cell.cell_type == "code" and found:
            yield found
