"""Define the injected clock: ``SystemClock`` for real runs, ``FakeClock`` for tests that never wait."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import List, Optional, Protocol


def _count() -> float:
    """Return the seconds since boot. Time in suspend counts on systems that support it."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Clock(Protocol):
    """Give the interpreter the time and let it wait."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. Changes of the wall clock do not affect it."""

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``, zero or more."""


class SystemClock:
    """Use the system's time. The wall clock is read once, so later changes of it have no effect."""

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
    """Advance time only by ``sleep`` and ``advance``. ``sleeps`` lists every sleep in seconds, in order.

    The threads of a Map state can share it.
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
            raise ValueError(f"cannot sleep {seconds} s; pass zero or more seconds.")
        with self._lock:
            self._elapsed += seconds
            self.sleeps.append(seconds)

    def advance(self, seconds: float) -> None:
        """Advance the time by ``seconds`` without adding to ``sleeps``, as work does."""
        with self._lock:
            self._elapsed += seconds


def format_timestamp(moment: datetime) -> str:
    """Return ``moment`` (aware) as ISO 8601 in UTC with milliseconds, ``2025-12-01T02:00:00.000Z``."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
