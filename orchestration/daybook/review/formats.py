"""Format the differences of tables for terminals, pages and comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from typing import NamedTuple, Optional

from daybook.records.formatting import format_value
from daybook.review.table_diff import ColumnDiff, RowSample, SchemaChange

ABSENT = "–"
"""Shown for the total of a column that is absent or not numeric."""
_CENTS = Decimal("0.01")
_DIGITS = 80
"""Digits of a difference: totals have at most 39, and decimals at most 38 after the point."""
_MAX_DATES = 5
"""Number of dates that are listed one by one."""


class Totals(NamedTuple):
    """The totals of a column as text."""

    before: str
    after: str
    difference: str


def format_totals(column: ColumnDiff) -> Totals:
    """Return the totals of a column to the cent, with more digits only where the difference is not a whole number of cents."""
    before, after = column.total_before, column.total_after
    if before is None or after is None:
        return Totals(_format_total(before), _format_total(after), "")
    with localcontext() as context:
        context.prec = _DIGITS
        difference = after - before
        exact = difference != difference.quantize(_CENTS)
        shown = f"{'+' if difference > 0 else ''}{_format_total(difference, exact=exact)}" if difference else ""
        return Totals(_format_total(before, exact=exact), _format_total(after, exact=exact), shown)


def _format_total(total: Optional[Decimal], *, exact: bool = False) -> str:
    if total is None:
        return ABSENT
    return f"{total:,}" if exact or total.as_tuple().exponent == 0 else format_value(total)


def format_dates(dates: Optional[Sequence[date]]) -> str:
    """Return the compared dates as text: each of a few, else the first, the last and their number."""
    if dates is None:
        return "all dates"
    if len(dates) <= _MAX_DATES:
        return ", ".join(map(str, dates))
    return f"{len(dates)} dates from {dates[0]} to {dates[-1]}"


def describe_schema_change(change: SchemaChange) -> str:
    """Return what happened to a column as text."""
    if change.before is None:
        return f"{change.column} was added ({change.after})"
    if change.after is None:
        return f"{change.column} was removed ({change.before})"
    return f"{change.column} has another type ({change.before} → {change.after})"


def format_values(values: Mapping[str, Optional[str]]) -> str:
    """Return values by column as text."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in values.items())


def format_sample(sample: RowSample) -> str:
    """Return the values of a sample row: of a changed row before and after."""
    if sample.change != "changed":
        return format_values(sample.after or sample.before)
    return ", ".join(f"{name}: {format_change(sample.before[name], value)}" for name, value in sample.after.items())


def format_change(before: Optional[str], after: Optional[str]) -> str:
    """Return a value before and after as text."""
    return f"{format_value(before)} → {format_value(after)}"
