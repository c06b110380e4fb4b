"""Write the figures of a preview as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from pydantic import ValidationError

from daybook.errors import UsageError
from daybook.review.formats import ABSENT, describe_schema_change, format_totals
from daybook.review.markdown import Block, code, plain, table
from daybook.review.table_diff import ColumnDiff, TableDiff
from daybook.settings import format_validation_error

if TYPE_CHECKING:
    from daybook.review.preview import Preview

_LEAST_PERCENT = Decimal("0.01")
"""A smaller share of the total before is not shown as a number."""


def read_preview(path: Path) -> Preview:
    """Read a file that ``daybook preview --json`` wrote; ``UsageError`` if it is another file."""
    from daybook.review.preview import Preview

    try:
        return Preview.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); write it with `daybook preview --json`.") from None
    except ValidationError as error:
        reason = format_validation_error(error, str(path)).rstrip(".")
        raise UsageError(f"{reason}; write the file with `daybook preview --json`.") from None


def list_figures(preview: Optional[Preview]) -> Iterator[Block]:
    """Yield the tables of a preview: rows, totals and schema changes of each table that differs."""
    if preview is None:
        yield Block("### Figures\n\nNo preview was given, so figures were not compared. `daybook preview --json` writes one.")
        return
    tables = preview.comparison.tables
    lines = [
        *(f"- {each.date}: {plain(each.why)}{_describe_outcome(each.outcome)}" for each in preview.dates),
        *(f"- no such day in the records: {plain(each)}" for each in preview.absent),
    ]
    sides = f"Compared: {plain(preview.comparison.before)} → {plain(preview.comparison.after)}"
    yield Block(f"### Figures\n\nData: {plain(preview.data)}. {sides}. Dates:\n", tuple(lines))
    for each in tables:
        if each.has_changes:
            yield from _describe_table(each)
    same = ", ".join(code(each.table) for each in tables if not each.has_changes)
    if same:
        yield Block(f"Without a difference: {same}.")


def _describe_outcome(outcome: str) -> str:
    return "" if outcome == "SUCCEEDED" else f" (**{outcome}**, so its gold is as published)"


def _describe_table(diff: TableDiff) -> Iterator[Block]:
    rows = f"Rows: {diff.rows_before:,} → {diff.rows_after:,}; "
    counts = f"{diff.added:,} added, {diff.removed:,} removed, {diff.changed:,} changed."
    schema = "\n".join(f"- {plain(describe_schema_change(each))}" for each in diff.schema_changes)
    yield Block("\n\n".join(filter(None, [f"#### {code(diff.table)}", rows + counts, schema])))
    columns = [_describe_column(each) for each in diff.columns if each.changed or format_totals(each).difference]
    if columns:
        numbers = ["before", "after", "difference", "percent", "rows changed"]
        yield table(["total of", *numbers], columns, right=numbers)


def _describe_column(column: ColumnDiff) -> list[str]:
    return [code(column.column), *format_totals(column), _format_percent(column), f"{column.changed:,}"]


def _format_percent(column: ColumnDiff) -> str:
    """Return the difference of a column's totals in percent of the total before."""
    if not column.total_before or column.total_after is None:
        return ABSENT
    percent = (column.total_after - column.total_before) / abs(column.total_before) * 100
    if percent and abs(percent) < _LEAST_PERCENT:
        return f"under {_LEAST_PERCENT} %"
    return f"{percent:+,.2f} %" if percent else ""
