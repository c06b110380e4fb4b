"""Read and write the archive: the records and executed notebooks of all runs, write-once, as files under one URI.

run_date=2025-11-30/daily-2025-11-30-1/
    started.json                     the run's id is taken: the lock
    1_ingest.attempt-1.claim         the attempt's number is taken
    1_ingest.attempt-1.json          the attempt's record, written before the notebook
    1_ingest.attempt-1.ipynb .html   the executed notebook
    run.json                         the run's record
    history.jsonl                    events of the state machine, once it has ended
    openlineage.jsonl                the run as OpenLineage events
    rollback.started.json            the publication of the run is being taken back
    rollback.json                    it is taken back
    openlineage.rollback.jsonl       the rollback as OpenLineage events
outcomes/daily-2025-11-30-1/ingest.json   the last outcome of a stage, for the state machine's Choice
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from typing import Any, Callable, Optional, TypeVar

from pydantic import ValidationError

from daybook.errors import ArchiveError, DaybookError, ObjectExistsError, UsageError
from daybook.records.clock import read_clock
from daybook.records.locks import LockHolder, find_lock_holder
from daybook.records.models import (
    SCHEMA_VERSION,
    ArchivedFile,
    AttemptRecord,
    ClaimRecord,
    RecordModel,
    RollbackRecord,
    RowCounts,
    RunRecord,
    StageRecord,
    StartRecord,
)
from daybook.records.names import STAGES, format_run_id, is_range_id, notebook_name, range_of, run_date_of
from daybook.settings import format_validation_error, is_temporary_name
from daybook.storage import Store, is_bucket

MAX_RUN_DURATION = timedelta(days=1)
"""A run in a bucket that started longer ago and has no closing record counts as ended: no execution of a day lasts longer."""
LOST_REASON = "lost: the process that ran it ended without a word (killed, or the machine was switched off)"
"""The reason of a run that has no closing record and is not in progress."""
NOT_RETRIED = "not retried: the same input would fail again"
"""Why a stage with a permanent failure has one attempt."""

_MAX_LINE_LENGTH = 2_000
"""Maximum length of a reason's first line."""
_CLOSING_RECORD_NAME = re.compile(r"run(\.redrive-\d+)?\.json")
_ROLLBACK_NAMES = ("rollback.json", "rollback.started.json")
"""Names of the records of a rollback, the closing one first."""
_HISTORY_NAME = re.compile(r"history(\.redrive-\d+)?\.jsonl")
_ATTEMPT_FILE_NAME = re.compile(rf"({'|'.join(map(notebook_name, STAGES))})\.attempt-(\d+)\.(claim|json|ipynb|html)")

_Model = TypeVar("_Model", bound=RecordModel)
_Name = TypeVar("_Name")


def current_timestamp() -> str:
    """Return the current time as records hold it: UTC, ISO 8601 with milliseconds."""
    return format_timestamp(time.time())


