"""Time, as the interpreter sees it: a clock it is given, so that tests and replays never wait."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import List, Optional, Protocol


def _count() -> float:
    """Return the seconds since the machine started; time asleep counts where the system supports that."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Clock(Protocol):
    """Where the interpreter takes the time from, and how it waits."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back, whatever is done to the wall clock."""

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``, zero or more."""


class SystemClock:
    """The machine's own time. Its wall clock is looked at once: whatever it is set to later, time passes evenly."""

    def __init__(self) -> None:
        self._started = datetime.now(timezone.utc)
        self._start = _count()

    def now(self) -> datetime:
        return self._started + timedelta(seconds=_count() - self._start)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class FakeClock:
    """A clock that stands still until someone sleeps; ``sleeps`` keeps every wait, in seconds, in order.

    Safe to share between the threads of a Map state.
    """

    def __init__(self, start: Optional[datetime] = None) -> None:
        self._start = start or datetime(2025, 12, 1, 2, 0, tzinfo=timezone.utc)
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self.sleeps: List[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a clock cannot sleep {seconds} s; give zero or more.")
        with self._lock:
            self._elapsed += seconds
            self.sleeps.append(seconds)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass as work does, without counting as a wait."""
        with self._lock:
            self._elapsed += seconds


def format_timestamp(moment: datetime) -> str:
    """Return ``moment`` (aware) as ISO 8601 in UTC with milliseconds, ``2025-12-01T02:00:00.000Z``."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> datetime:
    """Return the moment that an ISO 8601 ``text`` with a time zone names; ``ValueError`` when it names none."""
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError(f"the timestamp {text!r} has no time zone; end it with Z or an offset.")
    return moment
