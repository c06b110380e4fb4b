"""Where the time of an attempt goes, as the job itself notes it: from its process's start to its page.

What comes before the process and after the record cannot stand in it: of that the state machine's history tells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from daybook.records.archive import parse_timestamp
from daybook.records.clock import monotonic_seconds

WAIT_PHASE, END_PHASE = "wait", "archive and end"
"""What no job can have in its record: its process is made (of the first one after all packages are imported for every job), and
notebook and page are written and the process ends."""
PHASES = ("start", "claim", "kernel", "opening", "cells", "kernel's end", "search", "page")
"""What a job notes, in this order: its process begins and imports (for its kernel too, where it forks that); settings are read
and the attempt is claimed; papermill begins and its kernel answers; the first cell after the parameters opens the stage; the
others; the kernel ends; personal data is looked for; the page is made."""


class PhaseTimer:
    """The phases of one job, noted one after the other; the first began when the process did, if that is given."""

    def __init__(self, began: Optional[float] = None) -> None:
        self._last = monotonic_seconds() if began is None else began
        self._found: dict[str, float] = {}
        self._executed: Optional[float] = None
        self._opening = False

    def end(self, name: str, at: Optional[float] = None) -> None:
        """The phase ``name`` ends now (or ended ``at``), and began where the one before it ended."""
        ended = max(monotonic_seconds() if at is None else at, self._last)
        self._found[name] = self._found.get(name, 0.0) + ended - self._last
        self._last = ended

    def start_cell(self, *, parameters: bool) -> None:
        """A code cell begins: at the first the kernel has answered, and the first that is no parameters' opens the stage."""
        if "kernel" not in self._found:
            self.end("kernel")
        elif self._opening and "opening" not in self._found:
            self.end("opening")
        self._opening = self._opening or not parameters

    def end_cell(self) -> None:
        """A code cell ended."""
        self._executed = monotonic_seconds()

    def end_notebook(self) -> None:
        """The notebook was executed, as far as it came, and its kernel has ended."""
        if "kernel" in self._found:
            self.end("cells" if "opening" in self._found else "opening", self._executed)
        self.end("kernel's end" if self._executed is not None else "kernel")

    def noted(self) -> dict[str, float]:
        """All phases so far in seconds, to the millisecond."""
        return {name: round(seconds, 3) for name, seconds in self._found.items()}


def read_process_start() -> Optional[float]:
    """When this process began, by the same count, to the hundredth of a second; None where the system does not say."""
    try:
        # The name in brackets may hold anything, so what follows the last bracket is counted: from the third field on.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def attempt_timings(attempts: Iterable[Mapping[str, Any]], history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an attempt: ``stage``, ``attempt``, its ``phases`` in seconds, ``tables`` (seconds of its cells that went into
    opening tables and commits), and ``whole``, how long the state machine waited for it (None where its history does not say).
    """
    waits = _job_intervals(history)
    rows = []
    for attempt in attempts:
        phases = dict(attempt.get("phases") or {})
        waited = waits.get(attempt["stage"], [])
        asked, answered = waited.pop(0) if waited else (None, None)
        whole = (answered - asked).total_seconds() if asked and answered else None
        if asked and whole is not None and phases:
            # An attempt's record begins with its claim, so what came before that is known of it.
            until_claimed = (parse_timestamp(attempt["started_at"]) - asked).total_seconds()
            before = until_claimed - phases.get("start", 0.0) - phases.get("claim", 0.0)
            rest = whole - sum(phases.values()) - max(before, 0.0)
            phases = {WAIT_PHASE: round(max(before, 0.0), 3), **phases, END_PHASE: round(max(rest, 0.0), 3)}
        tables = dict(attempt.get("table_seconds") or {})
        rows.append(
            {"stage": attempt["stage"], "attempt": attempt["attempt"], "phases": phases, "tables": tables, "whole": whole}
        )
    return rows


def _job_intervals(history: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[datetime, datetime]]]:
    """By stage, when each of its jobs was asked for and had ended, in their order."""
    found: dict[str, list[tuple[datetime, datetime]]] = {}
    begun: Optional[tuple[str, datetime]] = None
    for event in history:
        asked = event.get("taskScheduledEventDetails")
        if asked:
            stage = json.loads(asked["parameters"]).get("Arguments", {}).get("--stage")
            begun = (stage, parse_timestamp(event["timestamp"])) if stage else None
        elif begun and event["type"] in ("TaskSucceeded", "TaskFailed", "TaskTimedOut"):
            found.setdefault(begun[0], []).append((begun[1], parse_timestamp(event["timestamp"])))
            begun = None
    return found
