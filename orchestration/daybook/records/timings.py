"""Measure where the time of an attempt goes, from the start of its process to its page.

The time before the process and after the record is not in the record. The state machine's history has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from daybook.records.archive import parse_timestamp
from daybook.records.clock import monotonic_seconds
from daybook.records.history import list_jobs
from daybook.records.models import AttemptRecord

WAIT_PHASE, END_PHASE = "wait", "archive and end"
"""Phases that no record can have: the process is created (the first one after all packages are imported for every job);
notebook and page are written and the process ends."""
PHASES = ("start", "claim", "kernel", "opening", "cells", "kernel's end", "search", "page")
"""The phases of a job, in this order: its process starts and imports (also for its kernel, if it forks that); settings are read
and the attempt is claimed; papermill starts and its kernel answers; the first cell after the parameters opens the stage; the
other cells; the kernel ends; personal data is searched for; the page is made."""


class PhaseTimer:
    """Measure the phases of one job, one after the other. ``began`` is the start of the process, if it is known."""

    def __init__(self, began: Optional[float] = None) -> None:
        self._last = monotonic_seconds() if began is None else began
        self._found: dict[str, float] = {}
        self._executed: Optional[float] = None
        self._opening = False

    def end(self, name: str, at: Optional[float] = None) -> None:
        """End the phase ``name``, now or ``at`` a time. It started when the phase before it ended."""
        ended = max(monotonic_seconds() if at is None else at, self._last)
        self._found[name] = self._found.get(name, 0.0) + ended - self._last
        self._last = ended

    def start_cell(self, *, parameters: bool) -> None:
        """Note that a code cell starts: the kernel has answered, and the first cell after the parameters opens the stage."""
        if "kernel" not in self._found:
            self.end("kernel")
        elif self._opening and "opening" not in self._found:
            self.end("opening")
        self._opening = self._opening or not parameters

    def end_cell(self) -> None:
        """Note that a code cell has ended."""
        self._executed = monotonic_seconds()

    def end_notebook(self) -> None:
        """Note that the notebook was executed, as far as it came, and that its kernel has ended."""
        if "kernel" in self._found:
            self.end("cells" if "opening" in self._found else "opening", self._executed)
        self.end("kernel's end" if self._executed is not None else "kernel")

    def noted(self) -> dict[str, float]:
        """Return the seconds of all phases so far, to the millisecond."""
        return {name: round(seconds, 3) for name, seconds in self._found.items()}


def read_process_start() -> Optional[float]:
    """Return when this process started, by ``monotonic_seconds``, to the hundredth of a second; None if it is not known."""
    try:
        # The process name in brackets may hold anything, so fields are counted after the last bracket, from the third on.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


@dataclass(frozen=True)
class AttemptTimings:
    """Where the time of an attempt went, in seconds.

    ``tables`` is the part of its cells that opened tables and committed. ``whole`` is how long the state machine waited for the
    attempt, None if the history does not have it.
    """

    stage: str
    attempt: int
    phases: dict[str, float]
    tables: dict[str, float]
    whole: Optional[float]

    @property
    def total(self) -> float:
        """The seconds of the whole attempt, as far as they are known."""
        return sum(self.phases.values()) if self.whole is None else self.whole


def attempt_timings(attempts: Iterable[AttemptRecord], history: Iterable[Mapping[str, Any]]) -> list[AttemptTimings]:
    """Return the timings of each attempt, given the events of the state machine."""
    jobs = [job for job in list_jobs(history) if job.ended_at]
    rows = []
    for attempt in attempts:
        phases = dict(attempt.phases)
        job = next((each for each in jobs if each.stage == attempt.stage), None)
        whole = None
        if job and job.ended_at:
            jobs.remove(job)
            whole = (job.ended_at - job.scheduled_at).total_seconds()
        if job and whole is not None and phases:
            # A record starts with the claim, so the time before the claim is known.
            until_claimed = (parse_timestamp(attempt.started_at) - job.scheduled_at).total_seconds()
            before = until_claimed - phases.get("start", 0.0) - phases.get("claim", 0.0)
            rest = whole - sum(phases.values()) - max(before, 0.0)
            phases = {WAIT_PHASE: round(max(before, 0.0), 3), **phases, END_PHASE: round(max(rest, 0.0), 3)}
        rows.append(AttemptTimings(attempt.stage, attempt.attempt, phases, dict(attempt.table_seconds), whole))
    return rows
