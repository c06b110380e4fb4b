"""Test that archived notebooks run and load nothing, in Jupyter or exported, and keep their tables, plots and texts."""

from __future__ import annotations

import base64
import functools
import re
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from daybook.privacy.redactor import Redactor
from daybook.records.mime import JSON_TYPES, TEXT_TYPES
from daybook.records.names import RESULT_MIME
from daybook.report.active_content import remove_active_content
from daybook.report.notebook_page import render_notebook

PNG = base64.b64encode(b"\x89PNG").decode()
ACTIVE = [
    "<script>evil()</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=evil()>",
    "<img src=https://evil.example/pixel.png>",
    "<a href='javascript:evil()'>press</a>",
    "<a href='&#106;avascript:evil()'>press</a>",
    "<iframe src=https://evil.example></iframe>",
    "<object data=https://evil.example></object>",
    "<embed src=https://evil.example>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<svg onload=evil()><script>evil()</script></svg>",
    "<base href=https://evil.example>",
    "<form action=https://evil.example><button>x</button></form>",
    "<details ontoggle=evil() open>x</details>",
    "<p style='background:url(https://evil.example)'>x</p>",
    "<style>@import url(https://evil.example)</style>",
    "<![evil[<script>evil()</script>",
    "<!--><script>evil()</script>-->",
]
WORDS = re.compile(
    r"<(script|iframe|object|embed|meta|svg|base|form|style|link)\b|\bon[a-z]+=|javascript:|evil\.example", re.IGNORECASE
)


def exported(*cells: Any, metadata: Any = None) -> str:
    """Return the HTML body that nbconvert makes of cells without their active content."""
    notebook = new_notebook(cells=list(cells), metadata=metadata or {})
    remove_active_content(notebook)
    nbformat.validate(notebook)
    body, _ = exporter().from_notebook_node(notebook)
    return str(body)


@functools.cache
def exporter() -> Any:
    return HTMLExporter(template_name="basic")


def active_in(html: str) -> list[str]:
    """Return the tags of a fragment that run or load something. Text that looks like a tag is escaped and does not count."""
    return [tag for tag in re.findall(r"<[A-Za-z/!?][^>]*>", html) if WORDS.search(tag)]


def shown(**data: Any) -> Any:
    bundle = {name.replace("__", "/").replace("_", "-"): value for name, value in data.items()}
    return new_code_cell("x", outputs=[new_output("display_data", bundle)])


def output_of(cell: Any) -> dict[str, Any]:
    remove_active_content(new_notebook(cells=[cell]))
    return dict(cell.outputs[0].data)


def test_active_html_of_outputs_is_removed() -> None:
    cells = [shown(text__html=f"<b>kept</b>{markup}") for markup in ACTIVE]
    assert active_in(exported(*cells)) == []
    assert all("<b>kept</b>" in cell.outputs[0].data["text/html"] for cell in cells)


LINKS = ["[press](javascript:evil())", "[press](java&Tab;script:evil())", "[a]: javascript:evil()"]


@pytest.mark.parametrize("prefix", ["", "    ", "text `code ", "```\nfence\n```\n", "~~~\n", "> ", "- "])
def test_active_markdown_becomes_a_code_block(prefix: str) -> None:
    texts = [prefix + markup for markup in [*ACTIVE, *LINKS, f"```\n<b>\n```\n{ACTIVE[0]}", f"{ACTIVE[0]}\n````"]]
    cells = [new_markdown_cell(text) for text in texts]
    others = [*map(new_raw_cell, texts), *(shown(text__markdown=text) for text in texts)]
    assert active_in(exported(*cells, *others)) == []
    for text, cell in zip(texts, cells):
        fence = cell.source.split("\n")[0]
        assert (fence.strip("`"), cell.source) == ("", f"{fence}\n{text}\n{fence}")


@pytest.mark.parametrize(
    "source",
    [
        "# Title\n\nText, **bold**, [a link](https://example.com), `code`, a < b and 5 > 3.\n\n| a | b |\n|--|--|\n| 1 | 2 |",
        "H<sub>2</sub>O<br/>next",
        "<https://example.com/page>",
        "$a_1 < b$ and Raw data: see below",
        "![plot](attachment:plot.png)",
    ],
)
def test_harmless_markdown_is_not_changed(source: str) -> None:
    cell = new_markdown_cell(source, attachments={"plot.png": {"image/png": PNG}})
    remove_active_content(new_notebook(cells=[cell]))
    assert (cell.cell_type, cell.source, cell.attachments) == ("markdown", source, {"plot.png": {"image/png": PNG}})


def test_attachments_other_than_pictures_are_removed() -> None:
    files = {"a.png": {"image/png": PNG, "text/html": "<script>"}, "b.png": {"image/png": '"><script>evil()</script>'}}
    cell = new_markdown_cell("![a](attachment:a.png)", attachments=files)
    remove_active_content(new_notebook(cells=[cell]))
    assert cell.attachments == {"a.png": {"image/png": PNG}, "b.png": {}}


