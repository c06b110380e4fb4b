"""One executed notebook as a page: complete, still, legible, and pointing at what failed."""

from __future__ import annotations

import copy

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.report.notebook_page import render_notebook


def displayed(**data: str) -> nbformat.NotebookNode:
    mime = {kind.replace("__", "/").replace("_plus_", "+"): value for kind, value in data.items()}
    return new_notebook(cells=[new_code_cell("show()", execution_count=1, outputs=[new_output("display_data", mime)])])


def test_the_strip_says_which_run_this_is(attempt, notebook, read_page):
    record = attempt(attempt=2, code={"commit": "1a2b3c4d5e6f", "dirty": True, "lock_sha256": "ab" * 32})
    text = read_page(render_notebook(notebook(), title="A shop", record=record)).text
    assert "transform SUCCEEDED Saturday, 5 May 2018" in text
    for fact in (
        *("Attempt 2", "Took 3.2 s", "Rows in 2,436", "Rows out 2,428", "Rejected 0"),
        *("Run daily-2018-05-05-1", "Commit 1a2b3c4d + changes", "Peak memory 312 MB", "Engine duckdb 1.2.2"),
    ):
        assert fact in text


def test_what_the_record_does_not_hold_is_a_dash(attempt, notebook, read_page):
    record = {key: attempt()[key] for key in ("run_id", "run_date", "stage", "outcome")}
    text = read_page(render_notebook(notebook(), title="A shop", record=record)).text
    assert "Took –" in text
    assert "Rows in –" in text


def test_the_page_is_one_still_file(attempt, notebook, failed_cell, read_page):
    hostile = [
        new_markdown_cell("<script>alert(1)</script> ![x](https://evil.example/x.png) [l](https://evil.example/)"),
        new_markdown_cell("[j](javascript:alert(1)) <img src=x onerror=alert(1)>"),
        new_code_cell("'</pre><script>alert(1)</script>'", execution_count=9),
    ]
    page = read_page(render_notebook(notebook(*hostile, failed_cell()), title="<script>", record=attempt()))
    page.assert_still()
    assert "default-src 'none'" in page.values("content", "meta")[0]
    assert "link" in page.tags  # the empty icon, which keeps browsers from asking for one
    assert page.values("href", "link") == ["data:,"]


def test_titles_reasons_and_messages_are_escaped(attempt, notebook, failure, read_page):
    record = attempt(outcome="FAILED", reasons=["<script>a</script>"], failure=failure(message="<script>b</script>"))
    html = render_notebook(notebook(), title="<script>c</script>", record=record)
    assert "<script" not in html
    for letter in "abc":
        assert f"&lt;script&gt;{letter}&lt;/script&gt;" in html


def test_the_failure_box_links_to_the_cell_that_shows_the_exception(attempt, notebook, failed_cell, failure, read_page):
    record = attempt(outcome="FAILED", failure=failure(cell=3))
    page = read_page(render_notebook(notebook(failed_cell()), title="A shop", record=record))
    assert "transform failed in cell 3 LandingError: orders.csv ends in the middle of line 312." in page.text
    assert "Ask the shop" not in page.text.split("Show code")[0]  # the box holds the first line only
    assert page.values("href", "a") == ["#cell-4"]
    assert "cell-4" in page.values("id")


def test_after_a_kill_the_box_links_to_the_cell_that_the_record_names(attempt, notebook, failure, read_page):
    dead = failure(index=3, cell=2, exception="KernelDied", message="The kernel died.")
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt(outcome="FAILED", failure=dead)))
    assert page.values("href", "a") == ["#cell-3"]


def test_a_failure_outside_any_cell_has_a_box_without_a_link(attempt, notebook, failure, read_page):
    early = failure(cell=None, source=None, exception="NotebookError", message="run_dat is no parameter.")
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt(outcome="FAILED", failure=early)))
    assert "transform failed NotebookError: run_dat is no parameter." in page.text
    assert page.values("href", "a") == []


def test_a_traceback_keeps_its_colours_and_loses_its_escape_codes(attempt, notebook, failed_cell):
    html = render_notebook(notebook(failed_cell()), title="A shop", record=attempt())
    assert "\x1b" not in html
    assert '<span class="ansi-red-fg">LandingError</span>' in html
    assert "landing.read(&lt;orders&gt;)" in html


def test_parameters_stand_apart_from_code(attempt, notebook, read_page):
    page = read_page(render_notebook(notebook(), title="A shop", record=attempt()))
    assert page.values("class", "section").count("cell parameters") == 2
    assert "Parameters of this run" in page.text
    assert "Parameters, with their defaults" in page.text


def test_a_sql_cell_is_highlighted_as_sql(attempt, notebook):
    html = render_notebook(notebook(), title="A shop", record=attempt())
    assert '<div class="magic">%%sql silver.orders</div>' in html
    assert '<span class="k">SELECT</span>' in html


def test_code_is_visible_and_a_cell_that_did_not_run_says_so(attempt, notebook, read_page):
    page = read_page(render_notebook(notebook(new_code_cell("publish(orders)")), title="A shop", record=attempt()))
    assert "not run publish(orders)" in page.text
    assert "details" not in page.tags


def test_lines_that_a_progress_bar_drew_over_are_gone(attempt, notebook, read_page):
    text = read_page(render_notebook(notebook(), title="A shop", record=attempt())).text
    assert "100 % done" in text
    assert "55 %" not in text


def test_papermills_own_remark_about_an_exception_is_not_repeated(attempt, notebook, read_page):
    remark = new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    text = read_page(render_notebook(notebook(remark), title="A shop", record=attempt())).text
    assert "An Exception was encountered" not in text


def test_pictures_are_inside_the_page(attempt, read_page):
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for notebook, kind in (
        (displayed(image__png="iVBO\nRw0K"), "png"),
        (displayed(image__svg_plus_xml=svg), "svg+xml"),
    ):
        page = read_page(render_notebook(notebook, title="A shop", record=attempt()))
        page.assert_still()
        (source,) = page.values("src", "img")
        assert source.startswith(f"data:image/{kind};base64,")


def test_a_widget_is_shown_by_its_text_and_a_lone_script_is_said_to_be_left_out(attempt, read_page):
    script = "<div><script>draw()</script></div>"
    text = read_page(
        render_notebook(displayed(text__html=script, text__plain="Figure(12)"), title="A shop", record=attempt())
    ).text
    assert "Figure(12)" in text
    alone = read_page(render_notebook(displayed(text__html=script), title="A shop", record=attempt())).text
    assert "[script left out]" in alone
    unknown = read_page(render_notebook(displayed(application__javascript="draw()"), title="A shop", record=attempt()))
    assert "[output left out: application/javascript]" in unknown.text


def test_the_same_notebook_makes_the_same_page_and_is_not_changed(attempt, notebook, failed_cell):
    executed = notebook(failed_cell())
    before = copy.deepcopy(executed)
    first = render_notebook(executed, title="A shop", record=attempt())
    assert render_notebook(executed, title="A shop", record=attempt()) == first
    assert executed == before
