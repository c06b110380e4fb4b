"""Test how the figures of a preview are written."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import UsageError
from daybook.review.figures import list_figures, read_preview
from daybook.review.preview import Preview, PreviewDate
from daybook.review.table_diff import ColumnDiff, Comparison, SchemaChange, TableDiff
from tests.review.conftest import RunCommand


def table_diff(table: str, *columns: ColumnDiff, **counts: Any) -> TableDiff:
    given = {"rows_before": 3, "rows_after": 3, "added": 0, "removed": 0, "changed": 0, "schema_changes": [], **counts}
    return TableDiff(table=table, key=["day"], columns=list(columns), samples=[], **given)


def preview_of(*tables: TableDiff, **given: Any) -> Preview:
    dates = [PreviewDate(date=date(2025, 11, 24), why="a normal weekday", outcome="SUCCEEDED")]
    comparison = Comparison(before="published", after="preview", dates=[each.date for each in dates], tables=list(tables))
    values = {"changes": [], "stages": [], "dates": dates, "absent": [], **given}
    return Preview(data="Demo shop (local)", comparison=comparison, **values)


def text_of(preview: Preview) -> str:
    return "\n\n".join(each.render() for each in list_figures(preview))


def totals(before: str, after: str, column: str = "revenue", changed: int = 1) -> ColumnDiff:
    return ColumnDiff(column=column, changed=changed, total_before=Decimal(before), total_after=Decimal(after))


@pytest.mark.parametrize(
    ("before", "after", "row"),
    [
        ("200.0000", "150.5000", "| `revenue` | 200.00 | 150.50 | -49.50 | -24.75 % | 1 |"),
        ("-200", "-150", "| `revenue` | -200 | -150 | +50 | +25.00 % | 1 |"),
        ("0", "5", "| `revenue` | 0 | 5 | +5 | – | 1 |"),
        ("1000000.00", "1000000.01", "| `revenue` | 1,000,000.00 | 1,000,000.01 | +0.01 | under 0.01 % | 1 |"),
        ("7", "7", "| `revenue` | 7 | 7 |  |  | 1 |"),
    ],
)
def test_totals_have_difference_and_percent(before: str, after: str, row: str) -> None:
    assert row in text_of(preview_of(table_diff("gold.sales", totals(before, after), changed=1)))


def test_equal_columns_and_tables_have_no_rows() -> None:
    equal = totals("5", "5", "equal", changed=0)
    text = text_of(preview_of(table_diff("gold.sales", equal, totals("1", "2"), changed=1), table_diff("gold.mix", equal)))
    assert "`equal`" not in text
    assert "#### `gold.mix`" not in text
    assert text.endswith("Without a difference: `gold.mix`.")


def test_rows_and_schema_changes_are_listed() -> None:
    schema = [SchemaChange(column="new", before=None, after="BIGINT"), SchemaChange(column="old", before="DATE", after=None)]
    text = text_of(preview_of(table_diff("gold.sales", rows_after=4, added=2, removed=1, schema_changes=schema)))
    assert "Rows: 3 → 4; 2 added, 1 removed, 0 changed." in text
    assert "- new was added \\(BIGINT\\)\n- old was removed \\(DATE\\)" in text


def test_dates_have_reasons_and_unsuccessful_outcomes() -> None:
    dates = [PreviewDate(date=date(2025, 11, 30), why="late <data>", outcome="REJECTED")]
    text = text_of(preview_of(dates=dates, absent=["a closed day"]))
    assert "- 2025-11-30: late \\<data\\> (**REJECTED**, so its gold is as published)" in text
    assert "- no such day in the records: a closed day" in text


def test_preview_file_is_part_of_the_comment(review: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "preview.json"
    path.write_text(preview_of(table_diff("gold.sales", totals("1", "2"), changed=1)).model_dump_json(), encoding="utf-8")
    code, comment, _ = review("HEAD", "--preview", str(path))
    assert code == 0
    assert (
        "### Figures\n\nData: Demo shop \\(local\\). Compared: published → preview. Dates:\n\n- 2025-11-24: a normal" in comment
    )
    assert "| `revenue` | 1 | 2 | +1 | +100.00 % | 1 |" in comment


def test_comment_without_a_preview_says_so(review: RunCommand) -> None:
    assert "No preview was given, so figures were not compared." in review("HEAD")[1]


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"schema_version": 2}'])
def test_other_file_is_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "preview.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"preview\.json: .*; write the file with `daybook preview --json`\.$"):
        read_preview(path)


def test_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"preview\.json cannot be read \(No such file or directory\); write it"):
        read_preview(tmp_path / "preview.json")
