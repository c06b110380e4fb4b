"""How fresh the gold tables are: the newest business date in each, and whether its contract's latency holds at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook.contracts import Table
from daybook.records.archive import Record, parse_timestamp
from daybook.scheduling.due import NewestRun, end_of_day, list_date_states
from daybook.sources.calendar import Calendar

_MIN_TIME = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Freshness:
    """A gold table at a moment.

    ``newest`` is the newest date it shows, ``age`` how long ago that day ended (negative for one that has not), ``latency``
    what its contract promises. ``late`` are dates that are due and newer than ``newest``; ``missing`` are due and older than
    it, or all that are due where nothing was ever published.
    """

    table: str
    newest: Optional[date]
    age: Optional[timedelta]
    latency: Optional[timedelta]
    late: tuple[date, ...] = ()
    missing: tuple[date, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """``late`` and ``missing``, those that are the case."""
        never = self.latency is not None and self.newest is None
        return tuple(name for name, is_so in (("late", self.late), ("missing", self.missing or never)) if is_so)

    @property
    def holds(self) -> bool:
        """Whether the promise holds; a table that is promised nothing holds it."""
        return not self.states


def compute_freshness(
    runs: Sequence[Record], tables: Iterable[Table], *, zone: ZoneInfo, at: datetime, calendar: Calendar
) -> list[Freshness]:
    """Return how fresh each table is at the moment ``at`` (with a zone), by these runs' records, in the archive's order.

    The dates are those of the calendar; one without a first date begins with the first run. A date is due from its end plus
    the contract's latency on. A date whose newest ended run was SKIPPED needs no rows.
    """
    # A run under way says nothing yet, unless it is the only one of its date.
    newest = {_run_date(run): run for run in runs}
    newest.update({_run_date(run): run for run in runs if run["outcome"] != "RUNNING"})
    known = {day: NewestRun(run["run_id"], run["outcome"]) for day, run in newest.items()}
    days = list_date_states(calendar, known, at, until=at.astimezone(zone).date())
    wanted = [day.date for day in days if calendar.is_expected(day.date) and day.state != "skipped"]
    return [_table_freshness(table, find_visible_dates(runs, table), wanted, zone, at) for table in tables]


def has_published(run: Mapping[str, Any]) -> bool:
    """Return whether a run published its date: its quality stage ended well, though a later stage may have failed."""
    ends = [(each["stage"], each["outcome"]) for each in run.get("stages") or []]
    return run.get("outcome") == "SUCCEEDED" or ("quality", "SUCCEEDED") in ends


def describe_published_figures(run: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> str:
    """Return whose figures readers see of the date of a run that published none; empty for one that did.

    ``earlier`` are the runs of its date before it, oldest first. A skipped date without earlier figures needs no sentence.
    """
    if has_published(run) or run.get("outcome") in (None, "RUNNING"):
        return ""
    before = [str(each["run_id"]) for each in earlier if has_published(each)]
    if not before and run["outcome"] == "SKIPPED":
        return ""
    written = {name for each in run.get("stages") or [] for name in each.get("tables_written") or {}}
    some = sorted(name for name in written if name.startswith("gold."))
    said = f"This run published only {', '.join(some)}" if some else "This run published nothing"
    others = f"readers see the figures that {before[-1]} published" if before else "no earlier run of its date did"
    return f"{said}; {others}."


def find_visible_dates(runs: Sequence[Record], table: Table) -> set[date]:
    """The business dates whose own rows readers of a gold table see, after the last of these runs."""
    found = _list_publications(runs, table)
    made = [each for each in found if each.what == "published"]
    restated = {day for each in made for day in each.restated}
    newest_look = max((each.silver_read_at for each in made), default=_MIN_TIME)
    return {
        each.day
        for each in found
        if each.what in ("published", "newer")
        # Another date's run has shown it since.
        or (each.day in restated if table.partition_by else each.merged <= newest_look)
    }


@dataclass(frozen=True)
class _Publication:
    """What a good quality stage did about a table: ``published`` it (``restated`` are the dates), left it to a ``newer`` run,
    or neither: it waits, or did not exist. The date's rows were in silver from ``merged`` on; silver was read after ``silver_read_at``.
    """

    day: date
    what: str
    restated: frozenset[date]
    merged: datetime
    silver_read_at: datetime


def _list_publications(runs: Sequence[Record], table: Table) -> list[_Publication]:
    done = []
    merged: dict[date, datetime] = {}
    for run in runs:
        day, looked = _run_date(run), None
        for each in run["stages"]:
            if each["outcome"] != "SUCCEEDED":
                continue
            # A run that publishes what was approved has no transform of its own, for an earlier run's stands.
            if each["stage"] == "transform":
                merged[day] = parse_timestamp(each["ended_at"])
            elif each["stage"] == "aggregate":
                looked = parse_timestamp(each["started_at"])
            elif each["stage"] == "quality":
                began = parse_timestamp(each["started_at"])
                restated = frozenset(date.fromisoformat(text) for text in each.get("details", {}).get("published_dates", []))
                done.append(
                    _Publication(day, _publication_status(each, table, day), restated, merged.get(day, began), looked or began)
                )
    return done


def _publication_status(quality: Record, table: Table, day: date) -> str:
    details = quality.get("details", {})
    if "publications" in details:
        return str(details["publications"].get(table.full_name, ""))
    # A record whose details were withheld still says what was written.
    if table.full_name in quality["tables_written"]:
        return "published"
    return "newer" if table.partition_by and day.isoformat() in details.get("left_to_newer", []) else ""


def _table_freshness(table: Table, shown: set[date], wanted: list[date], zone: ZoneInfo, at: datetime) -> Freshness:
    newest = max(shown, default=None)
    age = None if newest is None else at - end_of_day(newest, zone)
    latency = table.latency
    if latency is None:
        return Freshness(table.full_name, newest, age, None)
    absent = [day for day in wanted if day not in shown and end_of_day(day, zone) + latency <= at]
    late = tuple(day for day in absent if newest is not None and day > newest)
    return Freshness(table.full_name, newest, age, latency, late, tuple(day for day in absent if day not in late))


def _run_date(run: Record) -> date:
    return date.fromisoformat(run["run_date"])
