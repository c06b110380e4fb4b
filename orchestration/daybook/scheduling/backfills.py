"""Backfills: many business dates run again, or for the first time, as one piece of work with a name, a plan and an end.

backfills/backfill-2025-11-01-2025-11-30-1/
    started.json              the plan: each date and the name of its run
    2025-11-07.refused.json   why a date could not be started
    backfill.json             what each date came to, unusual days, the one message; absent while it runs, or was lost
    history.jsonl             events of the state machine
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Optional

from daybook.errors import ObjectExistsError, UsageError
from daybook.records.archive import Archive, Record, current_timestamp, first_line, parse_timestamp, serialize_record
from daybook.records.fingerprint import compute_fingerprint
from daybook.records.names import NOT_STARTED, STAGES
from daybook.settings import Settings, require_name

MAX_DATES = 1000
"""Of one backfill: its plan must fit into a state machine's 256 KiB, and its events into 25,000."""
GOOD_OUTCOMES = ("SUCCEEDED", "SKIPPED")
DATE_OUTCOMES = (*GOOD_OUTCOMES, "REJECTED", "FAILED", NOT_STARTED, "RUNNING")
"""What a date can come to, in the order in which they are counted up; the last one while the backfill is under way."""
_FOLDER = "backfills"


@dataclass(frozen=True)
class PlannedDate:
    """A date of a backfill and the name of the run that it gets."""

    run_date: date
    run_id: str

    def to_record(self) -> dict[str, str]:
        """As state machines and records hold it."""
        return {"run_date": self.run_date.isoformat(), "run_id": self.run_id}


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill is going to do.

    ``already_done`` are dates with a good run, ``under_way`` the runs of dates that somebody runs already, ``missing_earlier_stages`` the
    dates that have nothing good to begin at a later stage from. ``continues`` is the backfill that was asked for the same and
    did not get to its end: what it has done counts as done. ``compute_fingerprint`` is of what will compute the tables.
    """

    first: date
    last: date
    days: tuple[PlannedDate, ...] = ()
    already_done: tuple[date, ...] = ()
    under_way: tuple[str, ...] = ()
    missing_earlier_stages: tuple[date, ...] = ()
    force: bool = False
    first_stage: str = STAGES[0]
    kind: str = "backfill"
    fingerprint: Optional[dict[str, Any]] = None
    continues: Optional[str] = None

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for: the same again continues what was stopped. With other code or settings it is not the same."""
        return {
            "kind": self.kind,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "force": self.force,
            "first_stage": self.first_stage,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class DateResult:
    """What a date of a backfill came to: an outcome of ``DATE_OUTCOMES``, why, and how long its run took, in seconds.

    ``run_id`` is the run that it got, or was to get.
    """

    run_date: date
    run_id: str
    outcome: str
    reason: str = ""
    seconds: Optional[float] = None

    def to_record(self) -> dict[str, Any]:
        """As the closing record holds it."""
        return {**vars(self), "run_date": self.run_date.isoformat()}


def plan_backfill(
    settings: Settings, first: date, last: date, *, force: bool = False, first_stage: str = STAGES[0]
) -> BackfillPlan:
    """The dates from ``first`` to ``last``, both included, that have no good run; with ``force``, or from a later stage on,
    all.

    Where the same was asked for before and was stopped, the dates that it has done are left alone. Raises ``UsageError``.
    """
    if last < first:
        raise UsageError(f"The last date {last} is before the first, {first}; give the earlier date first.")
    count = (last - first).days + 1
    if count > MAX_DATES:
        raise UsageError(f"{first} to {last} are {count:,} dates; one backfill takes up to {MAX_DATES:,}, so give it in parts.")
    archive = Archive(settings.archive)
    plan = BackfillPlan(first, last, force=force, first_stage=first_stage, fingerprint=compute_fingerprint(settings))
    continues = _find_unfinished(archive, plan)
    again = force or first_stage != STAGES[0]
    done = (
        {each.run_date for each in read_results(archive, continues) if each.outcome in GOOD_OUTCOMES}
        if continues and again
        else set()
    )
    # What there is nothing to do for: a closed shop has no later stages.
    enough = GOOD_OUTCOMES if not again else ("SKIPPED",) if first_stage != STAGES[0] else ()
    days, left_alone, under_way, not_ready = [], [], [], []
    for day in (first + timedelta(days=number) for number in range(count)):
        runs = archive.run_ids(day)
        newest = runs[-1] if runs else None
        record = archive.run(newest) if newest else None
        if record and record["outcome"] == "RUNNING":
            under_way.append(record["run_id"])
        elif day in done or (record and record["outcome"] in enough):
            left_alone.append(day)
        elif first_stage != STAGES[0] and not _completed_earlier_stages(archive, runs, first_stage):
            not_ready.append(day)
        else:
            days.append(PlannedDate(day, archive.next_run_id(day)))
    return replace(
        plan,
        days=tuple(days),
        already_done=tuple(left_alone),
        under_way=tuple(under_way),
        missing_earlier_stages=tuple(not_ready),
        continues=continues,
    )


def plan_catch_up(settings: Settings, dates: Sequence[date]) -> BackfillPlan:
    """A backfill of just these dates (a catch-up), which are in order and at least one."""
    archive = Archive(settings.archive)
    days = tuple(PlannedDate(day, archive.next_run_id(day)) for day in dates[:MAX_DATES])
    return BackfillPlan(days[0].run_date, days[-1].run_date, days, kind="catch-up", fingerprint=compute_fingerprint(settings))


def start_backfill(archive: Archive, plan: BackfillPlan, facts: Record) -> str:
    """Put a plan on record; returns the name that it gets."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}"
    number = 1
    while True:
        backfill_id = f"{stem}-{number}"
        record = {
            "record": "backfill",
            "backfill_id": backfill_id,
            "started_at": current_timestamp(),
            **facts,
            **plan.asked,
            "days": [day.to_record() for day in plan.days],
            "left_alone": [day.isoformat() for day in plan.already_done],
            "continues": plan.continues,
        }
        try:
            archive.store.create(f"{_FOLDER}/{backfill_id}/started.json", serialize_record(record))
        except ObjectExistsError:
            number += 1
            continue
        return backfill_id


def record_refusal(archive: Archive, backfill_id: str, run_date: date, reason: str) -> None:
    """Put on record why a date of a backfill could not be started, which no run of it can say."""
    archive.store.replace(
        _refusal_key(backfill_id, run_date), serialize_record({"run_date": run_date.isoformat(), "reason": reason})
    )


def close_backfill(
    archive: Archive, backfill_id: str, *, stopped: bool = False, reasons: Sequence[str] = (), **more: Any
) -> Record:
    """Write a backfill's closing record, from its plan and the records of its runs. One that is there already stays.

    One that was ``stopped``, or has ``reasons`` of its own, has failed whatever its dates came to.
    """
    started = read_backfill(archive, backfill_id)
    if started["state"] == "closed":
        return started
    found = read_results(archive, backfill_id)
    ended = current_timestamp()
    record = {
        **{key: value for key, value in started.items() if key not in ("days", "state")},
        "ended_at": ended,
        "seconds": max((parse_timestamp(ended) - parse_timestamp(started["started_at"])).total_seconds(), 0.0),
        "outcome": "FAILED" if stopped or reasons else overall_outcome(found),
        "reasons": list(reasons),
        "stopped": stopped,
        "counts": count_outcomes(found),
        "results": [each.to_record() for each in found],
        **more,
    }
    try:
        archive.store.create(f"{_FOLDER}/{backfill_id}/backfill.json", serialize_record(record))
    except ObjectExistsError:
        # Somebody else closed it just now.
        return read_backfill(archive, backfill_id)
    return {**record, "state": "closed"}


def write_backfill_history(archive: Archive, backfill_id: str, journal: bytes) -> None:
    """Write the events of a backfill's state machine, one JSON object a line, where they are not there yet."""
    key = f"{_FOLDER}/{backfill_id}/history.jsonl"
    if not archive.store.exists(key):
        archive.store.create(key, journal)


def read_backfill(archive: Archive, backfill_id: str) -> Record:
    """A backfill's closing record (``state`` closed), or its plan while it has none (``state`` open)."""
    try:
        found: Record = json.loads(archive.store.read(f"{_FOLDER}/{require_name(backfill_id, 'a backfill')}/started.json"))
    except FileNotFoundError:
        raise UsageError(f"There is no backfill {backfill_id}; `daybook backfills` lists them.") from None
    key = f"{_FOLDER}/{backfill_id}/backfill.json"
    if archive.store.exists(key):
        return {**found, **json.loads(archive.store.read(key)), "state": "closed"}
    return {**found, "state": "open"}


def backfill_ids(archive: Archive) -> list[str]:
    """The names of all backfills, oldest first."""
    names = archive.store.list_folders(_FOLDER)
    started = {name: json.loads(archive.store.read(f"{_FOLDER}/{name}/started.json"))["started_at"] for name in names}
    return sorted(names, key=lambda name: (started[name], name))


def is_backfill(name: str) -> bool:
    """Whether a name is a backfill's."""
    return re.fullmatch(r"(backfill|catch-up)(-[0-9]{4}-[0-9]{2}-[0-9]{2}){2}-[1-9][0-9]*", name) is not None


def is_planned(archive: Archive, backfill_id: str, run_id: str) -> bool:
    """Return whether a backfill that has no summary yet plans a run."""
    if not is_backfill(backfill_id):
        return False
    try:
        plan = read_backfill(archive, backfill_id)
    except UsageError:
        return False
    return plan["state"] == "open" and run_id in (day["run_id"] for day in plan["days"])


def read_results(archive: Archive, backfill_id: str) -> list[DateResult]:
    """What the dates of a backfill came to so far, by the records of their runs, in the order of dates.

    A backfill that continues another has the dates that that one had done among its own.
    """
    plan = read_backfill(archive, backfill_id)
    own = [_read_result(archive, backfill_id, each) for each in plan["days"]]
    planned = {each.run_date for each in own}
    before = read_results(archive, plan["continues"]) if plan.get("continues") else []
    done = [each for each in before if each.outcome in GOOD_OUTCOMES and each.run_date not in planned]
    return sorted(own + done, key=lambda each: each.run_date)


def count_outcomes(found: Iterable[DateResult]) -> dict[str, int]:
    """How many dates came to what; only outcomes that there are."""
    counts = Counter(each.outcome for each in found)
    return {outcome: counts[outcome] for outcome in DATE_OUTCOMES if counts[outcome]}


def overall_outcome(found: Iterable[DateResult]) -> str:
    """The outcome of a backfill as a whole: as bad as its worst date."""
    there = {each.outcome for each in found}
    if there & {"FAILED", NOT_STARTED, "RUNNING"}:
        return "FAILED"
    return "REJECTED" if "REJECTED" in there else "SUCCEEDED"


def _read_result(archive: Archive, backfill_id: str, planned: dict[str, str]) -> DateResult:
    day, run_id = date.fromisoformat(planned["run_date"]), planned["run_id"]
    found = _find_run(archive, backfill_id, day, run_id)
    if found is None:
        return DateResult(day, run_id, NOT_STARTED, _read_refusal_reason(archive, backfill_id, day))
    record = archive.run(found)
    reasons = record.get("reasons") or []
    return DateResult(day, found, record["outcome"], first_line(reasons[0]) if reasons else "", record.get("seconds"))


def _find_run(archive: Archive, backfill_id: str, day: date, planned: str) -> Optional[str]:
    """The run that a date got: the planned one, or a later one where somebody else had taken that name meanwhile."""
    if not archive.store.exists(f"{archive.folder(planned)}/started.json"):
        return None
    names = archive.run_ids(day)
    return next((name for name in names[names.index(planned) :] if archive.started(name).get("part_of") == backfill_id), None)


def _refusal_key(backfill_id: str, run_date: date) -> str:
    return f"{_FOLDER}/{backfill_id}/{run_date}.refused.json"


def _read_refusal_reason(archive: Archive, backfill_id: str, run_date: date) -> str:
    try:
        return str(json.loads(archive.store.read(_refusal_key(backfill_id, run_date)))["reason"])
    except FileNotFoundError:
        return ""


def _completed_earlier_stages(archive: Archive, runs: Sequence[str], stage: str) -> bool:
    """Whether the stages that the newest of a date's runs did before this one all ended well.

    Otherwise to begin there would make good a date of which a gate has said no, or whose files were never taken in. A run that
    was stopped before its first stage says nothing; the one before it does.
    """
    for run_id in reversed(runs):
        last = {each["stage"]: each["outcome"] for each in archive.run(run_id)["stages"]}
        if last:
            begun = min(STAGES.index(each) for each in last)
            return all(last.get(each) == "SUCCEEDED" for each in STAGES[begun : STAGES.index(stage)])
    return False


def _find_unfinished(archive: Archive, plan: BackfillPlan) -> Optional[str]:
    """The newest backfill that was asked for the same, where it did not get through its dates and to its summary."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}-"
    numbers = [name[len(stem) :] for name in archive.store.list_folders(_FOLDER) if name.startswith(stem)]
    for number in sorted(map(int, numbers), reverse=True):
        record = read_backfill(archive, f"{stem}{number}")
        if all(record.get(key) == value for key, value in plan.asked.items()):
            through = "message" in record and NOT_STARTED not in record["counts"]
            return None if through else record["backfill_id"]
    return None
