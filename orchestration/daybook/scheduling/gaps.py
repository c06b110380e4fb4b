"""Find gaps: business dates that should have a successful run on their current input and have none, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Optional, Union, get_args

from daybook.errors import UsageError
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.failures import first_line
from daybook.records.fingerprint import compute_fingerprint, package_versions
from daybook.records.models import AttemptRecord, InputFile, RunRecord
from daybook.records.names import STAGES
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import DateRange, StateName, determine_date_state, group_items, newest_scheduled_date
from daybook.scheduling.freshness import is_published
from daybook.settings import Settings
from daybook.sources import Calendar, Entity, LandingListing, LandingStore, Source, load_source
from daybook.sources.files import is_entity_file

Reason = Literal[
    "never ran",
    "failed",
    "rejected",
    "rolled back",
    "input changed",
    "input landed after the run",
    "stale",
    "computed by an earlier release",
    "other packages",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
STALE_REASONS: tuple[Reason, ...] = ("stale", "computed by an earlier release", "other packages")
"""Reasons that a deploy gives to many dates at once. A catch-up runs such dates only on request."""

_REDACTION_PREFIX = "[redacted:"
_NUMBER = re.compile(r"\d[\d,.]*")
_READ_THREADS = 16
"""Number of records that are read in parallel: in a bucket, each takes about 30 ms."""


@dataclass(frozen=True)
class InputChange:
    """How the files of a date differ from those that its last ingest read."""

    changed: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Entities that had files and have none now: a run would fail, or would lose the date's rows."""
    undated: bool = False
    """Whether only files of every date differ, such as a snapshot. Then this date's rows may be the same."""

    def __str__(self) -> str:
        kinds = (
            (self.changed, "has changed", "have changed"),
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
        )
        parts = [f"{_format_files(files)} {one if len(files) == 1 else more}" for files, one, more in kinds if files]
        return "; ".join(parts) + (" (for every date)" if self.undated else "")


@dataclass(frozen=True)
class Gap:
    """A business date without a successful run on its current input, why, and its newest run, if it has one."""

    run_date: date
    reason: Reason
    detail: str
    run_id: Optional[str] = None
    change: Optional[InputChange] = None
    """How landing has changed since the date was ingested; not determined for a date that never ran or failed."""


@dataclass(frozen=True)
class GapReport:
    """The expected dates from ``since`` to ``until``, with their gaps; each list is oldest first."""

    since: date
    until: date
    expected: int
    calendar: Calendar
    gaps: list[Gap] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    """Runs in progress: their dates are no gaps yet."""
    cleared: list[date] = field(default_factory=list)
    """Dates with a successful run whose files have all left landing: there is nothing to compare with or to run again from."""


