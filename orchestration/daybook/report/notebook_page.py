"""Render an executed notebook as one HTML page.

nbconvert colours code and terminal output and renders Markdown here, but its ``HTMLExporter`` with ``sanitize_html`` does not
make the page. It escapes headings and table headers (``&lt;h1&gt;``), shows the style sheet of pandas' tables as text and every
step of a progress bar, and takes 0.3 s a page. Its templates with a style sheet load scripts from the network.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from markupsafe import Markup
from nbconvert.filters.ansi import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbformat import NotebookNode

from daybook.records.mime import IMAGE_TYPES
from daybook.records.models import AttemptRecord, Failure
from daybook.report import formats, records
from daybook.report.active_content import join_lines, remove_active_content
from daybook.report.pages import render_page
from daybook.report.sanitize import render_markdown

# papermill adds a cell with a remark about an exception. The page has a box for exceptions.
_PAPERMILL_ERROR_TAG = "papermill-error-cell-tag"
_PIXEL_SIZE = re.compile(r"[1-9][0-9]{0,4}")
_OVERWRITTEN_LINE = re.compile(r"^.*\r(?!\n|$)", re.MULTILINE)  # an earlier state of a progress bar
_SQL_MAGIC = "%%sql"


@dataclass(frozen=True)
class Output:
    """One output. ``kind`` is stdout, stderr, error, text, html, picture or note; it selects the style."""

    kind: str
    body: Markup


@dataclass(frozen=True)
class Cell:
    """One cell of the page. ``kind`` is markdown, code, parameters or raw."""

    anchor: str
    kind: str
    label: str
    body: Markup
    outputs: Tuple[Output, ...] = ()
    seconds: Optional[float] = None
    failed: bool = False


def render_notebook(
    nb: NotebookNode, *, title: str, record: AttemptRecord, search: Callable[[List[str]], List[str]] = lambda texts: texts
) -> str:
    """Return the page of one attempt: one file that runs no script and loads nothing.

    Parameters
    ----------
    nb
        The executed notebook (format 4), already searched for personal data. It is not changed.
    title
        The shop's title.
    record
        The attempt's record. What it does not hold is shown as ``–``.
    search
        Returns texts without personal data. It gets the HTML that was made of the notebook's own markup, because sanitizing
        can join a value that a comment or an unknown element has split.

    Returns
    -------
    str
        The HTML document. The same notebook and record give the same page.

    Raises
    ------
    ArchiveError
        If the record holds an invalid time.
    """
    notebook = copy.deepcopy(nb)
    remove_active_content(notebook)
    cells = _redact_cells(list(_render_cells(notebook, record.failure)), search)
    return render_page(
        "notebook",
        title=title,
        record=record,
        day=_format_dates(record),
        outcome=records.outcome_of(record),
        failure=record.failure,
        failed_anchor=next((cell.anchor for cell in cells if cell.failed), None),
        has_code=any(cell.kind == "code" for cell in cells),
        cells=cells,
    )


def _format_dates(record: AttemptRecord) -> str:
    days = [formats.format_long_date(day) for day in (record.run_date, record.until) if day]
    return " to ".join(days) or formats.UNKNOWN


def _render_cells(notebook: NotebookNode, failure: Optional[Failure]) -> Iterator[Cell]:
    for index, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if _PAPERMILL_ERROR_TAG in tags or not (cell.source.strip() or cell.get("outputs")):
            continue
        if failure and "index" in failure.model_fields_set:
            failed = index == failure.index
        else:  # Records of earlier releases do not hold the index.
            failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        yield _render_cell(cell, f"cell-{index}", tags, failed=failed)


def _redact_cells(cells: List[Cell], search: Callable[[List[str]], List[str]]) -> List[Cell]:
    """Return the cells with the HTML of their own markup searched for personal data."""
    own = [cell.body for cell in cells if cell.kind == "markdown"]
    own += [output.body for cell in cells for output in cell.outputs if output.kind == "html"]
    clean = {body: Markup(text) for body, text in zip(own, search([str(body) for body in own]))}  # noqa: S704 - sanitized before
    return [
        replace(
            cell,
            body=clean.get(cell.body, cell.body),
            outputs=tuple(replace(output, body=clean.get(output.body, output.body)) for output in cell.outputs),
        )
        for cell in cells
    ]


def _render_cell(cell: NotebookNode, anchor: str, tags: List[str], *, failed: bool) -> Cell:
    if cell.cell_type == "markdown":
        return Cell(anchor, "markdown", "", render_markdown(cell.source, cell.get("attachments")))
    if cell.cell_type != "code":
        return Cell(anchor, "raw", "", Markup("<pre>{}</pre>").format(cell.source))
    kind, label = "code", f"[{cell.execution_count}]" if cell.execution_count else "not run"
    if "injected-parameters" in tags:
        kind, label = "parameters", "Parameters of this run"
    elif "parameters" in tags:
        kind, label = "parameters", "Default parameters"
    return Cell(
        anchor=anchor,
        kind=kind,
        label=label,
        body=highlight_source(cell.source),
        outputs=tuple(_render_outputs(cell)),
        seconds=(cell.metadata.get("papermill") or {}).get("duration") if kind == "code" else None,
        failed=failed,
    )


@lru_cache(maxsize=1)
def _highlighter() -> Highlight2HTML:
    return Highlight2HTML(pygments_lexer="ipython3")  # type: ignore[no-untyped-call]


@lru_cache(maxsize=256)
def highlight_source(source: str) -> Markup:
    """Return the source of a cell as coloured HTML. A ``%%sql`` cell is SQL below its first line."""
    magic, _, rest = source.partition("\n")
    if magic.startswith(_SQL_MAGIC) and rest.strip():
        first = Markup('<div class="magic">{}</div>').format(magic)
        return first + Markup(_highlighter()(rest, language="sql"))  # noqa: S704 - Pygments escapes the source
    return Markup(_highlighter()(source))  # noqa: S704 - Pygments escapes the source


def _render_outputs(cell: NotebookNode) -> Iterator[Output]:
    # Only streams have a name. A cell may print one stream in several pieces.
    for stream, outputs in groupby(cell.outputs, key=lambda output: output.get("name")):
        if stream:
            yield _render_terminal(stream, "".join(join_lines(output.text) for output in outputs))
            continue
        for output in outputs:
            if output.output_type == "error":
                traceback = "\n".join(output.get("traceback") or []) or f"{output.ename}: {output.evalue}"
                yield _render_terminal("error", traceback)
            else:
                yield _render_display_data(output.data, output.get("metadata") or {})


def _render_terminal(kind: str, text: str) -> Output:
    """Render text as a terminal shows it: with colours, and without the lines that later ones overwrote."""
    shown = _OVERWRITTEN_LINE.sub("", text.replace("\r\n", "\n")).rstrip("\r\n")
    coloured = Markup(ansi2html(shown))  # type: ignore[no-untyped-call]  # noqa: S704 - ansi2html escapes the text
    return Output(kind, Markup("<pre>{}</pre>").format(coloured))


def _render_display_data(data: Dict[str, Any], metadata: Mapping[str, Any]) -> Output:
    """Render the first representation that the page can show. Nothing in it is active any more."""
    if "text/html" in data:
        return Output("html", Markup(data["text/html"]))  # noqa: S704 - sanitized with the notebook
    if "text/markdown" in data:
        return Output("html", render_markdown(data["text/markdown"]))
    for mime in IMAGE_TYPES:
        if mime in data:
            return Output("picture", _render_image(mime, data[mime], metadata.get(mime) or {}))
    if "application/json" in data:
        text = json.dumps(data["application/json"], indent=2, ensure_ascii=False)
        return Output("text", Markup("<pre>{}</pre>").format(text))
    for mime in ("text/plain", "text/latex"):
        if mime in data:
            return _render_terminal("text", data[mime])
    return Output("note", Markup('<span class="left-out">[output left out: {}]</span>').format(", ".join(sorted(data))))


def _render_image(mime: str, encoded: str, about: Mapping[str, Any]) -> Markup:
    size = [(side, str(about.get(side, ""))) for side in ("width", "height")]
    sides = Markup("").join(Markup(' {}="{}"').format(*side) for side in size if _PIXEL_SIZE.fullmatch(side[1]))
    source = f"data:{mime};base64,{''.join(encoded.split())}"
    return Markup('<img src="{}" alt="{}"{}>').format(source, str(about.get("alt") or "Plot"), sides)
