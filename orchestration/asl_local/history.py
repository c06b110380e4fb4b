"""The history of an execution: its events, and the append-only file that keeps them through a kill.

Two keys are Daybook's own, beside AWS's: ``executionArn`` on ExecutionStarted, because a file has no request that names the
execution, and ``next`` on …StateExited, the state that follows (null at the end), because a Choice's answer or a Catch's could
not always be found again from the rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from asl_local.clock import Clock, format_timestamp
from asl_local.errors import JournalError, StateMachineError

Event = Dict[str, Any]
Listener = Callable[[Event], None]


class JournalEntry(NamedTuple):
    """An event in a journal, and the size of the file with it, in bytes."""

    event: Event
    end: int


class Journal:
    """A JSON-lines file of events, locked while open; each line is on the disk before ``append`` returns."""

    def __init__(self, descriptor: int, entries: List[JournalEntry], path: Path) -> None:
        self._path = path
        self._descriptor = descriptor
        # One list, so that an event either is there with its end or is not, whenever an interrupt comes.
        self._entries = entries

    @property
    def events(self) -> List[Event]:
        """The events in the file, in order."""
        return [entry.event for entry in self._entries]

    @property
    def last_id(self) -> int:
        """The number of the newest event, 0 when there is none."""
        return len(self._entries)

    @classmethod
    def create(cls, path: Path) -> Journal:
        """Make the file at ``path`` and lock it; ``StateMachineError`` when it is there already."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as fault:
            raise StateMachineError(
                f"{path}: the execution of this journal has already been started; resume it, or take another name."
            ) from fault
        except OSError as error:
            raise JournalError(error.errno, error.strerror, str(path)) from error
        _lock(descriptor, path)
        _sync_directory(path.parent)
        return cls(descriptor, [], path)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Lock the file at ``path`` and read its events; a last line torn by a kill gives way to the next event."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as fault:
            raise StateMachineError(
                f"{path}: the journal cannot be opened ({fault.strerror}); give the journal of a started execution."
            ) from fault
        _lock(descriptor, path)
        try:
            return cls(descriptor, _parse_lines(path.read_bytes(), path), path)
        except BaseException:
            os.close(descriptor)
            raise

    def append(self, event: Event) -> None:
        """Write ``event`` as one line; when interrupted midway, the next one takes its place.

        ``JournalError`` if it cannot be written, as on a full disk: a torn line is ignored when the execution is resumed.
        """
        line = format_event(event)
        start = self._entries[-1].end if self._entries else 0
        try:
            os.ftruncate(self._descriptor, start)
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], start + written)
            os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(error.errno, error.strerror, str(self._path)) from error
        self._entries.append(JournalEntry(event, start + len(line)))

    def close(self) -> None:
        """Close the file and let go of its lock."""
        os.close(self._descriptor)


def format_event(event: Mapping[str, Any]) -> bytes:
    """An event as histories hold it: JSON on one line."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class RecordingStopped(Exception):
    """Another thread could not record its event, so nothing more may be recorded."""


class History:
    """Numbers events, keeps them, journals them and tells the listener; safe to use from several threads."""

    def __init__(self, journal: Journal, clock: Clock, listener: Optional[Listener]) -> None:
        self._journal = journal
        self._clock = clock
        self._listener = listener
        self._lock = threading.RLock()
        self._broken = False

    @property
    def events(self) -> List[Event]:
        """All events so far, in order."""
        return self._journal.events

    @property
    def last_id(self) -> int:
        """The number of the newest event, 0 when there is none."""
        return self._journal.last_id

    def record(self, kind: str, previous: int, details: Optional[Mapping[str, Any]] = None, **own: Any) -> Event:
        """Write the event of type ``kind`` that follows the event numbered ``previous``, and return it.

        ``details`` are AWS's for that type; ``own`` are Daybook's keys.
        """
        with self._lock:
            if self._broken:
                raise RecordingStopped
            event: Event = {
                "timestamp": format_timestamp(self._clock.now()),
                "type": kind,
                "id": self.last_id + 1,
                "previousEventId": previous,
                **({event_details_key(kind): dict(details)} if details is not None else {}),
                **own,
            }
            try:
                self._journal.append(event)
                self._notify_listener(event)
            except KeyboardInterrupt:  # the execution is going to be aborted, which is an event to record
                raise
            except BaseException:
                self._broken = True
                raise
            return event

    def close(self) -> None:
        """Take no more events: the last one has been recorded."""
        with self._lock:
            self._broken = True

    def send_notice(self, notice: Event) -> None:
        """Tell the listener something that is no event of the history."""
        with self._lock:
            self._notify_listener(notice)

    def _notify_listener(self, event: Event) -> None:
        if self._listener is not None:
            self._listener(dict(event))


def event_details_key(kind: str) -> str:
    """Return the name of the object in which an event of type ``kind`` carries its details."""
    for shared in ("StateEntered", "StateExited"):
        if kind.endswith(shared):
            kind = shared
    return kind[0].lower() + kind[1:] + "EventDetails"


def get_event_details(event: Event) -> Dict[str, Any]:
    """Return the details of ``event``, empty when it has none."""
    details: Dict[str, Any] = event.get(event_details_key(event["type"]), {})
    return details


def read_events(path: Path) -> List[Event]:
    """Return the events in the journal at ``path``, of a running execution too; a torn last line is left out."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise StateMachineError(
            f"{path}: the journal cannot be read ({fault.strerror}); give the journal of a started execution."
        ) from fault
    return [entry.event for entry in _parse_lines(content, path)]


def is_executing(path: Path) -> bool:
    """Whether a process on this machine is running the execution whose journal is at ``path``."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _parse_lines(content: bytes, path: Path) -> List[JournalEntry]:
    """Return the whole lines; ``StateMachineError`` when one before the last is spoilt."""
    entries: List[JournalEntry] = []
    end = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            event = None
        if not isinstance(event, dict) or event.get("id") != number:
            if number == len(lines):
                break
            raise StateMachineError(f"{path}: line {number} is not event {number}; restore the journal from a copy.")
        end += len(line)
        entries.append(JournalEntry(event, end))
    return entries


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        os.close(descriptor)
        raise StateMachineError(f"{path}: another process is running this execution; wait until it ends.") from fault


def _sync_directory(directory: Path) -> None:
    """Make the new file's name survive a power cut, as its lines do."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