_Cleared = Literal["cleared"]
_ComputedBy = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What computes tables: fingerprint by part, and packages by name."""


def find_gaps(settings: Settings, *, now: datetime, since: Optional[date] = None, until: Optional[date] = None) -> GapReport:
    """Return the gaps of a deployment among the business dates that are due.

    Parameters
    ----------
    settings
        The deployment.
    now
        The moment, with a time zone, that decides which dates are due.
    since
        First date; by default the first date of the source's calendar, else the date of the earliest run.
    until
        Last date; by default the last date of the calendar. Never later than the newest due date.

    Raises
    ------
    UsageError
        If ``until`` is before ``since``, or there is no first date.
    """
    source = load_source(settings.source)
    calendar = load_calendar(settings)
    archive = Archive(settings.archive)
    slot = newest_scheduled_date(now)
    if since and until and until < since:
        raise UsageError(f"--until {until} is before --since {since}; give the earlier date to --since.")
    first = since or calendar.first or _earliest_run_date(archive, settings)
    last = min(until or calendar.last or slot, slot)
    days = calendar.expected(first, last)
    found = GapReport(first, last, len(days), calendar)
    if not days:
        return found
    ran = set(archive.run_dates())
    landing = LandingStore(settings.landing)
    landing.require_no_outside_links()
    arrivals = LandingListing(landing)
    today = compute_fingerprint(settings), package_versions()
    with ThreadPoolExecutor(_READ_THREADS) as readers:
        histories = readers.map(lambda day: read_runs_of_date(archive, day) if day in ran else [], days)
        for day, runs in zip(days, histories):
            state = determine_date_state(calendar, day, runs[0].outcome if runs else None, slot)
            if state == "running":
                running = runs[0].range_id or runs[0].run_id
                if running not in found.under_way:
                    found.under_way.append(running)
                continue
            gap = _classify(day, state, runs, source, arrivals, today)
            if gap == "cleared":
                found.cleared.append(day)
            elif gap:
                found.gaps.append(gap)
    return found


def group_gaps(found: GapReport) -> list[tuple[DateRange, list[Gap]]]:
    """Return the gaps as ranges of consecutive dates with the same reason and detail, each with its gaps.

    Numbers in details are not compared, because each date has its own files, runs and counts.
    """
    return group_items(
        found.gaps,
        found.calendar,
        day_of=lambda gap: gap.run_date,
        like=lambda gap: (gap.reason, _NUMBER.sub("0", gap.detail)),
    )


def select_for_catch_up(gaps: Iterable[Gap], limit: Optional[int] = None, *, include_stale: bool = False) -> list[Gap]:
    """Return the gaps that a run can close, oldest first, at most ``limit``.

    A run cannot close the gap of a rejected date whose input is unchanged, because it would be rejected again. A run of a date
    that was rolled back would publish the same rows again, so it waits for other input, or for a person. A run cannot close the
    gap of a date that has lost an entity's files, because it would fail or lose rows. A deploy (``STALE_REASONS``) or a new
    snapshot makes gaps of all dates at once; these are taken with ``include_stale`` only.
    """
    chosen = sorted((gap for gap in gaps if _can_catch_up(gap, include_stale)), key=lambda gap: gap.run_date)
    return chosen if limit is None else chosen[:limit]


def _can_catch_up(gap: Gap, include_stale: bool) -> bool:
    if gap.change and gap.change.withdrawn:
        return False
    if gap.reason in ("rejected", "rolled back") and gap.change is None:
        return False
    if gap.reason == "rejected":
        return True
    if gap.reason in STALE_REASONS or (gap.change and gap.change.undated):
        return include_stale
    return True


def _earliest_run_date(archive: Archive, settings: Settings) -> date:
    dates = archive.run_dates()
    if not dates:
        raise UsageError(
            f"There are no runs yet, and params/sources/{settings.source}.yaml has no calendar.first, so nothing says "
            "which dates there should be; give --since YYYY-MM-DD."
        )
    return dates[0]


def read_runs_of_date(archive: Archive, day: date) -> list[RunRecord]:
    """Return a date's runs, newest first, back to the one that read landing, since a run can begin at a later stage."""
    runs: list[RunRecord] = []
    for run_id in reversed(archive.run_ids(day)):
        runs.append(archive.run(run_id))
        # Only for a failed run, or one that was rolled back, it matters whether an earlier one is still published.
        complete = (runs[0].outcome != "FAILED" and runs[0].rolled_back is None) or _find_published(runs)
        if runs[0].outcome == "RUNNING" or (complete and any(map(find_ingest, runs))):
            break
    return runs


def _find_published(runs: Sequence[RunRecord]) -> Optional[RunRecord]:
    """Return the newest run before the newest one that published the date."""
    return next((run for run in runs[1:] if is_published(run)), None)


def find_ingest(run: RunRecord) -> Optional[AttemptRecord]:
    """Return the ingest of a run; None if it did not end: a failed attempt changed no table and lists no input."""
    return next((each for each in reversed(run.stages) if each.stage == STAGES[0] and each.outcome != "FAILED"), None)


def _classify(
    day: date,
    state: StateName,
    runs: Sequence[RunRecord],
    source: Source,
    landing: LandingListing,
    today: _ComputedBy,
) -> Union[Gap, _Cleared, None]:
    """Return the gap of a due date, or None; of several reasons the most specific one."""
    if not runs:
        there = [name for name, entity in source.entities.items() if landing.files(entity, day)]
        return Gap(
            day, "never ran", "its files are there" if source.primary in there else f"no file of {source.primary} has landed"
        )
    run_id, reasons, rollback = runs[0].run_id, runs[0].reasons or [""], runs[0].rolled_back
    reason = first_line(reasons[0]) + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
    published = _find_published(runs) if state == "failed" or rollback else None
    kept = f"; the tables of {published.run_id} are still published" if published else ""
    if state == "failed":
        return Gap(day, "failed", (reason.rstrip(".") if kept else reason) + kept, run_id)
    change = _compare_input(day, next(filter(None, map(find_ingest, runs)), None), source, landing)
    if rollback:
        differs = change if isinstance(change, InputChange) else None
        since = f"; its input has changed since: {differs}" if differs else ""
        return Gap(day, "rolled back", f"by {rollback.by}: {rollback.why.rstrip('.')}{kept}{since}", run_id, differs)
    if state == "rejected":
        differs = change if isinstance(change, InputChange) else None
        since = f"; its input has changed since: {differs}" if differs else ""
        return Gap(day, "rejected", reason + since, run_id, differs)
    if isinstance(change, InputChange):
        later = change.new and not change.changed and not change.gone
        return Gap(day, "input landed after the run" if later else "input changed", str(change), run_id, change)
    outdated = _find_stale_reason(runs, today)
    return Gap(day, *outdated, run_id) if outdated else change


