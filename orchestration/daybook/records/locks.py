"""Two runs of one business date never work at once: the lock of a date, and who holds it.

On AWS, where an archive is a bucket, the state machine's execution names are the lock.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Optional

import psutil

from daybook.errors import DateLockedError, LakeError

_GRACE_SECONDS = 10.0
"""How long the processes of a holder that is gone may take to end, before somebody else is told to look after them."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class LockHolder:
    """Who works on a business date: the run, its runner's process, and since when. Empty texts: it has only just begun."""

    run_id: str
    pid: int
    began: float
    user: str
    host: str
    since: str

    @property
    def is_alive(self) -> bool:
        """Whether the runner itself is there; always for one on another machine, of which this one knows nothing."""
        if self.host != socket.gethostname() or not self.pid:
            return True
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.began) < 1)
        except psutil.Error:
            return False

    def __str__(self) -> str:
        if not self.run_id:
            return "a run that has just begun"
        return f"{self.run_id} (process {self.pid} of {self.user} on {self.host}, since {self.since} UTC)"


class DateLock:
    """The lock of a business date, taken on entering the context; ``DateLockedError`` says who has it and since when."""

    def __init__(self, archive: str, run_date: date) -> None:
        if "://" in archive:
            raise LakeError(f"{archive} is no folder, so a run on this machine cannot lock a date there; start the run on AWS.")
        self.run_date = run_date
        self._path = _lock_path(archive, run_date)
        self._descriptor: Optional[int] = None

    def __enter__(self) -> DateLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + _GRACE_SECONDS
        looked_before = False
        while not _try_lock(descriptor):
            holder = _read_holder(self._path)
            # Not at the first look: `holder_of` locks the file for a moment too, and what it says then is an earlier holder's.
            if (holder.is_alive and looked_before) or time.monotonic() > until:
                os.close(descriptor)
                raise DateLockedError(_format_lock_error(self.run_date, holder))
            looked_before = True
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._descriptor is not None:
            # What the file says is of no account once it is not locked: it stays, so that nobody locks one that is removed.
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def descriptor(self) -> int:
        """The open file, for the processes of the run to inherit."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        return self._descriptor

    def write_holder(self, run_id: str) -> None:
        """Say which run holds the date."""
        holder = LockHolder(
            run_id=run_id,
            pid=os.getpid(),
            began=psutil.Process().create_time(),
            user=getpass.getuser(),
            host=socket.gethostname(),
            since=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
        )
        data = json.dumps(asdict(holder)).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, data, 0)


def find_lock_holder(archive: str, run_date: date) -> Optional[LockHolder]:
    """Who works on a business date right now, or None. Of a bucket nothing is known, so None."""
    if "://" in archive:
        return None
    path = _lock_path(archive, run_date)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor, shared=True) else _read_holder(path)
    finally:
        os.close(descriptor)


def _lock_path(archive: str, run_date: date) -> Path:
    return Path(archive) / "locks" / f"run_date={run_date.isoformat()}.lock"


def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(path: Path) -> LockHolder:
    try:
        return LockHolder(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        # Its holder has not signed it yet.
        return LockHolder("", 0, 0.0, "", "", "")


def _format_lock_error(run_date: date, holder: LockHolder) -> str:
    if holder.is_alive:
        return f"{run_date} is being run by {holder}; wait until it ends, or stop it, then run the date again."
    return f"{run_date} was being run by {holder}, which is gone, but a process of it still works; end it, then run the date."