@pytest.mark.parametrize(
    "mime",
    [
        "application/javascript",
        "application/vnd.jupyter.widget-view+json",
        "application/vnd.plotly.v1+json",
        "application/vnd.bokehjs_exec.v0+json",
        "text/HTML",
        "text/html;charset=utf-8",
        "application/xhtml+xml",
    ],
)
def test_other_mime_types_are_left_out_with_a_note(mime: str) -> None:
    cell = new_code_cell("x", outputs=[new_output("display_data", {mime: "<script>evil()</script>"})])
    assert output_of(cell) == {"text/plain": f"[output left out: {mime}]"}
    cell = new_code_cell("x", outputs=[new_output("display_data", {mime: "<script>evil()</script>", "text/plain": "a widget"})])
    assert output_of(cell) == {"text/plain": f"a widget\n[output left out: {mime}]"}


@pytest.mark.parametrize("mime", [*TEXT_TYPES, *JSON_TYPES])
def test_allowed_mime_types_pass_the_redactor(mime: str) -> None:
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[new_output("display_data", {mime: "text"})])])
    remove_active_content(notebook)
    Redactor().redact_notebook(notebook)
    assert dict(notebook.cells[0].outputs[0].data) == {mime: "text"}


def test_tables_plots_and_results_are_kept() -> None:
    head = "<thead><tr><th></th><th>city</th></tr></thead>"
    table = f'<table class="dataframe">{head}<tbody><tr><td>0</td><td>Köln</td></tr></tbody></table>'
    found = output_of(shown(text__html=table, text__plain="city"))
    assert re.sub(r' class="[^"]*"|</?div[^>]*>', "", found["text/html"]) == table.replace(' class="dataframe"', "")
    assert found["text/plain"] == "city"
    cell = shown(image__png=PNG, text__plain="plot")
    cell.outputs[0].metadata = {"image/png": {"width": 300, "height": 200}, "text/html": {"isolated": True}, "isolated": True}
    assert output_of(cell) == {"image/png": PNG, "text/plain": "plot"}
    assert cell.outputs[0].metadata == {"image/png": {"width": 300, "height": 200}}
    result = {RESULT_MIME: {"outcome": "SUCCEEDED"}, "text/plain": "done"}
    assert output_of(new_code_cell("x", outputs=[new_output("display_data", result)])) == result


def test_picture_with_invalid_base64_is_left_out() -> None:
    assert active_in(exported(shown(image__png='" onerror="evil()', text__plain="plot"))) == []


def test_svg_output_becomes_a_picture() -> None:
    drawing = "<svg xmlns='http://www.w3.org/2000/svg' onload='evil()'><script>evil()</script></svg>"
    cell = new_code_cell("x", outputs=[new_output("display_data", {"image/svg+xml": drawing})])
    found = output_of(cell)
    assert list(found) == ["text/html"]
    assert re.fullmatch(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="Plot">', found["text/html"])


def test_widget_falls_back_to_its_picture_or_text() -> None:
    assert output_of(shown(text__html="<script>draw()</script>", image__png=PNG)) == {"image/png": PNG}
    assert (
        output_of(shown(text__html="<script>draw()</script>"))["text/html"] == '<span class="left-out">[script left out]</span>'
    )


def test_trust_and_widget_state_are_removed() -> None:
    cell = new_code_cell("x", metadata={"trusted": True, "tags": ["a"]})
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"x": 1}, "trusted": True, "signature": "s", "title": "x"})
    remove_active_content(notebook)
    assert (dict(cell.metadata), list(notebook.metadata)) == ({"tags": ["a"]}, ["title"])


def test_removing_twice_changes_nothing(notebook: Any, attempt: Any) -> None:
    cells = [shown(text__html=markup, text__plain="x") for markup in ACTIVE]
    nb = notebook(*cells, *(new_markdown_cell(markup) for markup in ACTIVE))
    page = render_notebook(notebook(*cells), title="Shop", record=attempt())
    remove_active_content(nb)
    once = nbformat.writes(nb)
    assert render_notebook(nb, title="Shop", record=attempt()).count("left out") >= page.count("left out")
    remove_active_content(nb)
    assert nbformat.writes(nb) == once


PIECES = [
    "<",
    ">",
    "script",
    "<script>",
    "</script>",
    "<b>",
    "evil()",
    "`",
    "\n",
    "[x](",
    "javascript:",
    ")",
    "&#106;",
    "\\",
    "<!--",
    "<![",
    " ",
]


@settings(max_examples=10)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), min_size=5, max_size=20))
def test_random_markdown_and_html_is_never_active(texts: list[str]) -> None:
    cells = [
        cell
        for text in texts
        for cell in (new_markdown_cell(text), new_raw_cell(text), shown(text__html=text), shown(text__markdown=text))
    ]
    assert active_in(exported(*cells)) == []
