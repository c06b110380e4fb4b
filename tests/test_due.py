"""The slot of the nightly run: which business date is the newest one due at a moment."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from daybook.due import newest_slot


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        ("2025-11-24T01:59:59+00:00", date(2025, 11, 22)),
        ("2025-11-24T02:00:00+00:00", date(2025, 11, 23)),
        ("2025-11-24T23:59:59+00:00", date(2025, 11, 23)),
        ("2025-11-25T00:30:00+00:00", date(2025, 11, 23)),
        ("2026-01-01T02:00:00+00:00", date(2025, 12, 31)),
        # The slot is UTC's, wherever the moment is told.
        ("2025-11-24T02:59:00+01:00", date(2025, 11, 22)),
        ("2025-11-24T03:00:00+01:00", date(2025, 11, 23)),
        ("2025-11-23T23:00:00-03:00", date(2025, 11, 23)),
    ],
)
def test_a_date_is_due_from_two_in_the_morning_utc_of_the_next_day(moment: str, due: date) -> None:
    assert newest_slot(datetime.fromisoformat(moment)) == due


def test_every_moment_of_a_day_has_one_newest_date() -> None:
    start = datetime(2025, 11, 24, 2, tzinfo=timezone.utc)
    assert {newest_slot(start + timedelta(minutes=past)) for past in range(24 * 60)} == {date(2025, 11, 23)}


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        newest_slot(datetime(2025, 11, 24, 2))
