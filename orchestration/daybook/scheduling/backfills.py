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

from daybook.errors import AlreadyThereError, UsageError
from daybook.records.archive import Archive, Record, dump, first_line, now, parse_moment
from daybook.records.fingerprint import fingerprint
from daybook.records.names import NOT_STARTED, STAGES
from daybook.settings import Settings, require_name

MOST_DATES = 1000
"""Of one backfill: its plan must fit into a state machine's 256 KiB, and its events into 25,000."""
GOOD = ("SUCCEEDED", "SKIPPED")
OUTCOMES = (*GOOD, "REJECTED", "FAILED", NOT_STARTED, "RUNNING")
"""What a date can come to, in the order in which they are counted up; the last one while the backfill is under way."""
_FOLDER = "backfills"


@dataclass(frozen=True)
class Day:
    """A date of a backfill and the name of the run that it gets."""

    run_date: date
    run_id: str

    def to_record(self) -> dict[str, str]:
        """As state machines and records hold it."""
        return {"run_date": self.run_date.isoformat(), "run_id": self.run_id}


@dataclass(frozen=True)
class Plan:
    """What a backfill is going to do.

    ``left_alone`` are dates with a good run, ``under_way`` the runs of dates that somebody runs already, ``not_ready`` the
    dates that have nothing good to begin at a later stage from. ``continues`` is the backfill that was asked for the same and
    did not get to its end: what it has done counts as done. ``fingerprint`` is of what will compute the tables.
    """

    first: date
    last: date
    days: tuple[Day, ...] = ()
    left_alone: tuple[date, ...] = ()
    under_way: tuple[str, ...] = ()
    not_ready: tuple[date, ...] = ()
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
class Result:
    """What a date of a backfill came to: an outcome of ``OUTCOMES``, why, and how long its run took, in seconds.

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


def plan_backfill(settings: Settings, first: date, last: date, *, force: bool = False, first_stage: str = STAGES[0]) -> Plan:
    """The dates from ``first`` to ``last``, both included, that have no good run; with ``force``, or from a later stage on,
    all.

    Where the same was asked for before and was stopped, the dates that it has done are left alone. Raises ``UsageError``.
    """
    if last < first:
        raise UsageError(f"The last date {last} is before the first, {first}; give the earlier date first.")
    count = (last - first).days + 1
    if count > MOST_DATES:
        raise UsageError(
            f"{first} to {last} are {count:,} dates; one backfill takes up to {MOST_DATES:,}, so give it in parts."
        )
    archive = Archive(settings.archive)
    plan = Plan(first, last, force=force, first_stage=first_stage, fingerprint=fingerprint(settings))
    continues = _unfinished(archive, plan)
    again = force or first_stage != STAGES[0]
    done = {each.run_date for each in results(archive, continues) if each.outcome in GOOD} if continues and again else set()
    # What there is nothing to do for: a closed shop has no later stages.
    enough = GOOD if not again else ("SKIPPED",) if first_stage != STAGES[0] else ()
    days, left_alone, under_way, not_ready = [], [], [], []
    for day in (first + timedelta(days=number) for number in range(count)):
        runs = archive.run_ids(day)
        newest = runs[-1] if runs else None
        record = archive.run(newest) if newest else None
        if record and record["outcome"] == "RUNNING":
            under_way.append(record["run_id"])
        elif day in done or (record and record["outcome"] in enough):
            left_alone.append(day)
        elif first_stage != STAGES[0] and not _got_to(archive, runs, first_stage):
            not_ready.append(day)
        else:
            days.append(Day(day, archive.next_run(day)))
    return replace(
        plan,
        days=tuple(days),
        left_alone=tuple(left_alone),
        under_way=tuple(under_way),
        not_ready=tuple(not_ready),
        continues=continues,
    )


def plan_dates(settings: Settings, dates: Sequence[date]) -> Plan:
    """A backfill of just these dates (a catch-up), which are in order and at least one."""
    archive = Archive(settings.archive)
    days = tuple(Day(day, archive.next_run(day)) for day in dates[:MOST_DATES])
    return Plan(days[0].run_date, days[-1].run_date, days, kind="catch-up", fingerprint=fingerprint(settings))


def start_backfill(archive: Archive, plan: Plan, facts: Record) -> str:
    """Put a plan on record; returns the name that it gets."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}"
    number = 1
    while True:
        backfill_id = f"{stem}-{number}"
        record = {
            "record": "backfill",
            "backfill_id": backfill_id,
            "started_at": now(),
            **facts,
            **plan.asked,
            "days": [day.to_record() for day in plan.days],
            "left_alone": [day.isoformat() for day in plan.left_alone],
            "continues": plan.continues,
        }
        try:
            archive.store.create(f"{_FOLDER}/{backfill_id}/started.json", dump(record))
        except AlreadyThereError:
            number += 1
            continue
        return backfill_id


