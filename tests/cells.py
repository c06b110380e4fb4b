"""Read the SQL cells of the stage notebooks, with settings filled in."""

from __future__ import annotations

import re

import nbformat

from daybook.notebook.parameters import notebook_path
from daybook.sources.mapping import literal


def load_sql_cells(stage: str, *, returns_count_on: str = "order_date") -> dict[str, str]:
    """Return the SQL of the ``%%sql`` cells of a stage's notebook, by name."""
    settings = {"returns_count_on": returns_count_on}
    found = {}
    for cell in nbformat.read(notebook_path(stage), as_version=4).cells:
        matched = re.match(r"%%sql +([a-z][a-z_.]*)[^\n]*\n(.*)", cell.source, re.DOTALL)
        if cell.cell_type == "code" and matched:
            sql = re.sub(r"\{\{ stage\.settings\.(\w+) \}\}", lambda found: literal(settings[found[1]]), matched[2])
            found[matched[1]] = sql.strip()
    return found
