"""Lay out business dates: the calendar, the newest good day and its figures over time."""

from __future__ import annotations

from calendar import Calendar
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from daybook.records.models import RunRecord
from daybook.report import formats, records
from daybook.report.records import Outcome

WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


@dataclass(frozen=True)
class CalendarDay:
    """One field of the calendar; without an outcome it only fills the week."""

    number: int
    date: Optional[date] = None
    outcome: Optional[Outcome] = None
    run_id: Optional[str] = None


@dataclass(frozen=True)
class CalendarMonth:
    """One month as weeks of seven days from Monday; days of other months have the number 0."""

    name: str
    weeks: Tuple[Tuple[CalendarDay, ...], ...]


@dataclass(frozen=True)
class CalendarYear:
    """One year's months with a run, in order, and how many of its dates never ran."""

    number: int
    months: Tuple[CalendarMonth, ...]
    never_ran: int


@dataclass(frozen=True)
class Sparkline:
    """A line through daily values, drawn in a box of ``width`` × ``height``; broken where a day is missing."""

    width: int
    height: int
    paths: Tuple[str, ...]
    last: Tuple[float, float]
    first_date: date
    last_date: date
    low: Decimal
    high: Decimal


def newest_by_date(runs: Iterable[RunRecord]) -> Dict[date, RunRecord]:
    """Return the newest run of every business date that has one, dates ascending."""
    by_number = sorted(runs, key=lambda run: (records.run_number(run), records.chronological_key(run)))
    newest = {run.run_date: run for run in by_number}
    return dict(sorted(newest.items()))


def newest_succeeded(runs: Iterable[RunRecord]) -> Dict[date, RunRecord]:
    """Return, for every date with one, the newest run that succeeded and has a summary, dates ascending."""
    return newest_by_date(run for run in runs if records.outcome_of(run) is records.SUCCEEDED and run.summary)


def outcomes_by_day(states: Mapping[date, str], newest: Mapping[date, RunRecord]) -> Dict[date, Optional[Outcome]]:
    """Return the outcome of each date's newest run; without one NEVER_RAN, CLOSED, or None before it is due."""
    without_run = {"never ran": records.NEVER_RAN, "closed": records.CLOSED}
    return {day: records.outcome_of(newest[day]) if day in newest else without_run.get(state) for day, state in states.items()}


def build_calendar(states: Mapping[date, str], newest: Mapping[date, RunRecord]) -> List[CalendarYear]:
    """Return the years from the newest to the oldest, each with its months that have a run and every date's newest run."""
    outcomes = outcomes_by_day(states, newest)
    years = sorted({day.year for day in outcomes}, reverse=True)
    return [_build_year(number, outcomes, newest) for number in years]


def _build_year(number: int, outcomes: Mapping[date, Optional[Outcome]], newest: Mapping[date, RunRecord]) -> CalendarYear:
    never_ran = sum(outcome is records.NEVER_RAN for day, outcome in outcomes.items() if day.year == number)
    # Months without a run would fill the page; their dates are in the list of dates that never ran.
    months = sorted({day.month for day in newest if day.year == number})
    return CalendarYear(number, tuple(_build_month(number, month, outcomes, newest) for month in months), never_ran)


def _build_month(
    year: int, month: int, outcomes: Mapping[date, Optional[Outcome]], newest: Mapping[date, RunRecord]
) -> CalendarMonth:
    weeks = []
    for week in Calendar(firstweekday=0).monthdatescalendar(year, month):
        days = []
        for day in week:
            run = newest.get(day)
            if day.month != month:
                days.append(CalendarDay(0))
            else:
                days.append(CalendarDay(day.day, day, outcomes.get(day), records.require_run_id(run) if run else None))
        weeks.append(tuple(days))
    return CalendarMonth(formats.month_name(month), tuple(weeks))


def build_sparkline(values: Sequence[Tuple[date, Decimal]], *, width: int = 600, height: int = 64) -> Optional[Sparkline]:
    """Return a line through ``values`` (dates ascending), the lowest at the bottom; None without values."""
    if not values:
        return None
    first, last = values[0][0], values[-1][0]
    low, high = min(value for _, value in values), max(value for _, value in values)
    margin = 4  # room for the line's own thickness and the dot at its end
    days = max((last - first).days, 1)

    def place(day: date, value: Decimal) -> Tuple[float, float]:
        x = margin + (width - 2 * margin) * ((day - first).days / days if last > first else 1.0)
        rise = float((value - low) / (high - low)) if high > low else 0.5
        return round(x, 1), round(height - margin - (height - 2 * margin) * rise, 1)

    paths: List[str] = []
    previous: Optional[date] = None
    for day, value in values:
        x, y = place(day, value)
        if previous is not None and (day - previous).days == 1:
            paths[-1] += f" L{x} {y}"
        else:
            paths.append(f"M{x} {y} h0")  # h0: a day without neighbours is a dot
        previous = day
    return Sparkline(width, height, tuple(paths), place(*values[-1]), first, last, low, high)