def refuse_date(archive: Archive, backfill_id: str, run_date: date, reason: str) -> None:
    """Put on record why a date of a backfill could not be started, which no run of it can say."""
    archive.store.replace(_refusal(backfill_id, run_date), dump({"run_date": run_date.isoformat(), "reason": reason}))


def close_backfill(
    archive: Archive, backfill_id: str, *, stopped: bool = False, reasons: Sequence[str] = (), **more: Any
) -> Record:
    """Write a backfill's closing record, from its plan and the records of its runs. One that is there already stays.

    One that was ``stopped``, or has ``reasons`` of its own, has failed whatever its dates came to.
    """
    started = read_backfill(archive, backfill_id)
    if started["state"] == "closed":
        return started
    found = results(archive, backfill_id)
    ended = now()
    record = {
        **{key: value for key, value in started.items() if key not in ("days", "state")},
        "ended_at": ended,
        "seconds": max((parse_moment(ended) - parse_moment(started["started_at"])).total_seconds(), 0.0),
        "outcome": "FAILED" if stopped or reasons else outcome_of(found),
        "reasons": list(reasons),
        "stopped": stopped,
        "counts": counts_of(found),
        "results": [each.to_record() for each in found],
        **more,
    }
    try:
        archive.store.create(f"{_FOLDER}/{backfill_id}/backfill.json", dump(record))
    except AlreadyThereError:
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
    names = archive.store.folders(_FOLDER)
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


def results(archive: Archive, backfill_id: str) -> list[Result]:
    """What the dates of a backfill came to so far, by the records of their runs, in the order of dates.

    A backfill that continues another has the dates that that one had done among its own.
    """
    plan = read_backfill(archive, backfill_id)
    own = [_result(archive, backfill_id, each) for each in plan["days"]]
    planned = {each.run_date for each in own}
    before = results(archive, plan["continues"]) if plan.get("continues") else []
    done = [each for each in before if each.outcome in GOOD and each.run_date not in planned]
    return sorted(own + done, key=lambda each: each.run_date)


def counts_of(found: Iterable[Result]) -> dict[str, int]:
    """How many dates came to what; only outcomes that there are."""
    counts = Counter(each.outcome for each in found)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}


def outcome_of(found: Iterable[Result]) -> str:
    """The outcome of a backfill as a whole: as bad as its worst date."""
    there = {each.outcome for each in found}
    if there & {"FAILED", NOT_STARTED, "RUNNING"}:
        return "FAILED"
    return "REJECTED" if "REJECTED" in there else "SUCCEEDED"


def _result(archive: Archive, backfill_id: str, planned: dict[str, str]) -> Result:
    day, run_id = date.fromisoformat(planned["run_date"]), planned["run_id"]
    found = _run_of(archive, backfill_id, day, run_id)
    if found is None:
        return Result(day, run_id, NOT_STARTED, _why_refused(archive, backfill_id, day))
    record = archive.run(found)
    reasons = record.get("reasons") or []
    return Result(day, found, record["outcome"], first_line(reasons[0]) if reasons else "", record.get("seconds"))


def _run_of(archive: Archive, backfill_id: str, day: date, planned: str) -> Optional[str]:
    """The run that a date got: the planned one, or a later one where somebody else had taken that name meanwhile."""
    if not archive.store.exists(f"{archive.folder(planned)}/started.json"):
        return None
    names = archive.run_ids(day)
    return next((name for name in names[names.index(planned) :] if archive.started(name).get("part_of") == backfill_id), None)


def _refusal(backfill_id: str, run_date: date) -> str:
    return f"{_FOLDER}/{backfill_id}/{run_date}.refused.json"


def _why_refused(archive: Archive, backfill_id: str, run_date: date) -> str:
    try:
        return str(json.loads(archive.store.read(_refusal(backfill_id, run_date)))["reason"])
    except FileNotFoundError:
        return ""


def _got_to(archive: Archive, runs: Sequence[str], stage: str) -> bool:
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


def _unfinished(archive: Archive, plan: Plan) -> Optional[str]:
    """The newest backfill that was asked for the same, where it did not get through its dates and to its summary."""
    stem = f"{plan.kind}-{plan.first}-{plan.last}-"
    numbers = [name[len(stem) :] for name in archive.store.folders(_FOLDER) if name.startswith(stem)]
    for number in sorted(map(int, numbers), reverse=True):
        record = read_backfill(archive, f"{stem}{number}")
        if all(record.get(key) == value for key, value in plan.asked.items()):
            through = "message" in record and NOT_STARTED not in record["counts"]
            return None if through else record["backfill_id"]
    return None
