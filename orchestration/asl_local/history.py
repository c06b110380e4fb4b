"""Record the history of an execution in an append-only file that survives a kill.

The events are those of Step Functions with two additional keys. ``executionArn`` on ExecutionStarted names the execution.
``next`` on …StateExited is the next state (null at the end), because the decision of a Choice or a Catch cannot always be
derived from other events.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from asl_local.clock import Clock, format_timestamp
from asl_local.errors import JournalError, StateMachineError

Event = Dict[str, Any]
Listener = Callable[[Event], None]


STATUS_BY_END_EVENT = {
    "ExecutionSucceeded": "SUCCEEDED",
    "ExecutionFailed": "FAILED",
    "ExecutionTimedOut": "TIMED_OUT",
    "ExecutionAborted": "ABORTED",
}
"""The status of an execution by the type of its last event."""


class RecordingStopped(Exception):
    """Report that no more events can be recorded: the execution ended, or an event could not be recorded."""


class History:
    """Number events, append them to a JSON Lines file and pass them to the listener. Thread-safe.

    The file is locked while open.
    """

    def __init__(
        self, descriptor: int, entries: List[Tuple[Event, int]], path: Path, clock: Clock, listener: Optional[Listener]
    ) -> None:
        self._descriptor = descriptor
        # Each event with the offset of its end in the file. One list, so that an interrupt cannot separate the two.
        self._entries = entries
        self._path = path
        self._clock = clock
        self._listener = listener
        self._lock = threading.RLock()
        self._stopped = False

    @classmethod
    def create(cls, path: Path, clock: Clock, listener: Optional[Listener] = None) -> History:
        """Create and lock the file at ``path``; raise ``StateMachineError`` if it exists."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise StateMachineError(
                f"{path}: an execution with this journal was already started; resume it or use another name."
            ) from error
        except OSError as error:
            raise JournalError(error.errno, error.strerror, str(path)) from error
        _lock(descriptor, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that the new file's name survives a power loss
        finally:
            os.close(directory)
        return cls(descriptor, [], path, clock, listener)

    @classmethod
    def open(cls, path: Path, clock: Clock, listener: Optional[Listener] = None) -> History:
        """Lock the file at ``path`` and read its events. The next event overwrites an incomplete last line."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise StateMachineError(
                f"{path}: the journal cannot be opened ({error.strerror}); pass the journal of a started execution."
            ) from error
        _lock(descriptor, path)
        try:
            return cls(descriptor, _parse_lines(path.read_bytes(), path), path, clock, listener)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def events(self) -> List[Event]:
        """All events so far, in order."""
        return [event for event, _ in self._entries]

    @property
    def last_id(self) -> int:
        """The id of the newest event, 0 if there is none."""
        return len(self._entries)

    def record(self, kind: str, previous: int, details: Optional[Mapping[str, Any]] = None, **extra: Any) -> Event:
        """Record the event of type ``kind`` after the event with id ``previous``, and return it.

        ``details`` are those of Step Functions for the type. ``extra`` are additional keys of the event.

        Raises
        ------
        JournalError
            The file cannot be written, for example because the disk is full. Resuming ignores an incomplete last line.
        RecordingStopped
            The execution ended, or an earlier event could not be recorded.
        """
        with self._lock:
            if self._stopped:
                raise RecordingStopped
            event: Event = {
                "timestamp": format_timestamp(self._clock.now()),
                "type": kind,
                "id": self.last_id + 1,
                "previousEventId": previous,
                **({event_details_key(kind): dict(details)} if details is not None else {}),
                **extra,
            }
            try:
                self._append(event)
                self.notify(event)
            except KeyboardInterrupt:  # the ExecutionAborted event must still be recorded
                raise
            except BaseException:
                self._stopped = True
                raise
            self._stopped = kind in STATUS_BY_END_EVENT
            return event

    def notify(self, event: Event) -> None:
        """Pass ``event`` to the listener without recording it."""
        with self._lock:
            if self._listener is not None:
                self._listener(dict(event))

    def close(self) -> None:
        """Reject further events, close the file and release its lock."""
        with self._lock:
            self._stopped = True
            os.close(self._descriptor)

    def _append(self, event: Event) -> None:
        """Write ``event`` as one line and sync it. After an interrupt, the next event overwrites the incomplete line."""
        line = format_event(event)
        start = self._entries[-1][1] if self._entries else 0
        try:
            os.ftruncate(self._descriptor, start)
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], start + written)
            os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(error.errno, error.strerror, str(self._path)) from error
        self._entries.append((event, start + len(line)))


def format_event(event: Mapping[str, Any]) -> bytes:
    """Return an event as one line of JSON, as in a journal."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def event_details_key(kind: str) -> str:
    """Return the key of the details in an event of type ``kind``."""
    for shared in ("StateEntered", "StateExited"):
        if kind.endswith(shared):
            kind = shared
    return kind[0].lower() + kind[1:] + "EventDetails"


def get_event_details(event: Event) -> Dict[str, Any]:
    """Return the details of ``event``, empty if it has none."""
    details: Dict[str, Any] = event.get(event_details_key(event["type"]), {})
    return details


def read_events(path: Path) -> List[Event]:
    """Return the events in the journal at ``path``, also while it is running. An incomplete last line is ignored."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateMachineError(
            f"{path}: the journal cannot be read ({error.strerror}); pass the journal of a started execution."
        ) from error
    return [event for event, _ in _parse_lines(content, path)]


def is_executing(path: Path) -> bool:
    """Return whether a process on this machine is running the execution with the journal at ``path``."""
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


def _parse_lines(content: bytes, path: Path) -> List[Tuple[Event, int]]:
    """Return the event and end offset of each complete line.

    Raises ``StateMachineError`` if a line before the last is invalid.
    """
    entries: List[Tuple[Event, int]] = []
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
        entries.append((event, end))
    return entries


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateMachineError(f"{path}: another process is running this execution; wait until it ends.") from error
