"""Show the progress of a backfill: dates done, running and failed, the rate, and the time left."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Callable, Optional

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from daybook.cli.progress.live import SYMBOLS, LiveDisplay
from daybook.cli.terminal import styled_text
from daybook.records.names import STAGES, run_date_of


@dataclass
class _DateProgress:
    """The run of a date: its id, start, current stage, last failed stage, and its duration in seconds once it has ended."""

    run_id: str
    started: float
    stage: str = ""
    failed: str = ""
    seconds: Optional[float] = None


class BackfillProgress(LiveDisplay):
    """A context manager that shows a backfill while it lasts, from events of its state machine and of its runs.

    ``__call__`` takes an event of the state machine, ``on_run_event`` one of a run. ``total`` is the number of dates, None
    while it is unknown; ``counts`` is the number of dates by outcome. Outcomes come from the state machine, because dates
    without a run have one, too.
    """

    def __init__(
        self, console: Console, total: Optional[int], *, shown: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._days: dict[date, _DateProgress] = {}
        self.counts: Counter[str] = Counter()
        self._total = total
        self._bar = Progress(TextColumn("dates"), BarColumn(), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=total)
        super().__init__(console, shown=shown)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event of the state machine that runs the dates."""
        with self._lock:
            if event["type"] == "MapStateStarted":
                self._total = event["mapStateStartedEventDetails"]["length"]
                self._bar.update(self._task, total=self._total)
            elif event["type"] == "ChoiceStateEntered" and event["stateEnteredEventDetails"]["name"] == "DateEnded":
                self._end(**json.loads(event["stateEnteredEventDetails"]["input"]))

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Take an event of the run of one date."""
        kind, day = event["type"], run_date_of(run_id)
        with self._lock:
            if kind == "ExecutionStarted":
                self._days[day] = _DateProgress(run_id, self._clock())
            elif kind == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"].lower() in STAGES:
                self._days[day].stage = event["stateEnteredEventDetails"]["name"].lower()
            elif kind in ("TaskFailed", "TaskTimedOut") or _is_permanent_failure(event):
                self._days[day].failed = self._days[day].stage
            elif kind in ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"):
                self._days[day].seconds = self._clock() - self._days[day].started

    def _end(self, run_date: str, run_id: str, outcome: str) -> None:
        day = self._days.pop(date.fromisoformat(run_date), _DateProgress(run_id, self._clock()))
        self.counts[outcome] += 1
        done = sum(self.counts.values())
        self._bar.update(self._task, completed=done)
        at = f" in {day.failed}" if outcome == "FAILED" and day.failed else ""
        took = f" {day.seconds:.1f} s" if day.seconds is not None else " (no run)"
        of = f" of {self._total}" if self._total else ""
        text = f" {day.run_id} {outcome}{at}{took} ({done}{of}{self._format_remaining()})"
        self._print_line("  ", SYMBOLS[outcome], text)

    def _render(self) -> Group:
        with self._lock:
            counted = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(self.counts.items()))
            running = [day for _, day in sorted(self._days.items()) if day.seconds is None]
            lines = [styled_text("  ", SYMBOLS["RUNNING"], f" {day.run_id} {day.stage}") for day in running]
            summary = f"{counted or 'no date has ended yet'}{self._format_remaining()}"
        return Group(self._bar.get_renderable(), styled_text(summary), *lines)

    def _format_remaining(self) -> str:
        """Return the rate so far, and the time left at this rate."""
        done, passed = sum(self.counts.values()), self._clock() - self._started
        if not done or not passed or not self._total:
            return ""
        left = timedelta(seconds=round((self._total - done) * passed / done))
        return f"; {60 * done / passed:.1f} dates a minute, {left} left"


def _is_permanent_failure(event: Mapping[str, Any]) -> bool:
    """Return whether the event is the outcome of a stage with a permanent failure: its job has ended normally."""
    details = event.get("taskSucceededEventDetails") or {}
    if details.get("resourceType") != "aws-sdk:s3":
        return False
    return bool(json.loads(json.loads(details["output"])["Body"])["outcome"] == "FAILED")