def _compare_input(
    day: date, ingest: Optional[AttemptRecord], source: Source, landing: LandingListing
) -> Union[InputChange, _Cleared, None]:
    """Return how landing differs from what the ingest of a date read; None if it does not, or if it is not known."""
    if ingest is None or ingest.withheld or any(_REDACTION_PREFIX in f"{each.file} {each.sha256}" for each in ingest.inputs):
        return None
    read = {each.file: each for each in ingest.inputs}
    entities = _entities_to_compare(day, ingest, source, landing)
    entity_of = {file: name for name, entity in entities.items() for file in landing.files(entity, day)}
    gone = tuple(file for file in read if file not in entity_of)
    dated = {name for name, entity in entities.items() if entity.is_dated}
    if gone and not (dated & set(entity_of.values()) if dated else entity_of):
        return "cleared"
    read_at = parse_timestamp(ingest.started_at)

    def has_changed(file: InputFile) -> bool:
        return not landing.is_unchanged(file.file, size=file.size or 0, sha256=file.sha256, read_at=read_at)

    changed = tuple(file for file in entity_of if file in read and has_changed(read[file]))
    new = tuple(file for file in entity_of if file not in read)
    if not (changed or new or gone):
        return None
    withdrawn = tuple(
        name
        for name, entity in entities.items()
        if name not in entity_of.values() and any(is_entity_file(entity, day, file) for file in gone)
    )
    undated = not gone and not {entity_of[file] for file in changed + new} & dated
    return InputChange(changed, new, gone, withdrawn, undated)


def _entities_to_compare(day: date, ingest: AttemptRecord, source: Source, landing: LandingListing) -> dict[str, Entity]:
    """Return the entities whose files a run of the date would read now; none if it would be skipped again."""
    entities = dict(source.entities)
    if ingest.outcome != "SKIPPED":
        return entities
    if ingest.inputs:
        # The first entity had no row of the date, so ingest did not read the others.
        return {source.primary: entities[source.primary]}
    skipping = [name for name, each in entities.items() if each.missing == "skip" or name == source.primary]
    return {} if any(not landing.files(entities[name], day) for name in skipping) else entities


def _find_stale_reason(runs: Sequence[RunRecord], today: _ComputedBy) -> Optional[tuple[Reason, str]]:
    """Return the reason and detail if a date was computed by something else than would compute it today; else None.

    Every run that had a share in the date's tables counts, from the one that read landing to the one that published. A run
    whose record has no fingerprint gives no reason.
    """
    past = [run for run in runs if run.fingerprint]
    fingerprint, packages = today
    other = _list_differences([run.fingerprint for run in past], fingerprint)
    if runs[0].outcome == "SKIPPED":
        # A skipped date has no rows: only another source could give it some.
        return ("stale", "computed with other source") if "source" in other else None
    if any("logic" not in run.fingerprint for run in past):
        return "computed by an earlier release", "its record has a fingerprint of an earlier form, so nothing can be compared"
    if other:
        return "stale", f"computed with other {_format_list(other)}"
    other = _list_differences([run.packages.model_dump(exclude_unset=True) for run in past if run.packages], packages)
    return ("other packages", f"computed with another {_format_list(other)}") if other else None


def _list_differences(past: Sequence[Mapping[str, Any]], today: Mapping[str, Any]) -> list[str]:
    """Return the names whose value today differs from one in the past that is known."""
    return [name for name, value in today.items() if any(name in each and each[name] != value for each in past)]


def _format_files(files: tuple[str, ...]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _format_list(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
