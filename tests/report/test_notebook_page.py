"""Test the page of an executed notebook: it is complete, runs nothing, and links to the cell that failed."""

from __future__ import annotations

import copy

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.report.notebook_page import render_notebook
from tests.sample_records import attempt_record


def displayed(**data: str) -> nbformat.NotebookNode:
    mime = {kind.replace("__", "/").replace("_plus_", "+"): value for kind, value in data.items()}
    return new_notebook(cells=[new_code_cell("show()", execution_count=1, outputs=[new_output("display_data", mime)])])


def test_header_shows_facts_of_the_attempt(attempt, notebook, read_page):
    record = attempt(attempt=2, code={"commit": "1a2b3c4d5e6f", "dirty": True, "lock_sha256": "ab" * 32})
    text = read_page(render_notebook(notebook(), title="A shop", record=record)).text
    assert "transform SUCCEEDED Saturday, 5 May 2018" in text
    for fact in (
        *("Attempt 2", "Duration 3.2 s", "Rows in 2,436", "Rows out 2,428", "Rejected 0"),
        *("Run daily-2018-05-05-1", "Commit 1a2b3c4d + changes", "Peak memory 312 MB", "Engine duckdb 1.2.2"),
    ):
        assert fact in text


def test_header_of_a_range_shows_its_dates(attempt, notebook, read_page):
    record = attempt(run_id="range-2018-05-05-2018-05-06-1", until="2018-05-06")
    text = read_page(render_notebook(notebook(), title="A shop", record=record)).text
    assert "Saturday, 5 May 2018 to Sunday, 6 May 2018" in text
    assert "Business dates 2018-05-05 to 2018-05-06" in text


def test_missing_record_values_are_dashes(attempt, notebook, read_page):
    whole = attempt()
    record = attempt_record(whole.stage, whole.outcome, run_id=whole.run_id, run_date=whole.run_date)
    text = read_page(render_notebook(notebook(), title="A shop", record=record)).text
    assert "Duration –" in text
    assert "Rows in –" in text


def test_page_is_one_file_that_runs_and_fetches_nothing(attempt, notebook, failed_cell, read_page):
    hostile = [
        new_markdown_cell("<script>alert(1)</script> ![x](https://evil.example/x.png) [l](https://evil.example/)"),
        new_markdown_cell("[j](javascript:alert(1)) <img src=x onerror=alert(1)>"),
        new_code_cell("'</pre><script>alert(1)</script>'", execution_count=9),
    ]
    page = read_page(render_notebook(notebook(*hostile, failed_cell()), title="<script>", record=attempt()))
    page.assert_inert()
    assert "default-src 'none'" in page.values("content", "meta")[0]
    assert "link" in page.tags  # An empty icon keeps browsers from requesting one.
    assert page.values("href", "link") == ["data:,"]


def test_titles_reasons_and_messages_are_escaped(attempt, notebook, failure, read_page):
    record = attempt(outcome="FAILED", reasons=["<script>a</script>"], failure=failure(message="<script>b</script>"))
    html = render_notebook(notebook(), title="<script>c</script>", record=record)
    assert "<script" not in html
    for letter in "abc":
        assert f"&lt;script&gt;{letter}&lt;/script&gt;" in html


def test_failure_box_links_to_the_cell_with_the_exception(attempt, notebook, failed_cell, failure, read_page):
    record = attempt(outcome="FAILED", failure=failure(cell=3))
    page = read_page(render_notebook(notebook(failed_cell()), title="A shop", record=record))
    assert "transform failed in cell 3 LandingError: orders.csv ends in the middle of line 312." in page.text
    assert "Ask the shop" not in page.text.split("Show code")[0]  # the box holds the first line only
    assert page.values("href", "a") == ["#cell-4"]
    assert "cell-4" in page.values("id")


def test_failure_box_links_to_the_cell_in_the_record(attempt, notebook, failure, read_page):
    dead = failure(index=3, cell=2, exception="KernelDied", message="The kernel died.")
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt(outcome="FAILED", failure=dead)))
    assert page.values("href", "a") == ["#cell-3"]


