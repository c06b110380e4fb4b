"""Lock the business dates of a run, so that two runs of a date never work at once.

On AWS, where the archive is a bucket, runs hold leases instead (``daybook.records.leases``).
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Optional

import psutil

from daybook.errors import DateLockedError, LakeError

_GRACE_SECONDS = 10.0
"""Seconds that the processes of a holder that has ended may take to end, before an error reports them."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class LockHolder:
    """The process that works on a business date, and since when. Empty texts: it has just started."""

    run_id: str
    pid: int
    began: float
    user: str
    host: str
    since: str

    @property
    def is_alive(self) -> bool:
        """Whether the process is alive; always true for a process on another machine."""
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


class DateLocks:
    """The locks of business dates, taken on entering the context: all of them or none.

    Raises ``DateLockedError`` with the date that another run holds, the holder and its start.
    """

    def __init__(self, archive: str, dates: Iterable[date]) -> None:
        if "://" in archive:
            raise LakeError(f"{archive} is no folder, so a run on this machine cannot lock a date there; start the run on AWS.")
        self._archive = archive
        # In one order for all runs: of two runs that start at once, one gets all its dates.
        self._dates = sorted(set(dates))
        self._descriptors: list[int] = []

    def __enter__(self) -> DateLocks:
        try:
            for run_date in self._dates:
                self._descriptors.append(_take_lock(self._archive, run_date))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        # The content has no meaning once the file is not locked. The file stays, so that no process locks a removed file.
        while self._descriptors:
            os.close(self._descriptors.pop())

    @contextmanager
    def split_off(self, dates: Iterable[date]) -> Iterator[DateLocks]:
        """Move the locks of some of the dates into another object, which releases them when the context ends."""
        part = DateLocks(self._archive, dates)
        held = dict(zip(self._dates, self._descriptors))
        part._descriptors = [held.pop(each) for each in part._dates]
        self._dates, self._descriptors = list(held), list(held.values())
        try:
            yield part
        finally:
            part._release()

    @property
    def descriptors(self) -> list[int]:
        """Return the descriptors of the open files, which the processes of the run inherit."""
        if not self._descriptors:
            raise ValueError("the locks are not held")
        return list(self._descriptors)

    def write_holder(self, run_id: str) -> None:
        """Write which run holds the dates."""
        holder = LockHolder(
            run_id=run_id,
            pid=os.getpid(),
            began=psutil.Process().create_time(),
            user=getpass.getuser(),
            host=socket.gethostname(),
            since=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
        )
        data = json.dumps(asdict(holder)).encode()
        for descriptor in self.descriptors:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, data, 0)


def _take_lock(archive: str, run_date: date) -> int:
    """Lock a date and return the descriptor of its file. Raises ``DateLockedError``."""
    path = _lock_path(archive, run_date)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + _GRACE_SECONDS
    looked_before = False
    try:
        while not try_lock(descriptor):
            holder = _read_holder(path)
            # `find_lock_holder` locks the file for a moment. In that moment, the content is of an earlier holder.
            if (holder.is_alive and looked_before) or time.monotonic() > until:
                raise DateLockedError(_format_lock_error(run_date, holder))
            looked_before = True
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def find_lock_holder(archive: str, run_date: date) -> Optional[LockHolder]:
    """Return the process that works on a business date; None if there is none, or if the archive is a bucket."""
    if "://" in archive:
        return None
    path = _lock_path(archive, run_date)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(descriptor, shared=True) else _read_holder(path)
    finally:
        os.close(descriptor)


def _lock_path(archive: str, run_date: date) -> Path:
    return Path(archive) / "locks" / f"run_date={run_date.isoformat()}.lock"


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file until its descriptor is closed, at the latest when the process ends; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(path: Path) -> LockHolder:
    try:
        return LockHolder(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        # The holder has not written its run id yet.
        return LockHolder("", 0, 0.0, "", "", "")


def _format_lock_error(run_date: date, holder: LockHolder) -> str:
    if holder.is_alive:
        return f"{run_date} is being run by {holder}; wait until it ends, or stop it, then run the date again."
    return f"{run_date} was being run by {holder}, which is gone, but a process of it still works; end it, then run the date."
