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
from daybook.records.models import PlannedRange, RangeDate
from daybook.records.names import STAGES, list_dates, range_of

ReadOutcomes = Callable[[str], Mapping[str, RangeDate]]
"""Given the id of an ended run, returns the outcomes of its dates, by date, YYYY-MM-DD; none of a run that was not started."""


@dataclass
class _RunProgress:
    """A run of a date, of a range or of a half: its start, current and last failed stage, and its seconds once it has ended."""

    run_id: str
    started: float
    stage: str = ""
    failed: str = ""
    seconds: Optional[float] = None


class BackfillProgress(LiveDisplay):
    """A context manager that shows a backfill while it lasts, from events of its state machine and of its runs.

    ``__call__`` takes an event of the state machine, ``on_run_event`` one of a run. ``total`` is the number of dates, None
    while it is unknown; ``counts`` is the number of dates by outcome. Outcomes come from the state machine, because dates
    without a run have one, too. Those of the dates of a range come from ``read_outcomes``.
    """

    def __init__(
        self,
        console: Console,
        total: Optional[int],
        *,
        shown: bool,
        read_outcomes: ReadOutcomes = lambda _: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._read_outcomes = read_outcomes
        self._lock = threading.Lock()
        self._started = clock()
        self._runs: dict[tuple[date, date], _RunProgress] = {}
        """By first and last date, since a run may have another id than the planned one."""
        self.counts: Counter[str] = Counter()
        self._total = total
        self._bar = Progress(TextColumn("dates"), BarColumn(), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=total)
        super().__init__(console, shown=shown)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event of the state machine that runs the dates."""
        with self._lock:
            if event["type"] == "MapStateEntered" and event["stateEnteredEventDetails"]["name"] == "Ranges":
                planned = map(PlannedRange.model_validate, json.loads(event["stateEnteredEventDetails"]["input"])["ranges"])
                self._total = sum(len(each.dates) for each in planned)
                self._bar.update(self._task, total=self._total)
            elif event["type"] == "ChoiceStateEntered" and event["stateEnteredEventDetails"]["name"] == "RangeEnded":
                self._end(**json.loads(event["stateEnteredEventDetails"]["input"]))

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Take an event of a run, or of the run of a half."""
        kind, dates = event["type"], range_of(run_id)
        with self._lock:
            if kind == "ExecutionStarted":
                self._runs[dates] = _RunProgress(run_id, self._clock())
            elif kind == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"].lower() in STAGES:
                self._runs[dates].stage = event["stateEnteredEventDetails"]["name"].lower()
            elif kind in ("TaskFailed", "TaskTimedOut") or _is_permanent_failure(event):
                self._runs[dates].failed = self._runs[dates].stage
            elif kind in ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"):
                self._runs[dates].seconds = self._clock() - self._runs[dates].started

    def _end(self, run_date: str, until: str, run_id: str, outcome: str) -> None:
        """Show a line for each date of an ended run."""
        dates = date.fromisoformat(run_date), date.fromisoformat(until)
        run = self._runs.pop(dates, _RunProgress(run_id, self._clock()))
        days = [day.isoformat() for day in list_dates(*dates)]
        found = self._read_outcomes(run.run_id) if len(days) > 1 else {}
        for day in days:
            ended = found.get(day)
            self._end_date(run, ended.run_id if ended else run.run_id, ended.outcome if ended else outcome)

    def _end_date(self, run: _RunProgress, run_id: str, outcome: str) -> None:
        self.counts[outcome] += 1
        done = sum(self.counts.values())
        self._bar.update(self._task, completed=done)
        at = f" in {run.failed}" if outcome == "FAILED" and run.failed else ""
        took = f" {run.seconds:.1f} s" if run.seconds is not None else " (no run)"
        of = f" of {self._total}" if self._total else ""
        within = f" in {run.run_id}" if run_id != run.run_id else ""
        text = f" {run_id} {outcome}{at}{took}{within} ({done}{of}{self._format_remaining()})"
        self._print_line("  ", SYMBOLS[outcome], text)

    def _render(self) -> Group:
        with self._lock:
            counted = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(self.counts.items()))
            running = [run for _, run in sorted(self._runs.items()) if run.seconds is None]
            lines = [styled_text("  ", SYMBOLS["RUNNING"], f" {run.run_id} {run.stage}") for run in running]
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
    outcome = json.loads(json.loads(details["output"])["Body"])
    return "halves" not in outcome and outcome["outcome"] == "FAILED"
