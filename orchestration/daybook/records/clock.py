"""Measure durations that do not depend on the wall clock.

A wall clock jumps: a person or a time server sets it, or its host was suspended. A duration is therefore taken from the
machine's own count of seconds.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from daybook.records.models import ClockReading

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_TOKEN = f"{os.getpid()}-{secrets.token_hex(8)}"
"""Replaces the boot id on a machine that has none: readings are then comparable within this process only."""


def monotonic_seconds() -> float:
    """Return the seconds since the machine was started, with suspended time where the system counts it; never goes back."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def read_clock() -> ClockReading:
    """Return the count now and the start of the machine that it counts from, for a later process to compare with."""
    return ClockReading(boot=_read_boot_id(), seconds=round(monotonic_seconds(), 3))


def seconds_since(begun: Optional[ClockReading]) -> Optional[float]:
    """Return the seconds since a reading; None if it is from another machine, or from before this machine was started."""
    if begun is None or begun.boot != _read_boot_id():
        return None
    return max(monotonic_seconds() - begun.seconds, 0.0)


def calculate_end_time(
    started: float, begun: Optional[ClockReading], *, seen: Optional[float] = None, least: float = 0.0
) -> float:
    """Return when something ended, in seconds since 1970 by the wall clock as it was at its start.

    Parameters
    ----------
    started
        When it started, in seconds since 1970.
    begun
        The reading at its start. Without a comparable one the wall clock decides.
    seen
        When a clock last showed it in progress, in seconds since 1970; not given, it ends now. The end lies between the start
        and now.
    least
        Its minimum duration in seconds if the wall clock decides.
    """
    passed = seconds_since(begun)
    if passed is None:
        return max(time.time() if seen is None else seen, started + least)
    return started + passed if seen is None else min(max(seen, started), started + passed)


class TimeBreakdown:
    """Measure seconds by activity. Of nested activities only the outer one counts."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}
        self._within = False

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Count the time in this context as ``name``, also if it raises."""
        if self._within:
            yield
            return
        self._within, started = True, monotonic_seconds()
        try:
            yield
        finally:
            self._within = False
            self._found[name] = self._found.get(name, 0.0) + monotonic_seconds() - started

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far by activity, to the millisecond."""
        return {name: round(seconds, 3) for name, seconds in self._found.items()}


def _read_boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return _PROCESS_TOKEN  # Not Linux, or not readable.
