"""Plan, record and close backfills: ranges of business dates that run together.

backfills/backfill-2025-11-01-2025-11-30-1/
    started.json              the plan: each date and the id of its run
    2025-11-07.refused.json   why a date could not be started
    backfill.json             the outcome of each date, unusual days, the message; absent while it runs or if it was lost
    history.jsonl             events of the state machine
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Optional

from daybook.errors import ObjectExistsError, UsageError
from daybook.records.archive import Archive, current_timestamp, parse_timestamp, serialize_record, take_first_free
from daybook.records.failures import first_line
from daybook.records.fingerprint import compute_fingerprint
from daybook.records.models import (
    SCHEMA_VERSION,
    BackfillRecord,
    DateOutcome,
    Notification,
    PlannedDate,
    PlannedRange,
    Refusal,
    RunOutcome,
    UnusualDay,
)
from daybook.records.names import NOT_STARTED, STAGES, list_dates
from daybook.scheduling.ranges import DEFAULT_CHUNK, measure_landing, plan_ranges
from daybook.settings import Settings, require_name

MAX_DATES = 1000
"""Maximum number of dates of a backfill: its plan must fit into a state machine's 256 KiB, its events into 25,000."""
GOOD_OUTCOMES = ("SUCCEEDED", "SKIPPED")
DATE_OUTCOMES = (*GOOD_OUTCOMES, "REJECTED", "FAILED", NOT_STARTED, "RUNNING")
"""Outcomes of a date, in the order in which they are listed; the last one only while the backfill runs."""
_FOLDER = "backfills"


@dataclass(frozen=True)
class BackfillPlan:
    """The plan of a backfill."""

    first: date
    last: date
    days: tuple[PlannedDate, ...] = ()
    """The dates to run."""
    ranges: tuple[PlannedRange, ...] = ()
    """The runs that process these dates."""
    already_done: tuple[date, ...] = ()
    """Dates that have a successful run."""
    under_way: tuple[str, ...] = ()
    """Runs of dates that are in progress."""
    missing_earlier_stages: tuple[date, ...] = ()
    """Dates that cannot begin at a later stage, because no run completed the stages before it."""
    force: bool = False
    first_stage: str = STAGES[0]
    kind: str = "backfill"
    chunk: str = DEFAULT_CHUNK
    """How the dates are cut into ranges. Another chunk continues the same request."""
    fingerprint: Optional[dict[str, Any]] = None
    """What will compute the tables (see ``compute_fingerprint``)."""
    continues: Optional[str] = None
    """The stopped backfill with the same request. Dates that it completed count as completed."""

    @property
    def request(self) -> dict[str, Any]:
        """The request. The same request continues a stopped backfill; other code or settings make another request."""
        return {
            "kind": self.kind,
            "first": self.first,
            "last": self.last,
            "force": self.force,
            "first_stage": self.first_stage,
            "fingerprint": self.fingerprint,
        }


def plan_backfill(
    settings: Settings,
    first: date,
    last: date,
    *,
    force: bool = False,
    first_stage: str = STAGES[0],
    chunk: str = DEFAULT_CHUNK,
) -> BackfillPlan:
    """Plan a backfill of the dates from ``first`` to ``last``, both included, without a successful run.

    A stopped backfill with the same request is continued: the dates that it has done are left alone.

    Parameters
    ----------
    settings
        The deployment.
    first, last
        Business dates.
    force
        Run dates with a good run, too.
    first_stage
        The stage to begin at. From a later stage than the first one, dates with a good run are run, too.
    chunk
        How the dates are cut into ranges (``cut_dates``).

    Raises
    ------
    UsageError
        If ``last`` is before ``first``, or there are more than ``MAX_DATES``.
    """
    if last < first:
        raise UsageError(f"The last date {last} is before the first, {first}; give the earlier date first.")
    dates = list_dates(first, last)
    if len(dates) > MAX_DATES:
        raise UsageError(
            f"{first} to {last} are {len(dates):,} dates; one backfill takes up to {MAX_DATES:,}, so give it in parts."
        )
    archive = Archive(settings.archive)
    plan = BackfillPlan(
        first, last, force=force, first_stage=first_stage, chunk=chunk, fingerprint=compute_fingerprint(settings)
    )
    continues = _find_unfinished(archive, plan)
    again = force or first_stage != STAGES[0]
    done = (
        {each.run_date for each in read_results(archive, continues) if each.outcome in GOOD_OUTCOMES}
        if continues and again
        else set()
    )
    # Outcomes that leave nothing to do: a skipped date has no later stages.
    enough = GOOD_OUTCOMES if not again else ("SKIPPED",) if first_stage != STAGES[0] else ()
    days: list[date] = []
    left_alone, under_way, not_ready = [], [], []
    for day in dates:
        runs = archive.run_ids(day)
        newest = runs[-1] if runs else None
        record = archive.run(newest) if newest else None
        if record and record.outcome == "RUNNING":
            under_way.append(record.range_id or record.run_id)
        elif day in done or (record and record.outcome in enough and not record.rolled_back):
            left_alone.append(day)
        elif first_stage != STAGES[0] and not _completed_earlier_stages(archive, runs, first_stage):
            not_ready.append(day)
        else:
            days.append(day)
    return replace(
        _plan_runs(settings, archive, plan, days),
        already_done=tuple(left_alone),
        under_way=tuple(dict.fromkeys(under_way)),
        missing_earlier_stages=tuple(not_ready),
        continues=continues,
    )


