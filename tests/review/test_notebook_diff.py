"""Test how the cells of two notebooks are paired and compared."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from daybook.review.notebook_diff import CellChange, diff_notebooks

QUERY = "%%sql gold.sales --rows 5\nSELECT day, sum(amount) AS amount\nFROM lines\nGROUP BY day"


def notebook(*sources: str, ids: bool = True) -> NotebookNode:
    """Return a notebook; sources that begin with # are Markdown."""
    build = [(new_markdown_cell if source.startswith("#") else new_code_cell)(source) for source in sources]
    for number, cell in enumerate(build):
        if ids:
            cell.id = f"cell-{number}"
    return new_notebook(cells=build)


def test_cells_pair_by_id_whatever_their_source() -> None:
    before, after = notebook("# Title", "one = 1", QUERY), notebook("# Title", "import something_else", QUERY)
    assert diff_notebooks(before, after) == [CellChange("Title", "code", "one = 1", "import something_else")]


def test_cells_without_ids_pair_by_similarity() -> None:
    before = notebook("# Title", QUERY, "print('a long and unrelated line')", ids=False)
    after = notebook("# Title", "x = [each for each in range(10)]", QUERY.replace("5", "9"), before.cells[2].source, ids=False)
    changes = diff_notebooks(before, after)
    assert [(each.before, each.after) for each in changes] == [(None, after.cells[1].source), (QUERY, after.cells[2].source)]


def test_removed_and_moved_cells_are_told_apart() -> None:
    before, after = notebook("# A", "one = 1", "two = 2", "# B", "three = 3"), notebook("# A", "# B", "three = 3", "one = 1")
    for number, cell in enumerate(after.cells):
        cell.id = before.cells[[0, 3, 4, 1][number]].id
    changes = diff_notebooks(before, after)
    assert [(each.heading, each.source, each.after is None, each.moved) for each in changes] == [
        ("A", "two = 2", True, False),
        ("B", "one = 1", False, True),
    ]
    assert changes[1].lines() == []


def test_heading_is_the_last_one_above_or_the_cells_own() -> None:
    before = notebook("# A\ntext\n## B ##", "one = 1", "### C\ntext")
    after = notebook("# A\ntext\n## B ##", "one = 2", "### C\nother text")
    assert [each.heading for each in diff_notebooks(before, after)] == ["B", "C"]
    assert diff_notebooks(notebook("one = 1"), notebook("one = 2"))[0].heading == ""


def test_new_and_removed_notebooks_are_whole() -> None:
    (change,) = diff_notebooks(None, notebook("one = 1\ntwo = 2"))
    assert change.lines() == ["@@ -0,0 +1,2 @@", "+one = 1", "+two = 2"]
    (change,) = diff_notebooks(notebook("one = 1"), None)
    assert change.lines() == ["@@ -1 +0,0 @@", "-one = 1"]


def test_changed_cell_has_the_name_that_it_defines() -> None:
    assert diff_notebooks(None, notebook(QUERY))[0].defines == "gold.sales"


SOURCES = st.lists(st.sampled_from(["# A", "## B\ntext", "x = 1", "x = 2", QUERY, QUERY.replace("sum", "max"), ""]), max_size=7)


@settings(max_examples=40)
@given(SOURCES, SOURCES, st.booleans())
def test_changes_turn_one_notebook_into_the_other(before: list[str], after: list[str], ids: bool) -> None:
    changes = diff_notebooks(notebook(*before, ids=ids), notebook(*after, ids=ids))
    left = list(before)
    for each in changes:
        if each.before is not None and not each.moved:
            left.remove(each.before)
        if each.after is not None and not each.moved:
            left.append(each.after)
    if not any(each.moved for each in changes):
        assert sorted(left) == sorted(after)
    assert diff_notebooks(notebook(*after), notebook(*after)) == []
