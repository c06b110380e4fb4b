"""Backfills: many business dates run again, or for the first time, as one piece of work with a name, a plan and an end.

Here: which dates a backfill runs, its records in the archive, and what its dates came to. Not here: executing it
(``daybook.laptop`` on this machine, Step Functions on AWS), which dates are gaps (``daybook.gaps``), the summary that tells people
(``daybook.errands``).

    backfills/backfill-2025-11-01-2025-11-30-1/
        started.json       the plan: each date and the name of its run
        backfill.json      what each date came to, unusual days, the one message; absent while it runs, or when it was lost
        history.jsonl      events of the state machine
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Optional

from daybook.archive import Archive, Record, dump, first_line, now, parse_moment
from daybook.errors import AlreadyThereError, UsageError
from daybook.params import Settings
from daybook.stages import STAGES

MOST_DATES = 1000
"""Of one backfill: its plan must fit into a state machine's 256 KiB, and its events into 25,000."""
GOOD = ("SUCCEEDED", "SKIPPED")
OUTCOMES = ("SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "NOT STARTED")
NOT_STARTED = "NOT STARTED"
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
    """What a backfill is going to do. ``left_alone`` are dates with a good run, ``under_way`` those that somebody runs already,
    ``never_ran`` those without anything to begin at a later stage from; ``continues`` is the backfill that was stopped."""

    first: date
    last: date
    days: tuple[Day, ...]
    left_alone: tuple[date, ...] = ()
    under_way: tuple[str, ...] = ()
    never_ran: tuple[date, ...] = ()
    force: bool = False
    first_stage: str = STAGES[0]
    kind: str = "backfill"
    continues: Optional[str] = None

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for: the same again continues what was stopped."""
        return {
            "kind": self.kind,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "force": self.force,
            "first_stage": self.first_stage,
        }


@dataclass(frozen=True)
class Result:
    """What a date of a backfill came to: an outcome of ``OUTCOMES``, why, and how long its run took, in seconds."""

    run_date: date
    run_id: str
    outcome: str
    reason: str = ""
    seconds: Optional[float] = None

    def to_record(self) -> dict[str, Any]:
        """As the closing record holds it."""
        return {**vars(self), "run_date": self.run_date.isoformat()}


def plan_backfill(settings: Settings, first: date, last: date, *, force: bool = False, first_stage: str = STAGES[0]) -> Plan:
    """The dates from ``first`` to ``last``, both included, that have no good run; with ``force``, or from a later stage on, all.

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
    again = force or first_stage != STAGES[0]
    asked = Plan(first, last, (), force=force, first_stage=first_stage)
    stopped = _stopped(archive, asked.asked) if again else None
    done = {each.run_date for each in results(archive, stopped) if each.outcome in GOOD} if stopped else set()
    days, left_alone, under_way, never_ran = [], [], [], []
    for day in (first + timedelta(days=number) for number in range(count)):
        newest = next(iter(reversed(archive.run_ids(day))), None)
        record = archive.run(newest) if newest else None
        if record and record["outcome"] == "RUNNING":
            under_way.append(record["run_id"])
        elif day in done or (record and not again and record["outcome"] in GOOD):
            left_alone.append(day)
        elif first_stage != STAGES[0] and record is None:
            never_ran.append(day)
        elif first_stage != STAGES[0] and record and record["outcome"] == "SKIPPED":
            left_alone.append(day)
        else:
            days.append(Day(day, archive.next_run(day)))
    return Plan(
        *(first, last, tuple(days), tuple(left_alone), tuple(under_way), tuple(never_ran), force, first_stage),
        continues=stopped,
    )


def plan_dates(settings: Settings, dates: Sequence[date]) -> Plan:
    """A backfill of just these dates (a catch-up), which are in order and at least one."""
    archive = Archive(settings.archive)
    days = tuple(Day(day, archive.next_run(day)) for day in dates[:MOST_DATES])
    return Plan(dates[0], dates[-1], days, kind="catch-up")


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


def close_backfill(archive: Archive, backfill_id: str, **more: Any) -> Record:
    """Write a backfill's closing record, from its plan and the records of its runs. One that is there already stays."""
    started = read_backfill(archive, backfill_id)
    if started["state"] == "closed":
        return started
    found = results(archive, backfill_id)
    ended = now()
    record = {
        **{key: value for key, value in started.items() if key not in ("days", "state", "outcome")},
        "ended_at": ended,
        "seconds": max((parse_moment(ended) - parse_moment(started["started_at"])).total_seconds(), 0.0),
        "outcome": outcome_of(found),
        "counts": counts_of(found),
        "results": [each.to_record() for each in found],
        **more,
    }
    archive.store.create(f"{_FOLDER}/{backfill_id}/backfill.json", dump(record))
    return {**record, "state": "closed"}


def write_backfill_history(archive: Archive, backfill_id: str, journal: bytes) -> None:
    """Write the events of a backfill's state machine, one JSON object a line."""
    archive.store.create(f"{_FOLDER}/{backfill_id}/history.jsonl", journal)


def read_backfill(archive: Archive, backfill_id: str) -> Record:
    """A backfill's closing record (``state`` closed), or its plan while it has none (``state`` open)."""
    try:
        found: Record = json.loads(archive.store.read(f"{_FOLDER}/{backfill_id}/started.json"))
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
    return re.fullmatch(r"(backfill|catch-up)-\d{4}-\d{2}-\d{2}-\d{4}-\d{2}-\d{2}-[1-9]\d*", name) is not None


def results(archive: Archive, backfill_id: str) -> list[Result]:
    """What the dates of a backfill came to so far, by the records of their runs."""
    return [_result(archive, each) for each in read_backfill(archive, backfill_id)["days"]]


def counts_of(found: Iterable[Result]) -> dict[str, int]:
    """How many dates came to what; only outcomes that there are."""
    counts = Counter(each.outcome for each in found)
    return {outcome: counts[outcome] for outcome in (*OUTCOMES, "RUNNING") if counts[outcome]}


def outcome_of(found: Sequence[Result]) -> str:
    """The outcome of a backfill as a whole: as bad as its worst date."""
    there = {each.outcome for each in found}
    if there & {"FAILED", NOT_STARTED, "RUNNING"}:
        return "FAILED"
    return "REJECTED" if "REJECTED" in there else "SUCCEEDED"


def _result(archive: Archive, planned: dict[str, str]) -> Result:
    day, run_id = date.fromisoformat(planned["run_date"]), planned["run_id"]
    if not archive.store.exists(f"{archive.folder(run_id)}/started.json"):
        return Result(day, run_id, NOT_STARTED)
    record = archive.run(run_id)
    reasons = record.get("reasons") or [""]
    return Result(day, run_id, record["outcome"], first_line(reasons[0]) if reasons[0] else "", record.get("seconds"))


def _stopped(archive: Archive, asked: dict[str, Any]) -> Optional[str]:
    """The newest backfill that was asked for the same and did not get to its end, if that was the last of its kind."""
    for backfill_id in reversed(backfill_ids(archive)):
        record = read_backfill(archive, backfill_id)
        if all(record.get(key) == value for key, value in asked.items()):
            return backfill_id if record["state"] == "open" or record.get("stopped") else None
    return None
