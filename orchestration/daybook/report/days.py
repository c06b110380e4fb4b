"""Lay out business dates: the calendar, the newest good day and its figures over time."""

from __future__ import annotations

from calendar import Calendar
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from daybook.records.models import RunRecord
from daybook.report import records
from daybook.report.records import Outcome

Number = Union[Decimal, float]


class CalendarDay(NamedTuple):
    """One field of the calendar; without an outcome no run is due."""

    date: date
    outcome: Optional[Outcome] = None
    run_id: Optional[str] = None


Months = Dict[str, List[List[Optional[CalendarDay]]]]
"""By the name of a month, its weeks of seven days from Monday; days of other months are None."""


@dataclass(frozen=True)
class Sparkline:
    """A line through daily values, drawn in a box of ``width`` × ``height``; broken where a day is missing."""

    width: int
    height: int
    paths: Tuple[str, ...]
    last: Tuple[float, float]
    first_date: date
    last_date: date
    low: Number
    high: Number


def newest_by_date(runs: Iterable[RunRecord]) -> Dict[date, RunRecord]:
    """Return the newest run of every business date that has one, dates ascending."""
    return {day: of_date[-1] for day, of_date in runs_by_date(runs).items()}


def runs_by_date(runs: Iterable[RunRecord]) -> Dict[date, List[RunRecord]]:
    """Return the runs of every business date that has one, oldest first, dates ascending."""
    found: Dict[date, List[RunRecord]] = {}
    for run in runs:
        found.setdefault(run.run_date, []).append(run)
    return {day: records.order_runs_of_date(found[day]) for day in sorted(found)}


def newest_succeeded(runs: Iterable[RunRecord]) -> Dict[date, RunRecord]:
    """Return, for every date with one, the newest standing run that succeeded and has a summary, dates ascending."""
    return newest_by_date(run for run in runs if run.outcome == "SUCCEEDED" and run.summary and not run.rolled_back)


def list_outcomes(states: Mapping[date, str], newest: Mapping[date, RunRecord]) -> Dict[date, Optional[Outcome]]:
    """Return the outcome of each date's newest run; without one NEVER RAN, CLOSED, or None before it is due."""
    return {
        day: records.outcome_of(newest[day]) if day in newest else records.OUTCOMES.get(state.upper())
        for day, state in states.items()
    }


def build_calendar(outcomes: Mapping[date, Optional[Outcome]], newest: Mapping[date, RunRecord]) -> Dict[int, Months]:
    """Return the months with a run by year, newest year first, with every date's newest run.

    Months without a run would fill the page; their dates are in the list of dates that never ran.
    """

    def place(day: date, month: int) -> Optional[CalendarDay]:
        run = newest.get(day)
        return CalendarDay(day, outcomes.get(day), run.run_id if run else None) if day.month == month else None

    return {
        year: {
            f"{date(year, month, 1):%B}": [
                [place(day, month) for day in week] for week in Calendar(firstweekday=0).monthdatescalendar(year, month)
            ]
            for month in sorted({day.month for day in newest if day.year == year})
        }
        for year in sorted({day.year for day in outcomes}, reverse=True)
    }


def build_sparkline(values: Sequence[Tuple[date, Number]], *, width: int = 600, height: int = 64) -> Optional[Sparkline]:
    """Return a line through ``values`` (dates ascending), the lowest at the bottom; None without values."""
    if not values:
        return None
    first, last = values[0][0], values[-1][0]
    low, high = min(value for _, value in values), max(value for _, value in values)
    margin = 4  # room for the line's own thickness and the dot at its end
    days = max((last - first).days, 1)

    def place(day: date, value: Number) -> Tuple[float, float]:
        x = margin + (width - 2 * margin) * ((day - first).days / days if last > first else 1.0)
        rise = (float(value) - float(low)) / (float(high) - float(low)) if high > low else 0.5
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
