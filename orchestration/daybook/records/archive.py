"""The archive: what every run left behind, write-once, as files under one URI. The archive is its own index.

run_date=2025-11-30/daily-2025-11-30-1/
    started.json                     the run's name is taken: the lock
    1_ingest.attempt-1.claim         the attempt's number is taken
    1_ingest.attempt-1.json          its record, before the notebook
    1_ingest.attempt-1.ipynb .html   the executed notebook
    run.json                         the run's record
    history.jsonl                    events of the state machine, once it has ended
    openlineage.jsonl                the run as OpenLineage events
outcomes/daily-2025-11-30-1/ingest.json   the last outcome of a stage, for the state machine's Choice
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection
from datetime import date, datetime, timedelta, timezone
from typing import Any, Optional

from daybook.errors import ArchiveError, DaybookError, ObjectExistsError, UsageError
from daybook.records.clock import read_clock
from daybook.records.locks import LockHolder, find_lock_holder
from daybook.records.names import STAGES, format_run_id, notebook_name, run_date_of
from daybook.settings import is_temporary_name
from daybook.storage import Store, is_bucket

Record = dict[str, Any]

MAX_RUN_DURATION = timedelta(days=1)
"""A run in a bucket that began longer ago and has no closing record is taken to be over: no execution of a day lasts longer."""
LOST_REASON = "lost: the process that ran it ended without a word (killed, or the machine was switched off)"
"""The reason of a run that nobody works on and that has no closing record."""
NOT_RETRIED = "not retried: the same input would fail again"
"""Why a stage with a permanent failure has one attempt."""

_MAX_LINE_LENGTH = 2_000
"""Maximum length of a reason's first line."""
_CLOSING_RECORD_NAME = re.compile(r"run(\.redrive-\d+)?\.json")
_ATTEMPT_FILE_NAME = re.compile(r"(\d_[a-z]+)\.attempt-(\d+)\.(claim|json|ipynb|html)")


def current_timestamp() -> str:
    """This moment in UTC as records write it, to the millisecond."""
    return format_timestamp(time.time())


