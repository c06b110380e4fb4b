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
ranges/range-2025-11-01-2025-11-30-1/
    claim.json                       the range's id is taken
    started.json                     each of its dates has the id of a date run
    ...                              the other files are those of a run
run_date=2025-11-30/daily-2025-11-30-2/
    started.json                     the date run of that range, with the id of the range
    run.json                         the date's part of the range's record
outcomes/daily-2025-11-30-1/ingest.json   the last outcome of a stage, for the state machine's Choice
outcomes/range-2025-11-01-2025-11-30-1/range.json   the outcome of a range and its halves, for the same
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
from daybook.records.failures import NOT_RETRIED, describe_failure, first_line
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
from daybook.records.names import (
    STAGES,
    format_range_id,
    format_run_id,
    is_range_id,
    list_range,
    notebook_name,
    range_of,
    run_date_of,
    run_number,
)
from daybook.records.ranges import build_date_records, order_runs, slice_attempts
from daybook.settings import format_validation_error, is_temporary_name
from daybook.storage import Store, is_bucket

MAX_RUN_DURATION = timedelta(days=1)
"""A run in a bucket that started longer ago and has no closing record counts as ended: no execution of a day lasts longer."""
LOST_REASON = "lost: the process that ran it ended without a word (killed, or the machine was switched off)"
"""The reason of a run that has no closing record and is not in progress."""

_RANGES = "ranges"
"""Folder of the runs over ranges."""
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


def run_folder(run_id: str) -> str:
    """Return the folder of a run, of one date or of a range, within an archive."""
    first, last = range_of(run_id)
    return f"run_date={first.isoformat()}/{run_id}" if first == last else f"{_RANGES}/{run_id}"


def outcome_key(run_id: str, stage: str) -> str:
    """Return the key, in the archive, of the outcome of a run's stage."""
    return f"outcomes/{run_id}/{stage}.json"


