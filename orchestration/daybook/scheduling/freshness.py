"""Compute how fresh gold tables are: the newest business date in each, and whether its contract's latency holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Optional
from zoneinfo import ZoneInfo

from daybook.contracts import Table
from daybook.records.archive import parse_timestamp
from daybook.records.models import AttemptRecord, RunOutcome, RunRecord
from daybook.scheduling.due import end_of_day, list_date_states
from daybook.sources.calendar import Calendar

_MIN_TIME = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Freshness:
    """The freshness of a gold table at a moment."""

    table: str
    newest: Optional[date]
    """The newest published date."""
    age: Optional[timedelta]
    """Time since the end of that date; negative for a date that has not ended."""
    latency: Optional[timedelta]
    """The latency that the contract promises."""
    late: tuple[date, ...] = ()
    """Due dates newer than ``newest``."""
    missing: tuple[date, ...] = ()
    """Due dates older than ``newest``; all due dates if none was ever published."""

    @property
    def states(self) -> tuple[str, ...]:
        """``late`` and ``missing``, as far as they apply."""
        never = self.latency is not None and self.newest is None
        return tuple(name for name, applies in (("late", self.late), ("missing", self.missing or never)) if applies)

    @property
    def holds(self) -> bool:
        """Whether the promised latency holds; always true without one."""
        return not self.states


def compute_freshness(
    runs: Sequence[RunRecord], tables: Iterable[Table], *, zone: ZoneInfo, at: datetime, calendar: Calendar
) -> list[Freshness]:
    """Return how fresh each table is at a moment.

    A date is due from its end plus the contract's latency on. A date whose newest ended run was SKIPPED needs no rows.

    Parameters
    ----------
    runs
        The runs' records, in the archive's order.
    tables
        Contracts of gold tables.
    zone
        The shop's time zone, in which a date ends.
    at
        The moment, with a time zone.
    calendar
        The expected dates. A calendar without a first date begins with the first run.
    """
    # A run in progress says nothing yet, unless it is the only one of its date.
    outcomes = {run.run_date: run.outcome for run in runs}
    outcomes.update({run.run_date: run.outcome for run in runs if run.outcome != "RUNNING"})
    states = list_date_states(calendar, outcomes, at, until=at.astimezone(zone).date())
    wanted = [day for day, state in states.items() if calendar.is_expected(day) and state != "skipped"]
    return [_table_freshness(table, find_visible_dates(runs, table), wanted, zone, at) for table in tables]


def has_published(outcome: RunOutcome, stages: Iterable[AttemptRecord]) -> bool:
    """Return whether a run published its date: its quality stage ended well, although a later stage may have failed."""
    return outcome == "SUCCEEDED" or any((each.stage, each.outcome) == ("quality", "SUCCEEDED") for each in stages)


def is_published(run: RunRecord) -> bool:
    """Return whether a run published its date and was not rolled back."""
    return has_published(run.outcome, run.stages) and run.rolled_back is None


def describe_rollback(run: RunRecord, earlier: Iterable[RunRecord]) -> str:
    """Return who took back the publication of a run, when and why, and whose figures are published; empty without a rollback.

    ``earlier`` are the earlier runs of its date, oldest first.
    """
    found = run.rolled_back
    if found is None:
        return ""
    before = [each.run_id for each in earlier if is_published(each)]
    shown = f"readers see the figures that {before[-1]} published" if before else "no earlier run of its date is published"
    unfinished = "" if found.ended_at else " The rollback is not finished; give the same command again."
    return f"Rolled back by {found.by} at {found.started_at[:16].replace('T', ' ')} UTC: {found.why}; {shown}.{unfinished}"


def describe_published_figures(outcome: RunOutcome, stages: Sequence[AttemptRecord], earlier: Iterable[RunRecord]) -> str:
    """Return whose figures of a date are published, for a run that published none; empty for a run that did.

    Parameters
    ----------
    outcome, stages
        Outcome and attempts of the run.
    earlier
        The earlier runs of its date, oldest first. A skipped date without earlier figures gets no sentence.
    """
    if has_published(outcome, stages) or outcome == "RUNNING":
        return ""
    before = [each.run_id for each in earlier if is_published(each)]
    if not before and outcome == "SKIPPED":
        return ""
    some = sorted({name for each in stages for name in each.tables_written if name.startswith("gold.")})
    first = f"This run published only {', '.join(some)}" if some else "This run published nothing"
    others = f"readers see the figures that {before[-1]} published" if before else "no earlier run of its date did"
    return f"{first}; {others}."


def find_visible_dates(runs: Sequence[RunRecord], table: Table) -> set[date]:
    """Return the business dates whose own rows a gold table shows after the last of these runs."""
    found = _list_publications(runs, table)
    made = [each for each in found if each.status == "published"]
    restated = {day for each in made for day in each.restated}
    newest_read = max((each.silver_read_at for each in made), default=_MIN_TIME)
    return {
        each.day
        for each in found
        if each.status in ("published", "newer")
        # The run of another date has published it since.
        or (each.day in restated if table.date_column else each.merged <= newest_read)
    }


@dataclass(frozen=True)
class _Publication:
    """What a good quality stage did with a table."""

    day: date
    status: str
    """``published``; ``newer``: left to a run that read silver later; else the table waits or did not exist."""
    restated: frozenset[date]
    merged: datetime
    """When the rows of the date were in silver."""
    silver_read_at: datetime


def _list_publications(runs: Sequence[RunRecord], table: Table) -> list[_Publication]:
    done = []
    merged: dict[date, datetime] = {}
    for run in runs:
        if run.rolled_back:
            continue
        day, read_at = run.run_date, None
        for each in run.stages:
            if each.outcome != "SUCCEEDED":
                continue
            # The run of an approval has no transform of its own: that of an earlier run applies.
            if each.stage == "transform":
                merged[day] = parse_timestamp(each.ended_at or each.started_at)
            elif each.stage == "aggregate":
                read_at = parse_timestamp(each.started_at)
            elif each.stage == "quality":
                started = parse_timestamp(each.started_at)
                restated = frozenset(map(date.fromisoformat, each.details.published_dates))
                status = _publication_status(each, table, day)
                done.append(_Publication(day, status, restated, merged.get(day, started), read_at or started))
    return done


def _publication_status(quality: AttemptRecord, table: Table, day: date) -> str:
    details = quality.details
    if details.publications is not None:
        return details.publications.get(table.full_name, "")
    # A record whose details are withheld still has the written tables.
    if table.full_name in quality.tables_written:
        return "published"
    return "newer" if table.date_column and day.isoformat() in details.left_to_newer else ""


def _table_freshness(table: Table, shown: set[date], wanted: list[date], zone: ZoneInfo, at: datetime) -> Freshness:
    newest = max(shown, default=None)
    age = None if newest is None else at - end_of_day(newest, zone)
    latency = table.latency
    if latency is None:
        return Freshness(table.full_name, newest, age, None)
    absent = [day for day in wanted if day not in shown and end_of_day(day, zone) + latency <= at]
    late = tuple(day for day in absent if newest is not None and day > newest)
    return Freshness(table.full_name, newest, age, latency, late, tuple(day for day in absent if day not in late))