def format_timestamp(seconds: float) -> str:
    """A moment of the system's clock, in seconds since 1970, as records write it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> datetime:
    """A moment as records write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def serialize_record(record: Any) -> bytes:
    """A record as the archive writes it: readable JSON, stable to the byte."""
    return (json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def outcome_key(run_id: str, stage: str) -> str:
    """Where the outcome of a run's stage lies, under the archive."""
    return f"outcomes/{run_id}/{stage}.json"


class Archive:
    """The run records under a URI."""

    def __init__(self, uri: str) -> None:
        self.store = Store(uri)

    def folder(self, run_id: str) -> str:
        """The folder of a run, under the archive."""
        return f"run_date={run_date_of(run_id).isoformat()}/{run_id}"

    def next_run_id(self, run_date: date) -> str:
        """The next free name for a business date."""
        taken = self.run_ids(run_date)
        return format_run_id(run_date, max((int(name.rsplit("-", 1)[1]) for name in taken), default=0) + 1)

    def start_run(self, run_date: date, facts: Record) -> str:
        """Take the next free name for a business date. Two starters never get the same one."""
        number = int(self.next_run_id(run_date).rsplit("-", 1)[1])
        while True:
            run_id = format_run_id(run_date, number)
            try:
                self.store.create(
                    f"{self.folder(run_id)}/started.json", serialize_record({"run_id": run_id, **_start_times(), **facts})
                )
            except ObjectExistsError:
                number += 1
                continue
            return run_id

    def start_named_run(self, run_id: str, facts: Record) -> None:
        """Take this very name; ``ObjectExistsError`` where it is taken."""
        self.store.create(
            f"{self.folder(run_id)}/started.json", serialize_record({"run_id": run_id, **_start_times(), **facts})
        )

    def ensure_started(self, run_id: str, facts: Optional[Record] = None) -> None:
        """Take a run's name where the state machine's own service has given it, rather than ``start_run``."""
        if not self.store.exists(f"{self.folder(run_id)}/started.json"):
            self.start_named_run(run_id, facts or {})

    def started(self, run_id: str) -> Record:
        """What was known of a run when its name was taken: when, for which deployment, with whose approval."""
        found: Record = json.loads(self.store.read(f"{self.folder(run_id)}/started.json"))
        return found

    def claim_attempt(self, run_id: str, stage: str, facts: Record) -> int:
        """Take the next free attempt number of a stage, from 1."""
        number = max((int(found) for found in self._list_attempt_files(run_id, notebook_name(stage))), default=0) + 1
        while True:
            key = f"{self.folder(run_id)}/{attempt_name(stage, number)}.claim"
            try:
                self.store.create(key, serialize_record({**_start_times(), **facts}))
            except ObjectExistsError:
                number += 1
                continue
            return number

    def read_abandoned_attempts(self, run_id: str) -> list[tuple[str, int, Record]]:
        """Attempts that were claimed and left no record: (stage, number, what the claim said)."""
        found = []
        for stage in STAGES:
            for number, kinds in sorted(self._list_attempt_files(run_id, notebook_name(stage)).items()):
                if "json" not in kinds:
                    claim = json.loads(self.store.read(f"{self.folder(run_id)}/{attempt_name(stage, number)}.claim"))
                    found.append((stage, number, claim))
        return found

    def write_attempt(self, record: Record, notebook: Optional[bytes], html: Optional[bytes]) -> Record:
        """Write an attempt: first its record, with the digests of what follows, then the notebook and its page.

        An attempt whose notebook is withheld has neither: they are None in its record.
        """
        name = attempt_name(record["stage"], record["attempt"])
        contents = {"ipynb": notebook, "html": html}
        described = {
            ending: None if data is None else {"file": f"{name}.{ending}", "sha256": sha256(data)}
            for ending, data in contents.items()
        }
        record = {**record, "notebook": described["ipynb"], "html": described["html"]}
        folder = self.folder(record["run_id"])
        self.store.create(f"{folder}/{name}.json", serialize_record(record))
        for ending, data in contents.items():
            if data is not None:
                self.store.create(f"{folder}/{name}.{ending}", data)
        return record

    def write_run(self, record: Record) -> None:
        """Write a run's record. A run that is resumed gets a further one: ``run.redrive-1.json``."""
        self._write_next(record["run_id"], "run", "json", serialize_record(record))

    def write_history(self, run_id: str, journal: bytes) -> None:
        """Write the events of the state machine, one JSON object a line."""
        self._write_next(run_id, "history", "jsonl", journal)

    def write_lineage_events(self, run_id: str, events: bytes) -> None:
        """Write the run as OpenLineage events, one JSON object a line."""
        self._write_next(run_id, "openlineage", "jsonl", events)

    def write_outcome(self, record: Record) -> None:
        """Write the outcome of an attempt where the state machine's Choice reads it; ``reasons`` explain a failure too."""
        brief = {key: record[key] for key in ("stage", "attempt", "outcome", "permanent", "reasons", "rows")}
        if record["failure"]:
            brief["reasons"] = [describe_failure(record)]
        self.store.replace(outcome_key(record["run_id"], record["stage"]), serialize_record(brief))

    def write_unstarted_outcome(self, run_id: str, stage: str, error: DaybookError, said: str) -> None:
        """Write the outcome of a stage that a permanent ``error`` kept from starting; there is no attempt on record."""
        brief: Record = {
            "stage": stage,
            "attempt": None,
            "outcome": "FAILED",
            "permanent": True,
            "reasons": [f"{stage} did not start ({NOT_RETRIED}): {type(error).__name__}: {first_line(said)}"],
            "rows": {},
        }
        self.store.replace(outcome_key(run_id, stage), serialize_record(brief))

    def attempts(self, run_id: str) -> list[Record]:
        """Every attempt's record, in order of stage and number."""
        folder = self.folder(run_id)
        return [
            json.loads(self.store.read(f"{folder}/{attempt_name(stage, number)}.json"))
            for stage in STAGES
            for number, kinds in sorted(self._list_attempt_files(run_id, notebook_name(stage)).items())
            if "json" in kinds
        ]

    def run_ids(self, run_date: Optional[date] = None) -> list[str]:
        """The names of all runs, or those of one business date, by date and number."""
        if run_date:
            found = self.store.list_folders(f"run_date={run_date.isoformat()}")
        else:
            found = [run_id for day in self.run_dates() for run_id in self.store.list_folders(f"run_date={day}")]
        names = [name for name in found if not is_temporary_name(name)]
        return sorted(names, key=lambda name: (run_date_of(name), int(name.rsplit("-", 1)[1])))

    def run_dates(self) -> list[date]:
        """Return the business dates that have a run, oldest first. It takes one listing, whatever number of runs there is."""
        names = [name for name in self.store.list_folders() if name.startswith("run_date=")]
        return sorted(date.fromisoformat(name[len("run_date=") :]) for name in names)

    def count_closing_records(self, run_id: str) -> int:
        """How many closing records a run has: none, one, or a further one for each time it was resumed and ended."""
        names = (key.rsplit("/", 1)[1] for key in self.store.keys(self.folder(run_id)))
        return sum(bool(_CLOSING_RECORD_NAME.fullmatch(name)) for name in names)

    def run(self, run_id: str) -> Record:
        """A run's newest record, with ``state`` closed. Before there is one, what is known: with ``state`` running and outcome
        RUNNING while somebody works on it, else with ``state`` lost and outcome FAILED.

        A run that goes on after its record was written is running again. What a kill kept from being written is named in
        ``missing``, of the run and of each of its attempts.
        """
        folder = self.folder(run_id)
        names = [key.rsplit("/", 1)[1] for key in self.store.keys(folder)]
        if "started.json" not in names:
            raise UsageError(f"There is no run {run_id}; `daybook runs` lists them.")
        working = self.find_holder(run_id)
        # One that has not signed yet is no run's that has ended: whoever decides on such a run holds its date, too.
        records = self.read_closing_records(run_id) if working is None or not working.run_id else []
        if records:
            return {**_add_missing_files(records[-1], names), "state": "closed"}
        started = json.loads(self.store.read(f"{folder}/started.json"))
        if working is not None or (is_bucket(self.store.uri) and self._is_recent(started)):
            known = {"outcome": "RUNNING", "state": "running", "reasons": [f"The run is under way: {working or run_id}."]}
        else:
            known = {"outcome": "FAILED", "state": "lost", "reasons": [LOST_REASON]}
        open_run = {
            **started,
            "record": "run",
            "run_date": run_date_of(run_id).isoformat(),
            "stages": self.attempts(run_id),
            **known,
        }
        return _add_missing_files(open_run, names)

    def _is_recent(self, started: Record) -> bool:
        """Whether a run in a bucket, where no lock tells, can still be under way: it began, or something of it was written,
        within ``MAX_RUN_DURATION``."""
        moments = [parse_timestamp(started["started_at"])]
        if datetime.now(timezone.utc) - moments[0] > MAX_RUN_DURATION:
            folder = self.folder(started["run_id"])
            moments += [entry.arrived_at for entry in self.store.list_arrivals(folder).values()]
        return datetime.now(timezone.utc) - max(moments) < MAX_RUN_DURATION

    def find_holder(self, run_id: str) -> Optional[LockHolder]:
        """Who works on this run right now, where that can be known and somebody does."""
        holder = find_lock_holder(self.store.uri, run_date_of(run_id))
        # One that has not signed yet may be this run's.
        return holder if holder is not None and holder.run_id in ("", run_id) else None

    def read_closing_records(self, run_id: str) -> list[Record]:
        """The run's closing records, oldest first: one, and a further one for each time that it went on."""
        folder = self.folder(run_id)
        names = [key.rsplit("/", 1)[1] for key in self.store.keys(folder)]
        records = [name for name in names if _CLOSING_RECORD_NAME.fullmatch(name)]
        records.sort(key=lambda name: int((re.findall(r"\d+", name) or ["0"])[0]))
        return [json.loads(self.store.read(f"{folder}/{name}")) for name in records]

    def history(self, run_id: str) -> list[Record]:
        """The events of the state machine, oldest first; empty where none were archived yet."""
        folder = self.folder(run_id)
        names = [key.rsplit("/", 1)[1] for key in self.store.keys(folder)]
        files = [name for name in names if re.fullmatch(r"history(\.redrive-\d+)?\.jsonl", name)]
        if not files:
            return []
        newest = max(files, key=lambda name: int((re.findall(r"\d+", name) or ["0"])[0]))
        return [json.loads(line) for line in self.store.read(f"{folder}/{newest}").splitlines() if line.strip()]

    def _write_next(self, run_id: str, stem: str, ending: str, data: bytes) -> None:
        folder = self.folder(run_id)
        for number in range(100):
            name = f"{stem}.{ending}" if number == 0 else f"{stem}.redrive-{number}.{ending}"
            if not self.store.exists(f"{folder}/{name}"):
                self.store.create(f"{folder}/{name}", data)
                return
        raise ArchiveError(f"{run_id} has been resumed 99 times; start a new run.")

    def _list_attempt_files(self, run_id: str, notebook: str) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for key in self.store.keys(self.folder(run_id)):
            matched = _ATTEMPT_FILE_NAME.fullmatch(key.rsplit("/", 1)[1])
            if matched and matched[1] == notebook:
                found.setdefault(int(matched[2]), set()).add(matched[3])
        return found


def describe_missing_files(attempt: Record) -> str:
    """One sentence for an attempt whose notebook, page or both a kill kept from being archived; empty where all is there."""
    lost = [word for key, word in (("notebook", "notebook"), ("html", "page")) if _is_missing(attempt, key)]
    if not lost:
        return ""
    what = " and ".join(lost)
    return (
        f"{attempt['stage']} (attempt {attempt['attempt']}): its {what} never came into the archive: after its record was "
        "written, the process was killed or nothing more could be written"
    )


def _is_missing(attempt: Record, key: str) -> bool:
    return bool(attempt.get(key)) and attempt[key]["file"] in attempt.get("missing", ())


def _add_missing_files(run: Record, names: Collection[str]) -> Record:
    """A run's record that says, under ``missing``, which files it and its attempts describe are not among ``names``."""
    found = dict(run)
    if "lineage" in run and "openlineage.jsonl" not in names:
        found["missing"] = ["openlineage.jsonl"]
    if "stages" in run:
        found["stages"] = []
    for attempt in run.get("stages", []):
        described = [attempt[key]["file"] for key in ("notebook", "html") if attempt.get(key)]
        missing = [file for file in described if file not in names]
        found["stages"].append({**attempt, "missing": missing} if missing else attempt)
    return found


def _start_times() -> Record:
    """When something begins: the moment by the wall clock, and the machine's count, by which its end is told."""
    return {"started_at": current_timestamp(), "clock": read_clock()}


def describe_failure(attempt: Record) -> str:
    """Describe a failed attempt in one sentence: stage, cell, why it was not retried, and the exception's first line."""
    told = attempt.get("failure") or {}
    retried = f", {NOT_RETRIED}" if told.get("permanent") else ""
    cell = f" in cell {told['cell']}" if told.get("cell") else ""
    return f"{attempt['stage']} failed{cell} (attempt {attempt['attempt']}{retried}): {failure_line(attempt)}"


def failure_line(attempt: Record) -> str:
    """Return the exception of a failed attempt and the first line of its message.

    Records of earlier releases may have no failure, or one without an exception.
    """
    told = attempt.get("failure") or {}
    return ": ".join(filter(None, [told.get("exception"), first_line(told.get("message") or "")]))


def first_line(text: str) -> str:
    """The first line of what was said, cut where it is endless, or that nothing was."""
    line = (text.strip().splitlines() or ["no reason was given"])[0]
    return (
        line
        if len(line) <= _MAX_LINE_LENGTH
        else f"{line[:_MAX_LINE_LENGTH]} [left out: {len(line) - _MAX_LINE_LENGTH:,} characters]"
    )


def attempt_name(stage: str, number: int) -> str:
    """The first part of an attempt's file names: ``3_transform.attempt-1``."""
    return f"{notebook_name(stage)}.attempt-{number}"