class Archive:
    """The run records under a URI."""

    def __init__(self, uri: str) -> None:
        self.store = Store(uri)

    def folder(self, run_id: str) -> str:
        """Return the folder of a run, of one date or of a range, within the archive."""
        return run_folder(run_id)

    def next_run_id(self, run_date: date, *, in_range: bool = False) -> str:
        """Return the next free run id of a business date; ``in_range`` of a date run.

        Number 1 is never a date run's: a scheduled execution has this name, and must not take the run for its own.
        """
        return format_run_id(run_date, max(_next_number(self._list_runs(run_date)), 2 if in_range else 1))

    def next_range_id(self, first: date, last: date) -> str:
        """Return the next free id of a run over a range."""
        stem = format_range_id(first, last, 1)[:-1]
        return format_range_id(first, last, _next_number(name for name in self._list_ranges() if name.startswith(stem)))

    def next_id(self, first: date, last: date) -> str:
        """Return the next free id of a run over the dates from ``first`` to ``last``, which may be one date."""
        return self.next_run_id(first) if first == last else self.next_range_id(first, last)

    def start_next(self, first: date, last: date, facts: Mapping[str, Any]) -> str:
        """Take the next free id of a run over the dates from ``first`` to ``last``, which may be one date."""
        return self.start_run(first, facts) if first == last else self.start_range(first, last, facts)

    def start_run(self, run_date: date, facts: Mapping[str, Any]) -> str:
        """Take the next free run id of a business date. Two processes never get the same one.

        Parameters
        ----------
        run_date
            The business date.
        facts
            Values of ``StartRecord``, such as ``env`` and ``title``.
        """
        names = (format_run_id(run_date, number) for number in itertools.count(run_number(self.next_run_id(run_date))))
        return take_first_free(names, lambda run_id: self.start_named_run(run_id, facts))

    def start_range(self, first: date, last: date, facts: Mapping[str, Any]) -> str:
        """Take the next free id of a range, and the id of a date run for each of its dates.

        Parameters
        ----------
        first, last
            The first and a later last business date.
        facts
            Values of ``StartRecord``, which the range and its date runs get.
        """
        numbers = itertools.count(run_number(self.next_range_id(first, last)))
        names = (format_range_id(first, last, number) for number in numbers)
        return take_first_free(names, lambda range_id: self.start_named_run(range_id, facts))

    def start_named_run(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Take this id of a run, of one date or of a range with its date runs. Raises ``ObjectExistsError`` if it is taken."""
        self._create_start_record(run_id, "claim.json" if is_range_id(run_id) else "started.json", facts)
        if is_range_id(run_id):
            self._start_date_runs(run_id, facts)

    def ensure_started(self, run_id: str, facts: Optional[Mapping[str, Any]] = None) -> None:
        """Take a run id that the state machine's service has chosen, unless it is taken.

        If the process that took the id of a range was killed before each date had its date run, the others are started now.
        """
        if self.store.exists(f"{self.folder(run_id)}/started.json"):
            return
        try:
            self.start_named_run(run_id, facts or {})
        except ObjectExistsError:
            if not is_range_id(run_id):
                raise
            self._start_date_runs(run_id, facts or {})

    def _start_date_runs(self, range_id: str, facts: Mapping[str, Any]) -> None:
        """Take an id for each date of a claimed range, then record them. Date runs that a killed process took are kept."""
        dates = {}
        for day in list_range(range_id):
            mine = [name for name in self._list_runs(day) if self._is_date_run(name, range_id)]
            dates[day.isoformat()] = mine[0] if mine else self._start_date_run(day, range_id, facts)
        self._create_start_record(range_id, "started.json", {**facts, "dates": dates})

    def _start_date_run(self, day: date, range_id: str, facts: Mapping[str, Any]) -> str:
        numbers = itertools.count(run_number(self.next_run_id(day, in_range=True)))
        names = (format_run_id(day, number) for number in numbers)
        return take_first_free(names, lambda name: self.start_named_run(name, {**facts, "range_id": range_id}))

    def _is_date_run(self, run_id: str, range_id: str) -> bool:
        with suppress(FileNotFoundError):  # A process was killed before it wrote the file.
            return self.started(run_id).range_id == range_id
        return False

    def _create_start_record(self, run_id: str, file: str, facts: Mapping[str, Any]) -> None:
        started = StartRecord(run_id=run_id, started_at=current_timestamp(), clock=read_clock(), **facts)
        self.store.create(f"{self.folder(run_id)}/{file}", serialize_record(started))

    def list_halves(self, run_id: str) -> list[str]:
        """Return the ids of the runs of a range's halves, and of the halves of these."""
        closed = self.read_closing_records(run_id) if is_range_id(run_id) else []
        halves = closed[-1].halves if closed else []
        return [each for half in halves for each in (half, *self.list_halves(half))]

    def is_started(self, run_id: str) -> bool:
        """Return whether a run id is taken."""
        names = self._list_names(run_id)
        return "started.json" in names or "claim.json" in names

    def started(self, run_id: str) -> StartRecord:
        """Return what is known since the run's id was taken. Raises ``FileNotFoundError`` if there is no such run.

        The record of a range has no ``dates`` if a process was killed before each date had its date run.
        """
        try:
            return self.read(StartRecord, f"{self.folder(run_id)}/started.json")
        except FileNotFoundError:
            if not is_range_id(run_id):
                raise
            return self.read(StartRecord, f"{self.folder(run_id)}/claim.json")

    def files_run_id(self, run_id: str) -> str:
        """Return the run whose folder has the notebooks, pages and history of a run: for a date run, its range."""
        if not is_range_id(run_id):
            with suppress(FileNotFoundError):
                return self.started(run_id).range_id or run_id
        return run_id

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
        """Write a run's record. A run that is resumed gets a further one: ``run.redrive-1.json``.

        After the record of a range, the records of its dates are written.
        """
        self._write_next(record.run_id, "run", "json", serialize_record(record))
        if record.dates:
            self.write_date_records(record)

    def write_date_records(self, record: RunRecord) -> None:
        """Write the record of each date of a range, given the range's newest closing record, unless it is there.

        A reader computes a record that a kill kept from being written, so this may be repeated at any time.
        """
        name = _list_closing_names(self._list_names(record.run_id))[-1]
        for each in build_date_records(record).values():
            with suppress(ObjectExistsError):
                self.store.create(f"{self.folder(each.run_id)}/{name}", serialize_record(each))

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
        """Return the records of all attempts, by stage and number; of a date run, its slices of the range's attempts."""
        files = self.files_run_id(run_id)
        if files != run_id:
            return slice_attempts(self.attempts(files), self.started(files).dates).get(run_date_of(run_id).isoformat(), [])
        return [
            self.read(AttemptRecord, f"{self.folder(run_id)}/{notebook}.attempt-{number}.json")
            for (notebook, number), endings in self._list_attempts(run_id).items()
            if "json" in endings
        ]

    def run_ids(self, run_date: Optional[date] = None) -> list[str]:
        """Return the ids of all runs of one date, or those of a given date, by date and then from the oldest to the newest.

        Date runs of ranges are included, ranges are not (``range_ids``).
        """
        days = [run_date] if run_date else self.run_dates()
        return [run_id for day in days for run_id in order_runs(self._list_runs(day), self.started, self.run)]

    def range_ids(self) -> list[str]:
        """Return the ids of all runs over ranges, by first date, last date and number."""
        return sorted(self._list_ranges(), key=lambda name: (range_of(name), run_number(name)))

    def _list_runs(self, day: date) -> list[str]:
        return [name for name in self.store.list_folders(f"run_date={day.isoformat()}") if not is_temporary_name(name)]

    def _list_ranges(self) -> list[str]:
        return [name for name in self.store.list_folders(_RANGES) if not is_temporary_name(name)]

    def run_dates(self) -> list[date]:
        """Return the business dates that have a run, oldest first. This takes one listing."""
        names = [name for name in self.store.list_folders() if name.startswith("run_date=")]
        return sorted(date.fromisoformat(name[len("run_date=") :]) for name in names)

    def count_closing_records(self, run_id: str) -> int:
        """Return the number of a run's closing records: one more for each time that it was resumed and ended."""
        return len(_list_closing_names(self._list_names(run_id)))

    def run(self, run_id: str) -> RunRecord:
        """Return a run's newest record, with its ``state``.

        ``state`` is ``closed`` if the run has a closing record and is not in progress again. Without a closing record it is
        ``running`` (outcome RUNNING) while a process holds the run's date, else ``lost`` (outcome FAILED). A date run is
        running or lost with its range. ``missing``, of the run and of each attempt, names described files that a kill kept
        from being written.

        Raises
        ------
        UsageError
            If there is no such run.
        ArchiveError
            If a record cannot be read.
        """
        names = self._list_names(run_id)
        if not {"started.json", "claim.json"} & set(names):
            raise UsageError(f"There is no run {run_id}; `daybook runs` lists them.")
        holder = self.find_holder(run_id)
        # A lock that has no run id yet does not belong to an ended run: a decision about such a run holds its date, too.
        records, files = self._read_closing_records(run_id, names) if holder is None or not holder.run_id else ([], names)
        if records:
            found = _add_missing_files(records[-1], files)
            found.state = "closed"
            rollback = self.read_rollback(run_id, names) or self.read_rollback(found.range_id or run_id, files)
            # Not set without a rollback, so that the record has the keys of its file.
            return found.changed(rolled_back=rollback) if rollback else found
        return self._open_run(run_id, holder)

    def _open_run(self, run_id: str, holder: Optional[LockHolder]) -> RunRecord:
        """Return the record of a run without a closing record: running, or lost."""
        started, files = self.started(run_id), self.files_run_id(run_id)
        if holder is not None or (is_bucket(self.store.uri) and self._is_recent(started, files)):
            known: dict[str, Any] = {
                "outcome": "RUNNING",
                "state": "running",
                "reasons": [f"The run is under way: {holder or files}."],
            }
        else:
            known = {"outcome": "FAILED", "state": "lost", "reasons": [LOST_REASON]}
        first, last = range_of(run_id)
        if last > first:
            known["until"] = last
            known["dates"] = {day: {"run_id": each, "outcome": known["outcome"]} for day, each in started.dates.items()}
        open_run = RunRecord.model_validate(
            {**started.to_json(), "record": "run", "run_date": first, "stages": self.attempts(run_id), **known}
        )
        return _add_missing_files(open_run, self._list_names(files))

    def _is_recent(self, started: StartRecord, files: str) -> bool:
        """Return whether a run in a bucket, where there is no lock, may be in progress.

        It may if it started, or wrote a file, within ``MAX_RUN_DURATION``. ``files`` is the run whose folder has its files.
        """
        moments = [parse_timestamp(started.started_at)]
        if datetime.now(timezone.utc) - moments[0] > MAX_RUN_DURATION:
            moments += [entry.arrived_at for entry in self.store.list_arrivals(self.folder(files)).values()]
        return datetime.now(timezone.utc) - max(moments) < MAX_RUN_DURATION

    def find_holder(self, run_id: str) -> Optional[LockHolder]:
        """Return the process that works on this run; None if there is none, or if the archive is a bucket."""
        holder = find_lock_holder(self.store.uri, range_of(run_id)[0])
        # A holder that has not written its run id yet may work on this run.
        if holder is None or holder.run_id in ("", run_id):
            return holder
        # A range holds its dates, and so the runs of these dates, under its own id.
        return holder if is_range_id(holder.run_id) and self.files_run_id(run_id) == holder.run_id else None

    def read_closing_records(self, run_id: str, names: Optional[Collection[str]] = None) -> list[RunRecord]:
        """Return the run's closing records, oldest first; ``names`` are those of the run's files, if they are known.

        Of a date run, they are computed from those of the range if a kill kept them from being written.
        """
        return self._read_closing_records(run_id, self._list_names(run_id) if names is None else names)[0]

    def _read_closing_records(self, run_id: str, names: Collection[str]) -> tuple[list[RunRecord], Collection[str]]:
        """Return the run's closing records, oldest first, and the names of the files that they describe."""
        found = {name: self.read(RunRecord, f"{self.folder(run_id)}/{name}") for name in _list_closing_names(names)}
        range_id = next((each.range_id for each in found.values()), None) if found else self.files_run_id(run_id)
        if range_id in (None, run_id):
            return list(found.values()), names
        files = self._list_names(str(range_id))
        for name in _list_closing_names(files):
            if name not in found:
                whole = self.read(RunRecord, f"{self.folder(str(range_id))}/{name}")
                own = build_date_records(whole).get(run_date_of(run_id).isoformat())
                found.update({name: own} if own else {})
        return [found[name] for name in _list_closing_names(found)], files

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
        """Return the events of the state machine, oldest first; empty if none are archived yet. A date run has its range's."""
        folder = self.folder(self.files_run_id(run_id))
        files = [name for name in self._list_names_in(folder) if _HISTORY_NAME.fullmatch(name)]
        if not files:
            return []
        data = self.store.read(f"{folder}/{max(files, key=_redrive_number)}")
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
        return self._list_names_in(self.folder(run_id))

    def _list_names_in(self, folder: str) -> list[str]:
        return [key.rsplit("/", 1)[1] for key in self.store.keys(folder)]

    def _list_attempts(self, run_id: str) -> dict[tuple[str, int], set[str]]:
        """Return the endings of the files of each attempt, by notebook and number, in order. This takes one listing."""
        found: dict[tuple[str, int], set[str]] = {}
        for name in self._list_names(run_id):
            matched = _ATTEMPT_FILE_NAME.fullmatch(name)
            if matched:
                found.setdefault((matched[1], int(matched[2])), set()).add(matched[3])
        return dict(sorted(found.items()))


def _next_number(names: Iterable[str]) -> int:
    return max(map(run_number, names), default=0) + 1


def _list_closing_names(names: Iterable[str]) -> list[str]:
    """Return the names of closing records, oldest first."""
    return sorted((name for name in names if _CLOSING_RECORD_NAME.fullmatch(name)), key=_redrive_number)


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


def attempt_name(stage: str, number: int) -> str:
    """Return the stem of an attempt's file names, such as ``3_transform.attempt-1``."""
    return f"{notebook_name(stage)}.attempt-{number}"
