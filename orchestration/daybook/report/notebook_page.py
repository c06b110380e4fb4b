"""One executed notebook as one readable HTML page: what was found in front, the code that found it in plain sight."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Callable, List, Mapping, Optional, Tuple

from markupsafe import Markup
from nbconvert.filters.ansi import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbformat import NotebookNode

from daybook.report import formats, records
from daybook.report.pages import render_page
from daybook.report.records import Record
from daybook.report.sanitize import has_visible_content, render_markdown, sanitize_html

# papermill's own remark about an exception; the page has a box for that.
_PAPERMILL_ERROR_TAG = "papermill-error-cell-tag"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_PIXEL_SIZE = re.compile(r"[1-9][0-9]{0,4}\Z")
_OVERWRITTEN_LINE = re.compile(r"^.*\r(?!\n|$)", re.MULTILINE)  # what a progress bar drew and then drew over
_SQL_MAGIC = "%%sql"


@dataclass(frozen=True)
class Output:
    """One output. ``kind`` is stdout, stderr, error, text, html, picture or note, and names its look."""

    kind: str
    body: Markup


@dataclass(frozen=True)
class Cell:
    """One cell as the page shows it. ``kind`` is markdown, code, parameters or raw."""

    anchor: str
    kind: str
    label: str
    body: Markup
    outputs: Tuple[Output, ...] = ()
    seconds: Optional[float] = None
    failed: bool = False


def render_notebook(
    nb: NotebookNode, *, title: str, record: Record, search: Callable[[List[str]], List[str]] = lambda texts: texts
) -> str:
    """The page of one attempt, complete in one file: no script runs in it and nothing is fetched for it.

    Parameters
    ----------
    nb
        The executed notebook (format 4), already searched for personal data. It is not changed.
    title
        The shop's title.
    record
        The attempt's record; what it does not hold is shown as ``–``.
    search
        Removes personal data from HTML that was made of the notebook's own markup: making it safe can join a value that
        a comment or an unknown element has split.

    Returns
    -------
    str
        The HTML document; the same for the same notebook and record.

    Raises
    ------
    ArchiveError
        If the record holds a date, a time or an outcome that cannot be one.
    """
    cells = _redact_cells(_render_cells(nb, record.get("failure") or {}), search)
    return render_page(
        "notebook",
        title=title,
        record=record,
        day=formats.format_long_date(formats.parse_business_date(record.get("run_date"))),
        outcome=records.outcome_of(record),
        failure=record.get("failure"),
        failed_anchor=next((cell.anchor for cell in cells if cell.failed), None),
        has_code=any(cell.kind == "code" for cell in cells),
        cells=cells,
    )


def _render_cells(nb: NotebookNode, failure: Mapping[str, Any]) -> List[Cell]:
    cells = []
    for index, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        if _PAPERMILL_ERROR_TAG not in tags and (cell.source.strip() or cell.get("outputs")):
            if "index" in failure:
                failed = index == failure["index"]
            else:  # Records of earlier releases do not tell the index.
                failed = any(output.output_type == "error" for output in cell.get("outputs", []))
            cells.append(_render_cell(cell, f"cell-{index}", tags, failed=failed))
    return cells


def _redact_cells(cells: List[Cell], search: Callable[[List[str]], List[str]]) -> List[Cell]:
    """Return the cells with their own markup searched."""
    own = [cell.body for cell in cells if cell.kind == "markdown"]
    own += [output.body for cell in cells for output in cell.outputs if output.kind == "html"]
    clean = {body: Markup(text) for body, text in zip(own, search([str(body) for body in own]))}  # noqa: S704 - it was safe before
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
        kind, label = "parameters", "Parameters, with their defaults"
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
    """Source as the page shows it; a ``%%sql`` cell as SQL below its first line."""
    magic, _, rest = source.partition("\n")
    if magic.startswith(_SQL_MAGIC) and rest.strip():
        first = Markup('<div class="magic">{}</div>').format(magic)
        return first + Markup(_highlighter()(rest, language="sql"))  # noqa: S704 - Pygments escapes the source
    return Markup(_highlighter()(source))  # noqa: S704 - Pygments escapes the source


def _render_outputs(cell: NotebookNode) -> List[Output]:
    outputs: List[Output] = []
    stream: Optional[str] = None
    text = ""
    for output in cell.outputs:
        name = output.name if output.output_type == "stream" else None
        if stream and name != stream:
            outputs.append(_render_terminal(stream, text))
            text = ""
        stream = name
        if name:
            text += _join_lines(output.text)
        elif output.output_type == "error":
            said = "\n".join(output.get("traceback") or []) or f"{output.ename}: {output.evalue}"
            outputs.append(_render_terminal("error", said))
        else:
            outputs.append(_render_display_data(output))
    if stream:
        outputs.append(_render_terminal(stream, text))
    return outputs


def _render_terminal(kind: str, text: str) -> Output:
    """Text as a terminal would leave it: colours kept, lines that were drawn over gone."""
    shown = _OVERWRITTEN_LINE.sub("", text.replace("\r\n", "\n")).rstrip("\r\n")
    coloured = Markup(ansi2html(shown))  # type: ignore[no-untyped-call]  # noqa: S704 - ansi2html escapes the text
    return Output(kind, Markup("<pre>{}</pre>").format(coloured))


def _render_display_data(output: NotebookNode) -> Output:
    """The first representation of a displayed value that leaves something to see on a still page."""
    data, metadata = output.data, output.get("metadata") or {}
    if "text/html" in data:
        html = sanitize_html(_join_lines(data["text/html"]))
        # A widget's HTML is a script and little else; its picture or text says more.
        if len(data) == 1 or has_visible_content(html):
            return Output("html", html)
    if "text/markdown" in data:
        return Output("html", render_markdown(_join_lines(data["text/markdown"])))
    if "image/svg+xml" in data:
        # As a picture, not as markup: whatever it holds cannot reach the page.
        encoded = b64encode(_join_lines(data["image/svg+xml"]).encode("utf-8")).decode("ascii")
        return Output("picture", _render_image("image/svg+xml", encoded, metadata))
    for kind in ("image/png", "image/jpeg"):
        encoded = "".join(_join_lines(data.get(kind, "")).split())
        if _BASE64.match(encoded):
            return Output("picture", _render_image(kind, encoded, metadata))
    if "application/json" in data:
        text = json.dumps(data["application/json"], indent=2, ensure_ascii=False)
        return Output("text", Markup("<pre>{}</pre>").format(text))
    if "text/plain" in data:
        return _render_terminal("text", _join_lines(data["text/plain"]))
    kinds = ", ".join(sorted(data)) or "no data"
    return Output("note", Markup('<span class="left-out">[output left out: {}]</span>').format(kinds))


def _render_image(kind: str, encoded: str, metadata: Mapping[str, Any]) -> Markup:
    about = metadata.get(kind) or {}
    alt = str(about.get("alt") or metadata.get("alt") or "Plot")
    size = [(side, str(about.get(side, ""))) for side in ("width", "height")]
    sides = Markup("").join(Markup(' {}="{}"').format(*side) for side in size if _PIXEL_SIZE.match(side[1]))
    return Markup('<img src="data:{};base64,{}" alt="{}"{}>').format(kind, encoded, alt, sides)


def _join_lines(text: Any) -> str:
    """A multi-line string of the notebook format, which may be a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text)