def plan_catch_up(settings: Settings, dates: Sequence[date], *, chunk: str = DEFAULT_CHUNK) -> BackfillPlan:
    """Plan a backfill of these dates (a catch-up): at least one, in order. ``chunk`` is that of ``plan_backfill``."""
    days = dates[:MAX_DATES]
    plan = BackfillPlan(days[0], days[-1], kind="catch-up", chunk=chunk, fingerprint=compute_fingerprint(settings))
    return _plan_runs(settings, Archive(settings.archive), plan, days)


def _plan_runs(settings: Settings, archive: Archive, plan: BackfillPlan, dates: Sequence[date]) -> BackfillPlan:
    """Return a plan with the runs of its dates."""
    if not dates:
        return plan
    ranges, days = plan_ranges(archive, dates, plan.chunk, measure_landing(settings, dates))
    return replace(plan, ranges=tuple(ranges), days=tuple(days))


def start_backfill(archive: Archive, plan: BackfillPlan, facts: Mapping[str, Any]) -> str:
    """Record a plan, with further values of ``BackfillRecord``, and return the backfill's id."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}"

    def create(backfill_id: str) -> None:
        record = BackfillRecord(
            record="backfill",
            schema_version=SCHEMA_VERSION,
            backfill_id=backfill_id,
            started_at=current_timestamp(),
            **facts,
            **plan.request,
            chunk=plan.chunk,
            days=list(plan.days),
            ranges=list(plan.ranges),
            left_alone=list(plan.already_done),
            continues=plan.continues,
        )
        archive.store.create(f"{_FOLDER}/{backfill_id}/started.json", serialize_record(record))

    return take_first_free((f"{stem}-{number}" for number in itertools.count(1)), create)


def record_refusal(archive: Archive, backfill_id: str, run_date: date, reason: str) -> None:
    """Record why a date of a backfill could not be started, since the date has no run with a record."""
    archive.store.replace(_refusal_key(backfill_id, run_date), serialize_record(Refusal(run_date=run_date, reason=reason)))


def close_backfill(
    archive: Archive,
    backfill_id: str,
    *,
    stopped: bool = False,
    reasons: Sequence[str] = (),
    unusual_days: Optional[list[UnusualDay]] = None,
    message: Optional[Notification] = None,
) -> BackfillRecord:
    """Write a backfill's closing record from its plan and its runs' records, unless it has one, and return it.

    A backfill that was ``stopped`` or has ``reasons`` of its own has failed, whatever the outcomes of its dates.
    """
    started = read_backfill(archive, backfill_id)
    if started.state == "closed":
        return started
    found = read_results(archive, backfill_id)
    ended = current_timestamp()
    record = BackfillRecord.model_validate(
        {
            **started.model_dump(exclude={"days", "ranges", "state"}, exclude_unset=True),
            "schema_version": SCHEMA_VERSION,
            "ended_at": ended,
            "seconds": max((parse_timestamp(ended) - parse_timestamp(started.started_at)).total_seconds(), 0.0),
            "outcome": "FAILED" if stopped or reasons else overall_outcome(found),
            "reasons": list(reasons),
            "stopped": stopped,
            "counts": count_outcomes(found),
            "results": found,
            **({} if unusual_days is None else {"unusual_days": unusual_days}),
            **({} if message is None else {"message": message}),
        }
    )
    try:
        archive.store.create(f"{_FOLDER}/{backfill_id}/backfill.json", serialize_record(record))
    except ObjectExistsError:
        # Another process closed it at the same time.
        return read_backfill(archive, backfill_id)
    return record.changed(state="closed")


def write_backfill_history(archive: Archive, backfill_id: str, journal: bytes) -> None:
    """Write the events of a backfill's state machine, one JSON object a line, unless they are archived."""
    key = f"{_FOLDER}/{backfill_id}/history.jsonl"
    if not archive.store.exists(key):
        archive.store.create(key, journal)


def read_backfill(archive: Archive, backfill_id: str) -> BackfillRecord:
    """Return a backfill's plan with its closing record (``state`` closed), or its plan alone (``state`` open).

    Raises ``UsageError`` if there is no such backfill.
    """
    folder = f"{_FOLDER}/{require_name(backfill_id, 'a backfill')}"
    try:
        plan = archive.read(BackfillRecord, f"{folder}/started.json")
    except FileNotFoundError:
        raise UsageError(f"There is no backfill {backfill_id}; `daybook backfills` lists them.") from None
    if not archive.store.exists(f"{folder}/backfill.json"):
        return plan.changed(state="open")
    closed = archive.read(BackfillRecord, f"{folder}/backfill.json")
    return plan.changed(**{name: value for name, value in closed if name in closed.model_fields_set}, state="closed")