def format_timestamp(seconds: float) -> str:
    """Return a time, in seconds since 1970, as records hold it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> datetime:
    """Parse a time as records hold it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def serialize_record(record: Any) -> bytes:
    """Return a record, a model or JSON values, as the archive holds it: readable JSON, stable to the byte."""
    content = record.to_json() if isinstance(record, RecordModel) else record
    return (json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def parse_record(model: type[_Model], data: bytes, where: str) -> _Model:
    """Parse the record that ``where`` holds. Raises ``ArchiveError`` if a value is not one that its key allows.

    Records of older releases may have null for a key that now always has a value. Such a key gets its default.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError:
        try:
            return model.model_validate(_without_nulls(json.loads(data)))
        except ValidationError as error:
            raise ArchiveError(format_validation_error(error, where)) from None


def _without_nulls(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_nulls(value) for key, value in node.items() if value is not None}
    return [_without_nulls(each) for each in node] if isinstance(node, list) else node


def take_first_free(names: Iterable[_Name], create: Callable[[_Name], None]) -> _Name:
    """Create an object under the first free name, and return that name. Another process may take a name at the same time.

    Raises ``StopIteration`` if no name is free.
    """
    remaining = iter(names)
    while True:
        name = next(remaining)
        with suppress(ObjectExistsError):
            create(name)
            return name


def outcome_key(run_id: str, stage: str) -> str:
    """Return the key, in the archive, of the outcome of a run's stage."""
    return f"outcomes/{run_id}/{stage}.json"


class Archive:
    """The run records under a URI."""

    def __init__(self, uri: str) -> None:
        self.store = Store(uri)

    def folder(self, run_id: str) -> str:
        """Return the folder of a run within the archive."""
        return f"run_date={run_date_of(run_id).isoformat()}/{run_id}"

    def next_run_id(self, run_date: date) -> str:
        """Return the next free run id of a business date."""
        taken = self.run_ids(run_date)
        return format_run_id(run_date, max((int(name.rsplit("-", 1)[1]) for name in taken), default=0) + 1)

    def start_run(self, run_date: date, facts: Mapping[str, Any]) -> str:
        """Take the next free run id of a business date. Two processes never get the same one.

        Parameters
        ----------
        run_date
            The business date.
        facts
            Values of ``StartRecord``, such as ``env`` and ``title``.
        """
        first = int(self.next_run_id(run_date).rsplit("-", 1)[1])
        names = (format_run_id(run_date, number) for number in itertools.count(first))
        return take_first_free(names, lambda run_id: self.start_named_run(run_id, facts))

    def start_named_run(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Take this run id. Raises ``ObjectExistsError`` if it is taken."""
        started = StartRecord(run_id=run_id, started_at=current_timestamp(), clock=read_clock(), **facts)
        self.store.create(f"{self.folder(run_id)}/started.json", serialize_record(started))

    def ensure_started(self, run_id: str, facts: Optional[Mapping[str, Any]] = None) -> None:
        """Take a run id that the state machine's service has chosen, unless it is taken."""
        if not self.store.exists(f"{self.folder(run_id)}/started.json"):
            self.start_named_run(run_id, facts or {})

    def started(self, run_id: str) -> StartRecord:
        """Return what is known since the run's id was taken. Raises ``FileNotFoundError`` if there is no such run."""
        return self.read(StartRecord, f"{self.folder(run_id)}/started.json")

    def claim_attempt(self, run_id: str, stage: str, facts: Mapping[str, Any]) -> int:
        """Take the next free attempt number of a stage, from 1; ``facts`` are values of ``ClaimRecord``."""
        taken = [number for notebook, number in self._list_attempts(run_id) if notebook == notebook_name(stage)]
        claim = ClaimRecord(started_at=current_timestamp(), clock=read_clock(), **facts)
        stem, data = f"{self.folder(run_id)}/{notebook_name(stage)}.attempt", serialize_record(claim)
        return take_first_free(
            itertools.count(max(taken, default=0) + 1), lambda free: self.store.create(f"{stem}-{free}.claim", data)
        )

    def read_abandoned_attempts(self, run_id: str) -> list[tuple[str, int, ClaimRecord]]:
        """Return the attempts that were claimed and have no record, as (stage, number, claim)."""
        return [
            (notebook[2:], number, self.read(ClaimRecord, f"{self.folder(run_id)}/{notebook}.attempt-{number}.claim"))
            for (notebook, number), endings in self._list_attempts(run_id).items()
            if "json" not in endings
        ]

    def write_attempt(self, record: AttemptRecord, notebook: Optional[bytes], html: Optional[bytes]) -> AttemptRecord:
        """Write an attempt: first its record with the digests of the files, then the notebook and its page.

        Parameters
        ----------
        record
            The record, without ``notebook`` and ``html``.
        notebook, html
            Content of the files; None for an attempt whose notebook is withheld.

        Returns
        -------
        AttemptRecord
            The record as it is archived.
        """
        name = attempt_name(record.stage, record.attempt)
        contents = {"ipynb": notebook, "html": html}
        described = {
            ending: None if data is None else ArchivedFile(file=f"{name}.{ending}", sha256=sha256(data))
            for ending, data in contents.items()
        }
        record = record.changed(notebook=described["ipynb"], html=described["html"])
        folder = self.folder(record.run_id)
        self.store.create(f"{folder}/{name}.json", serialize_record(record))
        for ending, data in contents.items():
            if data is not None:
                self.store.create(f"{folder}/{name}.{ending}", data)
        return record

    def write_run(self, record: RunRecord) -> None:
        """Write a run's record. A run that is resumed gets a further one: ``run.redrive-1.json``."""
        self._write_next(record.run_id, "run", "json", serialize_record(record))

    def write_history(self, run_id: str, journal: bytes) -> None:
        """Write the events of the state machine, one JSON object a line."""
        self._write_next(run_id, "history", "jsonl", journal)

    def write_lineage_events(self, run_id: str, events: bytes) -> None:
        """Write the run as OpenLineage events, one JSON object a line."""
        self._write_next(run_id, "openlineage", "jsonl", events)

    def write_rollback_events(self, run_id: str, events: bytes) -> None:
        """Write the rollback of a run as OpenLineage events, one JSON object a line."""
        self.store.replace(f"{self.folder(run_id)}/openlineage.rollback.jsonl", events)

    def write_outcome(self, record: AttemptRecord) -> None:
        """Write the outcome of an attempt where the state machine's Choice reads it; ``reasons`` also explain a failure."""
        self._write_stage(
            record.run_id,
            stage=record.stage,
            attempt=record.attempt,
            outcome=record.outcome,
            permanent=record.permanent,
            reasons=[describe_failure(record)] if record.failure else record.reasons,
            rows=record.rows,
        )

    def write_unstarted_outcome(self, run_id: str, stage: str, error: DaybookError, message: str) -> None:
        """Write the outcome of a stage that a permanent ``error`` kept from starting; there is no attempt on record."""
        reason = f"{stage} did not start ({NOT_RETRIED}): {type(error).__name__}: {first_line(message)}"
        self._write_stage(
            run_id, stage=stage, attempt=None, outcome="FAILED", permanent=True, reasons=[reason], rows=RowCounts()
        )

    def _write_stage(self, run_id: str, **values: Any) -> None:
        record = StageRecord(schema_version=SCHEMA_VERSION, **values)
        self.store.replace(outcome_key(run_id, record.stage), serialize_record(record))

    def attempts(self, run_id: str) -> list[AttemptRecord]:
        """Return the records of all attempts, by stage and number."""
        return [
            self.read(AttemptRecord, f"{self.folder(run_id)}/{notebook}.attempt-{number}.json")
            for (notebook, number), endings in self._list_attempts(run_id).items()
            if "json" in endings
        ]

    def run_ids(self, run_date: Optional[date] = None) -> list[str]:
        """Return the ids of all runs, or those of one business date, by date and number."""
        if run_date:
            found = self.store.list_folders(f"run_date={run_date.isoformat()}")
        else:
            found = [run_id for day in self.run_dates() for run_id in self.store.list_folders(f"run_date={day}")]
        names = [name for name in found if not is_temporary_name(name)]
        return sorted(names, key=lambda name: (run_date_of(name), int(name.rsplit("-", 1)[1])))

    def run_dates(self) -> list[date]:
        """Return the business dates that have a run, oldest first. This takes one listing."""
        names = [name for name in self.store.list_folders() if name.startswith("run_date=")]
        return sorted(date.fromisoformat(name[len("run_date=") :]) for name in names)

    def count_closing_records(self, run_id: str) -> int:
        """Return the number of a run's closing records: one more for each time that it was resumed and ended."""
        return sum(bool(_CLOSING_RECORD_NAME.fullmatch(name)) for name in self._list_names(run_id))

    def run(self, run_id: str) -> RunRecord:
        """Return a run's newest record, with its ``state``.

        ``state`` is ``closed`` if the run has a closing record and is not in progress again. Without a closing record it is
        ``running`` (outcome RUNNING) while a process holds the run's date, else ``lost`` (outcome FAILED). ``missing``, of the
        run and of each attempt, names described files that a kill kept from being written.

        Raises
        ------
        UsageError
            If there is no such run.
        ArchiveError
            If a record cannot be read.
        """
        folder, names = self.folder(run_id), self._list_names(run_id)
        if "started.json" not in names:
            raise UsageError(f"There is no run {run_id}; `daybook runs` lists them.")
        holder = self.find_holder(run_id)
        # A lock that has no run id yet does not belong to an ended run: a decision about such a run holds its date, too.
        records = self.read_closing_records(run_id, names) if holder is None or not holder.run_id else []
        if records:
            found = _add_missing_files(records[-1], names)
            found.state = "closed"
            rollback = self.read_rollback(run_id, names)
            # Not set without a rollback, so that the record has the keys of its file.
            return found.changed(rolled_back=rollback) if rollback else found
        started = self.read(StartRecord, f"{folder}/started.json")
        if holder is not None or (is_bucket(self.store.uri) and self._is_recent(started)):
            known = {"outcome": "RUNNING", "state": "running", "reasons": [f"The run is under way: {holder or run_id}."]}
        else:
            known = {"outcome": "FAILED", "state": "lost", "reasons": [LOST_REASON]}
        open_run = RunRecord.model_validate(
            {**started.to_json(), "record": "run", "run_date": run_date_of(run_id), "stages": self.attempts(run_id), **known}
        )
        return _add_missing_files(open_run, names)

    def _is_recent(self, started: StartRecord) -> bool:
        """Return whether a run in a bucket, where there is no lock, may be in progress.

        It may if it started, or wrote a file, within ``MAX_RUN_DURATION``.
        """
        moments = [parse_timestamp(started.started_at)]
        if datetime.now(timezone.utc) - moments[0] > MAX_RUN_DURATION:
            moments += [entry.arrived_at for entry in self.store.list_arrivals(self.folder(started.run_id)).values()]
        return datetime.now(timezone.utc) - max(moments) < MAX_RUN_DURATION

    def find_holder(self, run_id: str) -> Optional[LockHolder]:
        """Return the process that works on this run; None if there is none, or if the archive is a bucket."""
        holder = find_lock_holder(self.store.uri, range_of(run_id)[0])
        # A holder that has not written its run id yet may work on this run.
        if holder is None or holder.run_id in ("", run_id):
            return holder
        # A range holds its dates, and so the runs of these dates, under its own id.
        return holder if is_range_id(holder.run_id) and self.started(run_id).range_id == holder.run_id else None

    def read_closing_records(self, run_id: str, names: Optional[Collection[str]] = None) -> list[RunRecord]:
        """Return the run's closing records, oldest first; ``names`` are those of the run's files, if they are known."""
        found = [name for name in names or self._list_names(run_id) if _CLOSING_RECORD_NAME.fullmatch(name)]
        folder = self.folder(run_id)
        return [self.read(RunRecord, f"{folder}/{name}") for name in sorted(found, key=_redrive_number)]

    def read_rollback(self, run_id: str, names: Optional[Collection[str]] = None) -> Optional[RollbackRecord]:
        """Return the rollback of a run, without ``ended_at`` if it is not finished; None if the run was not rolled back."""
        names = self._list_names(run_id) if names is None else names
        found = next((name for name in _ROLLBACK_NAMES if name in names), None)
        return self.read(RollbackRecord, f"{self.folder(run_id)}/{found}") if found else None

    def write_rollback(self, record: RollbackRecord) -> None:
        """Write the record of a rollback: before tables change, and with ``ended_at`` once all are restored."""
        name = _ROLLBACK_NAMES[0 if record.ended_at else 1]
        self.store.create(f"{self.folder(record.run_id)}/{name}", serialize_record(record))

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """Return the events of the state machine, oldest first; empty if none are archived yet."""
        files = [name for name in self._list_names(run_id) if _HISTORY_NAME.fullmatch(name)]
        if not files:
            return []
        data = self.store.read(f"{self.folder(run_id)}/{max(files, key=_redrive_number)}")
        return [json.loads(line) for line in data.splitlines() if line.strip()]

    def read(self, model: type[_Model], key: str) -> _Model:
        """Return the record under a key. Raises ``FileNotFoundError`` and ``ArchiveError``."""
        return parse_record(model, self.store.read(key), self.store.href(key))

    def _write_next(self, run_id: str, stem: str, ending: str, data: bytes) -> None:
        names = (f"{stem}.{ending}", *(f"{stem}.redrive-{number}.{ending}" for number in range(1, 100)))
        try:
            take_first_free(names, lambda name: self.store.create(f"{self.folder(run_id)}/{name}", data))
        except StopIteration:
            raise ArchiveError(f"{run_id} has been resumed 99 times; start a new run.") from None

    def _list_names(self, run_id: str) -> list[str]:
        return [key.rsplit("/", 1)[1] for key in self.store.keys(self.folder(run_id))]

    def _list_attempts(self, run_id: str) -> dict[tuple[str, int], set[str]]:
        """Return the endings of the files of each attempt, by notebook and number, in order. This takes one listing."""
        found: dict[tuple[str, int], set[str]] = {}
        for name in self._list_names(run_id):
            matched = _ATTEMPT_FILE_NAME.fullmatch(name)
            if matched:
                found.setdefault((matched[1], int(matched[2])), set()).add(matched[3])
        return dict(sorted(found.items()))


def _redrive_number(name: str) -> int:
    return int((re.findall(r"\d+", name) or ["0"])[0])


def describe_missing_files(attempt: AttemptRecord) -> str:
    """Return a sentence on the notebook and page that a kill kept from being archived; empty if both are archived."""
    described = {"notebook": attempt.notebook, "page": attempt.html}
    lost = [word for word, file in described.items() if file and file.file in attempt.missing]
    if not lost:
        return ""
    return (
        f"{attempt.stage} (attempt {attempt.attempt}): its {' and '.join(lost)} never came into the archive: after its record "
        "was written, the process was killed or nothing more could be written"
    )


def _add_missing_files(run: RunRecord, names: Collection[str]) -> RunRecord:
    """Return a run's record whose ``missing``, and that of its attempts, has the described files that are not in ``names``."""
    stages = []
    for attempt in run.stages:
        missing = [each.file for each in (attempt.notebook, attempt.html) if each and each.file not in names]
        stages.append(attempt.changed(missing=missing) if missing else attempt)
    found = run.changed(stages=stages) if "stages" in run.model_fields_set else run.changed()
    if "lineage" in run.model_fields_set and "openlineage.jsonl" not in names:
        found.missing = ["openlineage.jsonl"]
    return found


def describe_failure(attempt: AttemptRecord) -> str:
    """Return one sentence on a failed attempt: stage, cell, why it was not retried, first line of the exception."""
    failure = attempt.failure
    retried = f", {NOT_RETRIED}" if failure and failure.permanent else ""
    cell = f" in cell {failure.cell}" if failure and failure.cell else ""
    return f"{attempt.stage} failed{cell} (attempt {attempt.attempt}{retried}): {failure_line(attempt)}"


def failure_line(attempt: AttemptRecord) -> str:
    """Return the exception of a failed attempt and the first line of its message.

    Records of earlier releases may have no failure, or one without an exception.
    """
    exception = attempt.failure.exception if attempt.failure else None
    message = attempt.failure.message if attempt.failure else None
    return ": ".join(filter(None, [exception, first_line(message or "")]))


def first_line(text: str) -> str:
    """Return the first line of a message, shortened if it is very long, or that there was no message."""
    line = (text.strip().splitlines() or ["no reason was given"])[0]
    if len(line) <= _MAX_LINE_LENGTH:
        return line
    return f"{line[:_MAX_LINE_LENGTH]} [left out: {len(line) - _MAX_LINE_LENGTH:,} characters]"


def attempt_name(stage: str, number: int) -> str:
    """Return the stem of an attempt's file names, such as ``3_transform.attempt-1``."""
    return f"{notebook_name(stage)}.attempt-{number}"
