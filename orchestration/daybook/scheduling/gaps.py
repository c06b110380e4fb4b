"""Gaps: business dates that should have a good run and have none, or whose good run is no longer true."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Optional, Union, get_args

from daybook.errors import UsageError
from daybook.records.archive import Archive, Record, first_line, parse_timestamp
from daybook.records.fingerprint import compute_fingerprint, package_versions
from daybook.records.names import STAGES
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import DateRange, DateState, NewestRun, determine_date_state, group_items, newest_scheduled_date
from daybook.scheduling.freshness import has_published
from daybook.settings import Settings
from daybook.sources import Calendar, LandingListing, LandingStore, Source, load_source
from daybook.sources.files import is_entity_file

Reason = Literal[
    "never ran",
    "failed",
    "rejected",
    "input changed",
    "input landed after the run",
    "stale",
    "computed by an earlier release",
    "other packages",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
STALE_REASONS: tuple[Reason, ...] = ("stale", "computed by an earlier release", "other packages")
"""Reasons that a deploy gives many dates at once. A catch-up takes them only when it is asked to."""

_REDACTION_PREFIX = "[redacted:"
_NUMBER = re.compile(r"\d[\d,.]*")
_READ_THREADS = 16
"""Records that are read at a time: from a bucket, each waits some 30 ms for its answer."""


@dataclass(frozen=True)
class InputChange:
    """How the files of a date differ from those its last ingest read."""

    changed: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Entities that had files and have none now: a run would fail, or take the date's rows for none."""
    undated: bool = False
    """All of it is in files that belong to every date, such as a snapshot: no sign that this date's rows differ."""

    def __str__(self) -> str:
        kinds = (
            (self.changed, "has changed", "have changed"),
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
        )
        said = [f"{_format_files(files)} {one if len(files) == 1 else more}" for files, one, more in kinds if files]
        return "; ".join(said) + (" (for every date)" if self.undated else "")


@dataclass(frozen=True)
class Gap:
    """A business date without a good run, why, and its newest run, if it has any."""

    run_date: date
    reason: Reason
    detail: str
    run_id: Optional[str] = None
    change: Optional[InputChange] = None
    """What is new in the landing since the date was read; not looked for where it never ran or failed."""


@dataclass(frozen=True)
class GapReport:
    """The expected dates from ``since`` to ``until``, and what is the matter with some of them; each list oldest first."""

    since: date
    until: date
    expected: int
    calendar: Calendar
    gaps: list[Gap] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    """Runs that have not ended: their dates are no gaps yet."""
    cleared: list[date] = field(default_factory=list)
    """Dates with a good run whose files have all left the landing: nothing is left to compare with, or to run again from."""


@dataclass(frozen=True)
class _IngestInput:
    """What a date's ingest read, last: files with size and digest, and when it began to."""

    at: datetime
    skipped: bool
    files: Optional[dict[str, tuple[int, str]]]
    """None where the record does not say: it was withheld, or a name in it was redacted."""


@dataclass(frozen=True)
class _RunHistory:
    """What the runs of a date say of it."""

    run_id: str
    outcome: str
    reason: str
    read: Optional[_IngestInput]
    computed_by: tuple[Record, ...]
    """``compute_fingerprint`` and ``package_versions`` of each run that had a share in the date's tables, as far as their records have them."""
    published: Optional[str]
    """The newest of the runs before that published the date."""


_Cleared = Literal["cleared"]


