"""Determine which business dates are due, and the state of each, from the calendar, the newest runs and the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Callable, Literal, Optional, TypeVar, cast
from zoneinfo import ZoneInfo

from daybook.records.names import list_dates
from daybook.sources.calendar import Calendar

RUN_TIME = time(2, 0)
"""The time of the nightly run in UTC. The run at 02:00 UTC on the 24th processes the 23rd."""

StateName = Literal["closed", "not due", "never ran", "running", "succeeded", "skipped", "rejected", "failed"]
"""The outcome of the newest run of a date. Without a run: ``closed`` if the calendar does not expect the date, ``not due``
until its nightly run is due, ``never ran`` after that."""

_MAX_RANGES = 3
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class DateRange:
    """Consecutive dates, both ends included. Dates between them that the calendar does not expect are not counted."""

    first: date
    last: date
    dates: int

    def __str__(self) -> str:
        return f"{self.first}" if self.dates == 1 else f"{self.first} to {self.last} ({self.dates:,} dates)"


def newest_scheduled_date(moment: datetime) -> date:
    """Return the newest business date whose nightly run is due.

    Raises ``ValueError`` if ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; give a time with its UTC offset")
    run_time = timedelta(hours=RUN_TIME.hour, minutes=RUN_TIME.minute)
    return (moment.astimezone(timezone.utc) - run_time).date() - timedelta(days=1)


def newest_due_date(calendar: Calendar, moment: datetime) -> Optional[date]:
    """Return the newest date that is due; None before the calendar's first date."""
    day = newest_scheduled_date(moment)
    if calendar.last:
        day = min(day, calendar.last)
    while not calendar.is_expected(day):
        if calendar.first and day <= calendar.first:
            return None
        day -= timedelta(days=1)
    return day


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return when a business date ends, in UTC: the shop's local midnight, also on days of 23 or 25 hours."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=zone).astimezone(timezone.utc)


def list_date_states(
    calendar: Calendar, outcomes: Mapping[date, str], moment: datetime, *, until: Optional[date] = None
) -> dict[date, StateName]:
    """Return the state of all dates from the first to the newest due date or the last run, without holes, oldest first.

    ``outcomes`` maps dates to the outcome of their newest run. The first date is that of the calendar or of the first run,
    whichever is earlier. ``until`` extends the dates beyond the newest due date; dates after the calendar's last are omitted.
    """
    ends = [*outcomes, *filter(None, [calendar.first])]
    if not ends:
        return {}
    scheduled = newest_scheduled_date(moment)
    end = max(scheduled, until or scheduled)
    last = max([*outcomes, min(end, calendar.last or end)])
    return {day: determine_date_state(calendar, day, outcomes.get(day), scheduled) for day in list_dates(min(ends), last)}


def determine_date_state(calendar: Calendar, day: date, outcome: Optional[str], newest_scheduled: date) -> StateName:
    """Return the state of a date with the outcome of its newest run, if it has one.

    ``newest_scheduled`` is the newest date whose nightly run is due.
    """
    if outcome is not None:
        return cast(StateName, outcome.lower())
    if not calendar.is_expected(day):
        return "closed"
    return "never ran" if day <= newest_scheduled else "not due"


def list_never_ran(states: Mapping[date, StateName]) -> list[date]:
    """Return the dates that are due and have no run."""
    return [day for day, state in states.items() if state == "never ran"]


def group_dates(dates: Iterable[date], calendar: Calendar) -> list[DateRange]:
    """Group dates, oldest first, into ranges. A range continues over dates that the calendar does not expect."""
    grouped = group_items(sorted(dates), calendar, day_of=lambda day: day, like=lambda day: None)
    return [found for found, _ in grouped]


def format_dates(dates: Iterable[date], calendar: Calendar) -> str:
    """Return dates as a list of ranges; older ranges are only counted."""
    found = group_dates(dates, calendar)
    older = sum(each.dates for each in found[:-_MAX_RANGES])
    shown = [str(each) for each in found[-_MAX_RANGES:]]
    return ", ".join([f"{older:,} older dates", *shown] if older else shown)


def group_items(
    items: Sequence[_Item], calendar: Calendar, *, day_of: Callable[[_Item], date], like: Callable[[_Item], object]
) -> list[tuple[DateRange, list[_Item]]]:
    """Group items, which are in the order of their dates, into ranges of consecutive dates with equal ``like(item)``."""
    groups: list[list[_Item]] = []
    for item in items:
        if groups and like(groups[-1][-1]) == like(item) and _is_consecutive(day_of(groups[-1][-1]), day_of(item), calendar):
            groups[-1].append(item)
        else:
            groups.append([item])
    return [(DateRange(day_of(group[0]), day_of(group[-1]), len(group)), group) for group in groups]


def _is_consecutive(before: date, after: date, calendar: Calendar) -> bool:
    return not any(calendar.is_expected(day) for day in list_dates(before + timedelta(days=1), after - timedelta(days=1)))
