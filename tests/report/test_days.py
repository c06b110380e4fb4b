"""Test the calendar of business dates, its gaps, and the sparkline of daily values."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

from daybook.report import days
from daybook.scheduling.due import list_date_states
from daybook.sources import Calendar


def calendar_of(newest, **calendar):
    """Return the calendar of some runs, in which no date after the last run is due."""
    known = {day: run.outcome for day, run in newest.items()}
    dates = Calendar.model_validate({"last": max(newest, default=None), **calendar})
    states = list_date_states(dates, known, datetime(2026, 11, 23, 15, tzinfo=timezone.utc))
    return days.build_calendar(days.list_outcomes(states, newest), newest)


def days_of(years):
    """Return the days of a calendar that have an outcome, by date."""
    fields = (day for months in years.values() for weeks in months.values() for week in weeks for day in week)
    return {day.date.isoformat(): day for day in fields if day and day.outcome}


def test_date_without_a_run_never_ran(run):
    newest = days.newest_by_date([run("2018-05-01"), run("2018-05-04", outcome="SKIPPED")])
    found = days_of(calendar_of(newest))
    assert {day: field.outcome.name for day, field in found.items()} == {
        "2018-05-01": "SUCCEEDED",
        "2018-05-02": "NEVER RAN",
        "2018-05-03": "NEVER RAN",
        "2018-05-04": "SKIPPED",
    }
    assert found["2018-05-02"].run_id is None
    assert found["2018-05-04"].run_id == "daily-2018-05-04-1"


def test_date_shows_its_newest_run(run):
    runs = [run(number=2, outcome="FAILED"), run(number=1)]
    assert days.newest_by_date(runs) == {date(2018, 5, 5): runs[0]}


def test_newest_run_has_the_highest_number(run):
    runs = [run(number=10, started_at="2026-11-23T09:00:00.000Z"), run(number=9, started_at="2026-11-23T14:00:00.000Z")]
    assert days.newest_by_date(runs) == {date(2018, 5, 5): runs[0]}
    assert days.newest_by_date(reversed(runs)) == {date(2018, 5, 5): runs[0]}


def test_later_failure_does_not_hide_a_succeeded_run(run):
    runs = [run(number=1), run(number=2, outcome="FAILED"), run("2018-05-06", outcome="REJECTED")]
    assert days.newest_succeeded(runs) == {date(2018, 5, 5): runs[0]}


def test_weeks_start_on_monday(run):
    ((name, weeks),) = calendar_of(days.newest_by_date([run("2018-05-05")]))[2018].items()
    assert name == "May"
    assert [day and day.date.day for day in weeks[0]] == [None, 1, 2, 3, 4, 5, 6]  # 1 May 2018 was a Tuesday
    assert all(len(week) == 7 for week in weeks)


def test_years_descend_and_months_ascend(run):
    newest = days.newest_by_date([run("2017-10-30"), run("2017-11-30"), run("2018-02-01")])
    assert [(year, list(months)) for year, months in calendar_of(newest).items()] == [
        (2018, ["February"]),
        (2017, ["October", "November"]),
    ]


def test_year_without_runs_has_no_months(run):
    years = calendar_of(days.newest_by_date([run("2016-12-31"), run("2018-01-01")]))
    assert [(year, len(months)) for year, months in years.items()] == [(2018, 1), (2017, 0), (2016, 1)]


def test_no_runs_give_no_calendar():
    assert calendar_of({}) == {}
    assert days.build_sparkline([]) is None


def test_sparkline_is_interrupted_at_missing_days():
    values = [(date(2018, 5, day), Decimal(day)) for day in (1, 2, 3, 6, 8, 9)]
    line = days.build_sparkline(values, width=100, height=20)
    assert [path.count("L") for path in line.paths] == [2, 0, 1]
    assert line.last == (96.0, 4.0)
    assert (line.low, line.high) == (Decimal(1), Decimal(9))


def test_sparkline_of_equal_values_is_in_the_middle():
    assert days.build_sparkline([(date(2018, 5, 1), Decimal(7))], width=100, height=20).paths == ("M96.0 10.0 h0",)
    equal = [(date(2018, 5, day), Decimal(7)) for day in (1, 2)]
    assert days.build_sparkline(equal, width=100, height=20).paths == ("M4.0 10.0 h0 L96.0 10.0",)