def find_gaps(settings: Settings, *, now: datetime, since: Optional[date] = None, until: Optional[date] = None) -> GapReport:
    """The gaps of a deployment among the business dates that are due at ``now`` (which has a time zone).

    ``since`` is by default the first date of the source's calendar, or that of the earliest run; ``until`` the newest date
    that is due (it is never later), or the calendar's last. Raises ``UsageError`` where nothing says where to begin.
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
    with ThreadPoolExecutor(_READ_THREADS) as readers:
        pasts = list(readers.map(lambda day: _read_run_history(archive, day) if day in ran else None, days))
    landing = LandingStore(settings.landing)
    landing.require_no_outside_links()
    arrivals = LandingListing(landing)
    today = {"fingerprint": compute_fingerprint(settings), "packages": package_versions()}
    for day, past in zip(days, pasts):
        known = determine_date_state(calendar, day, NewestRun(past.run_id, past.outcome) if past else None, slot)
        if past and known.state == "running":
            found.under_way.append(past.run_id)
            continue
        gap = _classify(known, past, source, arrivals, today)
        if gap == "cleared":
            found.cleared.append(day)
        elif gap:
            found.gaps.append(gap)
    return found


def group_gaps(found: GapReport) -> list[tuple[DateRange, list[Gap]]]:
    """Return the gaps as ranges of dates in a row with the same reason and detail, each with its gaps.

    Numbers in details are not compared: each date has files, runs and counts of its own.
    """
    return group_items(
        found.gaps,
        found.calendar,
        day_of=lambda gap: gap.run_date,
        like=lambda gap: (gap.reason, _NUMBER.sub("0", gap.detail)),
    )


def select_for_catch_up(gaps: Iterable[Gap], limit: Optional[int] = None, *, include_stale: bool = False) -> list[Gap]:
    """The gaps that a run by itself can close, oldest first, at most ``limit`` of them.

    Left out is what a run cannot mend: a rejected date whose input is what the gate saw, as the same rows get the same answer;
    and a date that has lost an entity's files, as it would fail, or lose rows. What makes every date run again at once, by
    itself and each time, is taken with ``include_stale`` only: a deploy (``STALE_REASONS``), and a new snapshot.
    """
    chosen = sorted((gap for gap in gaps if _can_catch_up(gap, include_stale)), key=lambda gap: gap.run_date)
    return chosen if limit is None else chosen[:limit]


def _can_catch_up(gap: Gap, include_stale: bool) -> bool:
    if gap.change and gap.change.withdrawn:
        return False
    if gap.reason == "rejected":
        return gap.change is not None
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


def _read_run_history(archive: Archive, day: date) -> Optional[_RunHistory]:
    """What a date's runs say, newest first, back to the one that read the landing: a run can begin at a later stage."""
    run_ids = archive.run_ids(day)
    if not run_ids:
        return None
    newest = archive.run(run_ids[-1])
    outcome = newest["outcome"]
    read, published, computed_by = None, None, []
    for run_id in reversed(run_ids):
        record = newest if run_id == run_ids[-1] else archive.run(run_id)
        if record.get("fingerprint") and read is None:
            computed_by.append({key: record.get(key) or {} for key in ("fingerprint", "packages")})
        read = read or _find_ingest_input(record)
        if record is not newest and published is None and has_published(record):
            published = run_id
        # Only of a failed run it is asked whether readers still see an earlier one.
        if outcome == "RUNNING" or (read and (outcome != "FAILED" or published)):
            break
    reasons = newest.get("reasons") or [""]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return _RunHistory(run_ids[-1], outcome, first_line(reasons[0]) + more, read, tuple(computed_by), published)


def _find_ingest_input(record: Record) -> Optional[_IngestInput]:
    """What a run's ingest read, where it came to an end: a failed attempt changed no table, and has no list of its input."""
    attempts = [each for each in record.get("stages") or [] if each["stage"] == STAGES[0]]
    ended = [each for each in attempts if each["outcome"] != "FAILED"]
    if not ended:
        return None
    attempt = ended[-1]
    unknown = attempt.get("withheld") or any(
        _REDACTION_PREFIX in f"{each['file']} {each['sha256']}" for each in attempt["inputs"]
    )
    files = None if unknown else {each["file"]: (each["bytes"], each["sha256"]) for each in attempt["inputs"]}
    return _IngestInput(parse_timestamp(attempt["started_at"]), attempt["outcome"] == "SKIPPED", files)


