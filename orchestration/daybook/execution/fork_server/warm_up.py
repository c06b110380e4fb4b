"""What every job compiles, loads or works out when it does something for the first time: done once, before any is forked.

A job looks at the files of contracts and sources too, and takes over only what was made of the same bytes.

A job spends a fifth of a second less on its page and its search, and a kernel that draws a tenth: templates and patterns are
compiled, lexers and fonts loaded, Daybook's own words gathered. None of it starts a thread.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from datetime import date

import sqlglot
from nbformat import v4
from sqlglot.optimizer.qualify import qualify

from daybook.contracts import LAYERS, load_tables
from daybook.errors import DaybookError
from daybook.execution.attempt import read_notebook
from daybook.notebook import plots
from daybook.notebook.parameters import notebook_path
from daybook.privacy.redactor import Redactor
from daybook.privacy.run_values import common_words
from daybook.privacy.values import PersonalValues
from daybook.records.names import STAGES
from daybook.report.notebook_page import highlighted, render_notebook
from daybook.sources import load_source, source_names

_DAY = date(2000, 1, 1)
_CELLS = ("begin()  # nothing", "%%sql nothing\nSELECT 1 AS one FROM nothing WHERE two = 'three'")


def read_ahead() -> None:
    """Read contracts, sources and notebooks; what is wrong with them is told by whoever needs them."""
    with suppress(DaybookError):
        for layer in LAYERS:
            load_tables(layer)
    for name in source_names():
        with suppress(DaybookError):
            load_source(name)
    for stage in STAGES:
        with suppress(OSError, ValueError, DaybookError):
            for cell in read_notebook(notebook_path(stage)).cells:
                if cell.cell_type == "code":
                    highlighted(cell.source)


def rehearse() -> None:
    """Search and render a notebook with nothing in it, parse a query, draw a figure."""
    common_words()
    figure, size = plots.top_categories([("nothing", 1)], day=_DAY, currency="EUR")._repr_mimebundle_()
    shown = {"image/png": b64encode(figure["image/png"]).decode(), "text/html": "<table><tr><td>1</td></tr></table>"}
    output = v4.new_output("display_data", shown, metadata=size)
    cells = [v4.new_code_cell(source, outputs=[output, v4.new_output("stream", text="nothing")]) for source in _CELLS]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# Nothing\n`nothing`"), *cells])
    values = PersonalValues()
    values.add("email", "email", ["nobody@example.com"])
    redactor = Redactor(values)
    redactor.notebook(notebook)
    record = {"stage": "ingest", "attempt": 1, "run_date": _DAY.isoformat(), "outcome": "SUCCEEDED", "failure": None}
    redactor.text(render_notebook(notebook, title="Nothing", record=record), exactly=True)
    plots.daily_revenue([(_DAY, 1)], day=_DAY, currency="EUR")._repr_mimebundle_()
    qualify(sqlglot.parse_one(_CELLS[1].partition("\n")[2], read="duckdb"), dialect="duckdb", validate_qualify_columns=False)
