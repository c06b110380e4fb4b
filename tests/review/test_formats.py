"""Test the texts of differences."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Optional

import pytest

from daybook.review.formats import describe_schema_change, format_dates, format_sample, format_totals
from daybook.review.table_diff import ColumnDiff, RowSample, SchemaChange

FIRST = date(2025, 11, 1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("1234.5000", "1240.0000", ("1,234.50", "1,240.00", "+5.50")),
        ("10", "9", ("10", "9", "-1")),
        ("0.1000", "0.1000", ("0.10", "0.10", "")),
        ("0.3333", "0.3334", ("0.3333", "0.3334", "+0.0001")),
        ("0", "0.5000", ("0", "0.50", "+0.50")),
        (None, "5", ("–", "5", "")),
        ("99999999999999999999999999999999.0000", "0.0000", ("99,999,999,999,999,999,999,999,999,999,999.00", "0.00",
                                                           "-99,999,999,999,999,999,999,999,999,999,999.00")),
    ],
)  # fmt: skip
def test_totals_have_cents(before: Optional[str], after: str, expected: tuple[str, str, str]) -> None:
    column = ColumnDiff(column="revenue", total_before=Decimal(before) if before else None, total_after=Decimal(after))
    assert tuple(format_totals(column)) == expected


def test_few_dates_are_listed() -> None:
    assert format_dates(None) == "all dates"
    assert format_dates([FIRST, FIRST + timedelta(1)]) == "2025-11-01, 2025-11-02"
    assert format_dates([FIRST + timedelta(day) for day in range(6)]) == "6 dates from 2025-11-01 to 2025-11-06"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, "DATE", "tax was added (DATE)"),
        ("DATE", None, "tax was removed (DATE)"),
        ("DATE", "BIGINT", "tax has another type (DATE → BIGINT)"),
    ],
)
def test_schema_change_names_types(before: Optional[str], after: Optional[str], expected: str) -> None:
    assert describe_schema_change(SchemaChange(column="tax", before=before, after=after)) == expected


def test_changed_row_shows_both_values() -> None:
    changed = RowSample(change="changed", key={}, before={"name": "Lamp"}, after={"name": None})
    removed = RowSample(change="removed", key={}, before={"name": "Lamp", "size": "2"}, after={})
    assert (format_sample(changed), format_sample(removed)) == ("name: Lamp → ·", "name=Lamp, size=2")