def _classify(
    known: DateState, past: Optional[_RunHistory], source: Source, landing: LandingListing, today: Record
) -> Union[Gap, _Cleared, None]:
    """Return the problem of a date that is due, if there is one; of several problems, the one that tells most."""
    day = known.date
    if past is None:
        there = [name for name, entity in source.entities.items() if landing.files(entity, day)]
        return Gap(
            day, "never ran", "its files are there" if source.primary in there else f"no file of {source.primary} has landed"
        )
    if known.state == "failed":
        kept = f"; the tables of {past.published} are still published" if past.published else ""
        return Gap(day, "failed", (past.reason.rstrip(".") if kept else past.reason) + kept, past.run_id)
    change = _compare_input(day, past.read, source, landing)
    if known.state == "rejected":
        differs = change if isinstance(change, InputChange) else None
        since = f"; its input has changed since: {differs}" if differs else ""
        return Gap(day, "rejected", past.reason + since, past.run_id, differs)
    if isinstance(change, InputChange):
        later = change.new and not change.changed and not change.gone
        return Gap(day, "input landed after the run" if later else "input changed", str(change), past.run_id, change)
    outdated = _find_stale_reason(past, today)
    return Gap(day, *outdated, past.run_id) if outdated else change


def _compare_input(
    day: date, read: Optional[_IngestInput], source: Source, landing: LandingListing
) -> Union[InputChange, _Cleared, None]:
    """How the landing differs from what was read of it for a date; None where it does not, or nobody knows."""
    if read is None or read.files is None:
        return None
    entities = dict(source.entities)
    if read.skipped:
        closed = [name for name, each in entities.items() if each.missing == "skip" or name == source.primary]
        if not read.files and any(not landing.files(entities[name], day) for name in closed):
            return None  # It would be skipped again.
        if read.files:
            # The first entity had no row of the date: the others were not read.
            entities = {source.primary: entities[source.primary]}
    there = {file: name for name, entity in entities.items() for file in landing.files(entity, day)}
    gone = tuple(file for file in read.files if file not in there)
    dated = [name for name, entity in entities.items() if entity.is_dated]
    if gone and not [file for file, name in there.items() if not dated or name in dated]:
        return "cleared"
    changed = tuple(
        file
        for file in there
        if file in read.files
        and not landing.is_unchanged(file, size=read.files[file][0], sha256=read.files[file][1], read_at=read.at)
    )
    new = tuple(file for file in there if file not in read.files)
    if not (changed or new or gone):
        return None
    withdrawn = tuple(
        name
        for name, entity in entities.items()
        if name not in there.values() and any(is_entity_file(entity, day, file) for file in gone)
    )
    return InputChange(
        changed, new, gone, withdrawn, undated=not gone and not {there[file] for file in changed + new} & set(dated)
    )


def _find_stale_reason(past: _RunHistory, today: dict[str, Any]) -> Optional[tuple[Reason, str]]:
    """Return why what computed a date differs from what would compute it today, as reason and detail; None where it does not.

    Every run that had a share in the date's tables counts, from reading the landing to publishing. A run whose record has no
    fingerprint gives no reason.
    """
    if past.outcome == "SKIPPED":
        # A skipped date has no rows: only another source could give it some.
        return ("stale", "computed with other source") if _differs(past, today, "fingerprint", "source") else None
    if any("logic" not in each["fingerprint"] for each in past.computed_by):
        return "computed by an earlier release", "its record has a fingerprint of an earlier form, so nothing can be compared"
    other = [part for part in today["fingerprint"] if _differs(past, today, "fingerprint", part)]
    if other:
        return "stale", f"computed with other {_format_list(other)}"
    other = [part for part in today["packages"] if _differs(past, today, "packages", part)]
    return ("other packages", f"computed with another {_format_list(other)}") if other else None


def _differs(past: _RunHistory, today: dict[str, Any], kind: str, part: str) -> bool:
    return any(part in each[kind] and each[kind][part] != today[kind][part] for each in past.computed_by)


def _format_files(files: tuple[str, ...]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _format_list(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
