"""Test which business dates are due at a time, the state of each date, and the grouping into ranges."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any, Optional

import pytest

from daybook.scheduling.due import (
    format_dates,
    group_dates,
    list_date_states,
    newest_due_date,
    newest_scheduled_date,
)
from daybook.sources import Calendar


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        ("2025-11-24T01:59:59+00:00", date(2025, 11, 22)),
        ("2025-11-24T02:00:00+00:00", date(2025, 11, 23)),
        ("2025-11-24T23:59:59+00:00", date(2025, 11, 23)),
        ("2025-11-25T00:30:00+00:00", date(2025, 11, 23)),
        ("2026-01-01T02:00:00+00:00", date(2025, 12, 31)),
        # The run time is in UTC, whatever the time zone of the given time.
        ("2025-11-24T02:59:00+01:00", date(2025, 11, 22)),
        ("2025-11-24T03:00:00+01:00", date(2025, 11, 23)),
        ("2025-11-23T23:00:00-03:00", date(2025, 11, 23)),
    ],
)
def test_date_is_due_from_two_utc_on_the_next_day(moment: str, due: date) -> None:
    assert newest_scheduled_date(datetime.fromisoformat(moment)) == due


def test_newest_date_is_constant_between_run_times() -> None:
    start = datetime(2025, 11, 24, 2, tzinfo=timezone.utc)
    assert {newest_scheduled_date(start + timedelta(minutes=past)) for past in range(24 * 60)} == {date(2025, 11, 23)}


def test_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        newest_scheduled_date(datetime(2025, 11, 24, 2))


NOON = datetime(2025, 11, 24, 12, tzinfo=timezone.utc)
"""A Monday: the 23rd is the newest date whose nightly run is due."""


def calendar(**keys: Any) -> Calendar:
    return Calendar.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "newest"),
    [
        ({}, date(2025, 11, 23)),
        ({"last": "2025-11-20"}, date(2025, 11, 20)),
        ({"closed_weekdays": ["Sunday"]}, date(2025, 11, 22)),
        ({"closed_weekdays": ["Sunday"], "closed": ["2025-11-20..2025-11-22"]}, date(2025, 11, 19)),
        ({"first": "2025-11-23"}, date(2025, 11, 23)),
        ({"first": "2025-11-24"}, None),
        ({"first": "2025-11-22", "closed": ["2025-11-22..2025-11-23"]}, None),
    ],
)
def test_newest_due_date_is_in_the_calendar(keys: dict[str, Any], newest: Optional[date]) -> None:
    assert newest_due_date(calendar(**keys), NOON) == newest


def test_every_date_has_one_state() -> None:
    outcomes = ["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "RUNNING"]
    newest = {date(2025, 11, 17 + place): outcome for place, outcome in enumerate(outcomes)}
    found = list_date_states(calendar(first="2025-11-15", closed=["2025-11-16"]), newest, NOON, until=date(2025, 11, 24))
    assert [(day.day, state) for day, state in found.items()] == [
        (15, "never ran"),
        (16, "closed"),
        (17, "succeeded"),
        (18, "skipped"),
        (19, "rejected"),
        (20, "failed"),
        (21, "running"),
        (22, "never ran"),
        (23, "never ran"),
        (24, "not due"),
    ]


def test_dates_outside_the_calendar_are_listed_if_they_ran() -> None:
    newest = {date(2025, 11, 1): "SUCCEEDED", date(2025, 11, 5): "FAILED"}
    found = list_date_states(calendar(first="2025-11-03", last="2025-11-04"), newest, NOON)
    assert list(found.values()) == ["succeeded", "closed", "never ran", "never ran", "failed"]


def test_no_dates_without_a_first_date_and_runs() -> None:
    assert list_date_states(calendar(), {}, NOON) == {}
    assert list_date_states(calendar(first="2025-12-01"), {}, NOON) == {}


def test_long_lists_of_ranges_show_the_newest() -> None:
    days = [date(2025, 11, number) for number in (1, 2, 4, 6, 7, 10, 12)]
    assert format_dates(days, calendar()) == "3 older dates, 2025-11-06 to 2025-11-07 (2 dates), 2025-11-10, 2025-11-12"
    assert [each.dates for each in group_dates(reversed(days), calendar(closed=["2025-11-03", "2025-11-08..2025-11-09"]))] == [
        3,
        3,
        1,
    ]