def test_failure_outside_of_cells_has_no_link(attempt, notebook, failure, read_page):
    early = failure(cell=None, source=None, exception="NotebookError", message="run_dat is no parameter.")
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt(outcome="FAILED", failure=early)))
    assert "transform failed NotebookError: run_dat is no parameter." in page.text
    assert page.values("href", "a") == []


def test_traceback_shows_ansi_colours_as_html(attempt, notebook, failed_cell):
    html = render_notebook(notebook(failed_cell()), title="A shop", record=attempt())
    assert "\x1b" not in html
    assert '<span class="ansi-red-fg">LandingError</span>' in html
    assert "landing.read(&lt;orders&gt;)" in html


def test_parameter_cells_have_their_own_style(attempt, notebook, read_page):
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt()))
    assert page.values("class", "section").count("cell parameters") == 2
    assert "Parameters of this run" in page.text
    assert "Default parameters" in page.text


def test_wide_tables_scroll_and_get_small_print(attempt):
    row = "<tr>" + "<td>1</td>" * 18 + "</tr>"
    html = render_notebook(displayed(text__html=f"<table>{row}</table>"), title="A shop", record=attempt())
    assert '<div class="output html"><table>' in html
    assert ".prose, .output { overflow-x: auto; }" in html
    assert ":is(.prose, .output) table:has(:is(th, td):nth-child(11)) { font-size: 0.62rem; }" in html


def test_sql_cell_is_highlighted_as_sql(attempt, notebook):
    html = render_notebook(notebook(), title="A shop", record=attempt())
    assert '<div class="magic">%%sql silver.orders</div>' in html
    assert '<span class="k">SELECT</span>' in html


def test_code_is_visible_and_labelled_if_it_did_not_run(attempt, notebook, read_page):
    page = read_page(render_notebook(notebook(new_code_cell("publish(orders)")), title="A shop", record=attempt()))
    assert "not run publish(orders)" in page.text
    assert "details" not in page.tags


def test_overwritten_progress_lines_are_removed(attempt, notebook, read_page):
    text = read_page(render_notebook(notebook(), title="A shop", record=attempt())).text
    assert "100 % done" in text
    assert "55 %" not in text


def test_papermill_remark_on_an_exception_is_removed(attempt, notebook, read_page):
    remark = new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    text = read_page(render_notebook(notebook(remark), title="A shop", record=attempt())).text
    assert "An Exception was encountered" not in text


def test_pictures_are_embedded_in_the_page(attempt, read_page):
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for notebook, kind in (
        (displayed(image__png="iVBO\nRw0K"), "png"),
        (displayed(image__svg_plus_xml=svg), "svg+xml"),
    ):
        page = read_page(render_notebook(notebook, title="A shop", record=attempt()))
        page.assert_inert()
        (source,) = page.values("src", "img")
        assert source.startswith(f"data:image/{kind};base64,")


def test_widget_is_shown_as_text_or_noted(attempt, read_page):
    script = "<div><script>draw()</script></div>"
    text = read_page(
        render_notebook(displayed(text__html=script, text__plain="Figure(12)"), title="A shop", record=attempt())
    ).text
    assert "Figure(12)" in text
    alone = read_page(render_notebook(displayed(text__html=script), title="A shop", record=attempt())).text
    assert "[script left out]" in alone
    unknown = read_page(render_notebook(displayed(application__javascript="draw()"), title="A shop", record=attempt()))
    assert "[output left out: application/javascript]" in unknown.text


def test_rendering_is_repeatable_and_changes_nothing(attempt, notebook, failed_cell):
    executed = notebook(failed_cell())
    before = copy.deepcopy(executed)
    first = render_notebook(executed, title="A shop", record=attempt())
    assert render_notebook(executed, title="A shop", record=attempt()) == first
    assert executed == before
