"""How long something took, whatever is done to the wall clock meanwhile.

A wall clock jumps: it is set by hand, by a time server after a start with an empty battery, by a host that was asleep. What
has begun at its word therefore ends that much later as has passed by the count, and is never over before it began.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_TOKEN = f"{os.getpid()}-{secrets.token_hex(8)}"
"""Stands for the boot where a machine does not name it: counts are then compared within this process only."""


def monotonic_seconds() -> float:
    """Seconds since the machine was started, time asleep included where the system counts it; never goes back."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def read_clock() -> dict[str, Any]:
    """The count now, and which start of which machine it counts from: what a later process needs to go on with it."""
    return {"boot": _read_boot_id(), "seconds": round(monotonic_seconds(), 3)}


def seconds_since(begun: Optional[Mapping[str, Any]]) -> Optional[float]:
    """Seconds since a reading; None where it was taken on another machine, or before this one was started."""
    if begun is None or begun["boot"] != _read_boot_id():
        return None
    return max(monotonic_seconds() - float(begun["seconds"]), 0.0)


def calculate_end_time(
    started: float, begun: Optional[Mapping[str, Any]], *, seen: Optional[float] = None, least: float = 0.0
) -> float:
    """When what began at ``started`` ended, all in seconds since 1970 by the clock as it was then.

    It ends now; or, with ``seen``, when a clock showed that moment, if that lies between the start and now. Where no count
    goes back to its start, the wall clock decides, but it took at ``least`` so many seconds.
    """
    passed = seconds_since(begun)
    if passed is None:
        return max(time.time() if seen is None else seen, started + least)
    return started + passed if seen is None else min(max(seen, started), started + passed)


class TimeBreakdown:
    """Seconds by what they were spent on; of what is done within another, only the outer counts."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}
        self._within = False

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """What is done here is time spent on ``name``, also where it raises."""
        if self._within:
            yield
            return
        self._within, began = True, monotonic_seconds()
        try:
            yield
        finally:
            self._within = False
            self._found[name] = self._found.get(name, 0.0) + monotonic_seconds() - began

    def seconds(self) -> dict[str, float]:
        """The seconds so far, to the millisecond."""
        return {name: round(seconds, 3) for name, seconds in self._found.items()}


def _read_boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return _PROCESS_TOKEN  # Not Linux, or a machine that keeps it to itself.