def read_backfills(archive: Archive) -> list[BackfillRecord]:
    """Return the records of all backfills, oldest first."""
    found = [read_backfill(archive, name) for name in archive.store.list_folders(_FOLDER)]
    return sorted(found, key=lambda each: (each.started_at, each.backfill_id))


def is_backfill(name: str) -> bool:
    """Return whether a name is the id of a backfill."""
    return re.fullmatch(r"(backfill|catch-up)(-[0-9]{4}-[0-9]{2}-[0-9]{2}){2}-[1-9][0-9]*", name) is not None


def is_planned(archive: Archive, backfill_id: str, run_id: str) -> bool:
    """Return whether a backfill that is still open plans a run, or the run of a half of such a range."""
    if not is_backfill(backfill_id):
        return False
    try:
        plan = read_backfill(archive, backfill_id)
    except UsageError:
        return False
    planned = [*(each.run_id for each in plan.days), *(each.run_id for each in plan.ranges)]
    return plan.state == "open" and (run_id in planned or any(run_id in archive.list_halves(each) for each in planned))


def read_results(archive: Archive, backfill_id: str) -> list[DateOutcome]:
    """Return the outcomes of a backfill's dates so far, by the records of their runs, in the order of dates.

    A backfill that continues another one includes the dates that the other one has done.
    """
    plan = read_backfill(archive, backfill_id)
    own = [_read_result(archive, backfill_id, each) for each in plan.days]
    planned = {each.run_date for each in own}
    before = read_results(archive, plan.continues) if plan.continues else []
    done = [each for each in before if each.outcome in GOOD_OUTCOMES and each.run_date not in planned]
    return sorted(own + done, key=lambda each: each.run_date)


def count_outcomes(found: Iterable[DateOutcome]) -> dict[str, int]:
    """Return the number of dates by outcome, without outcomes that no date has."""
    counts: Counter[str] = Counter(each.outcome for each in found)
    return {outcome: counts[outcome] for outcome in DATE_OUTCOMES if counts[outcome]}


def overall_outcome(found: Iterable[DateOutcome]) -> RunOutcome:
    """Return the outcome of a backfill as a whole: that of its worst date."""
    outcomes = {each.outcome for each in found}
    if outcomes & {"FAILED", NOT_STARTED, "RUNNING"}:
        return "FAILED"
    return "REJECTED" if "REJECTED" in outcomes else "SUCCEEDED"


def _read_result(archive: Archive, backfill_id: str, planned: PlannedDate) -> DateOutcome:
    day = planned.run_date
    found = _find_run(archive, backfill_id, day)
    if found is None:
        reason = _read_refusal_reason(archive, backfill_id, day)
        return DateOutcome(run_date=day, run_id=planned.run_id, outcome=NOT_STARTED, reason=reason, seconds=None)
    run = archive.run(found)
    reason = first_line(run.reasons[0]) if run.reasons else ""
    return DateOutcome(run_date=day, run_id=found, outcome=run.outcome, reason=reason, seconds=run.seconds)


def _find_run(archive: Archive, backfill_id: str, day: date) -> Optional[str]:
    """Return the newest run of a date that belongs to a backfill; None without one.

    It is the planned run, a later one if that id was taken, or the run of a half of its range.
    """
    for run_id in reversed(archive.run_ids(day)):
        with suppress(FileNotFoundError):  # A process was killed before it wrote the record.
            if archive.started(run_id).part_of == backfill_id:
                return run_id
    return None


def _refusal_key(backfill_id: str, run_date: date) -> str:
    return f"{_FOLDER}/{backfill_id}/{run_date}.refused.json"


def _read_refusal_reason(archive: Archive, backfill_id: str, run_date: date) -> str:
    try:
        return archive.read(Refusal, _refusal_key(backfill_id, run_date)).reason
    except FileNotFoundError:
        return ""


def _completed_earlier_stages(archive: Archive, runs: Sequence[str], stage: str) -> bool:
    """Return whether the newest run of a date completed the stages before this one.

    Without this check, a start at a later stage would publish a date that a gate rejected or whose files were never ingested.
    A run that was stopped before its first stage does not count; the one before it does.
    """
    for run_id in reversed(runs):
        last = {each.stage: each.outcome for each in archive.run(run_id).stages}
        if last:
            first = min(STAGES.index(each) for each in last)
            return all(last.get(each) == "SUCCEEDED" for each in STAGES[first : STAGES.index(stage)])
    return False


def _find_unfinished(archive: Archive, plan: BackfillPlan) -> Optional[str]:
    """Return the newest backfill with the same request, if it did not complete its dates and its summary."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}-"
    numbers = [name[len(stem) :] for name in archive.store.list_folders(_FOLDER) if name.startswith(stem)]
    for number in sorted(map(int, numbers), reverse=True):
        record = read_backfill(archive, f"{stem}{number}")
        if all(getattr(record, key) == value for key, value in plan.request.items()):
            complete = record.message is not None and NOT_STARTED not in record.counts
            return None if complete else record.backfill_id
    return None
