"""Live progress of a backfill: dates done, running and failed, the rate, and the time left.

Here: that, as a bar, or a line a date where there is no terminal. Not here: the stages of one run (``run``).
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Callable, Optional

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

_MARKS = {"SUCCEEDED": "[green]✓[/]", "SKIPPED": "[cyan]–[/]", "REJECTED": "[yellow]✗[/]", "FAILED": "[red]![/]"}


class BackfillProgress:
    """A listener for the backfill machine's events, and (``of_day``) for those of its runs; a context manager that shows them."""

    def __init__(
        self, console: Console, total: Optional[int], *, shown: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._shown = shown
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._running: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self._total = total
        self._bar = Progress(TextColumn("dates"), BarColumn(), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=total)
        self._live = (
            Live(get_renderable=self._picture, console=console, refresh_per_second=4) if shown and console.is_terminal else None
        )

    def __enter__(self) -> BackfillProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """An event of the machine that runs the dates."""
        if event["type"] == "MapStateStarted":
            with self._lock:
                self._total = event["mapStateStartedEventDetails"]["length"]
                self._bar.update(self._task, total=self._total)

    def of_day(self, run_id: str, event: Mapping[str, Any]) -> None:
        """An event of one date's run."""
        kind = event["type"]
        with self._lock:
            if kind == "ExecutionStarted":
                self._running[run_id], self._started[run_id] = "", self._clock()
            elif kind == "TaskScheduled" and event["taskScheduledEventDetails"]["resourceType"] == "glue":
                self._running[run_id] = json.loads(event["taskScheduledEventDetails"]["parameters"])["Arguments"]["--stage"]
            elif kind in ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted"):
                self._end(run_id, _outcome(event))

    def _end(self, run_id: str, outcome: str) -> None:
        stage = self._running.pop(run_id, "")
        self.counts[outcome] += 1
        self._bar.update(self._task, completed=sum(self.counts.values()))
        seconds = self._clock() - self._started.pop(run_id, self._began)
        if self._shown and self._live is None:
            at = f" in {stage}" if outcome == "FAILED" and stage else ""
            of = f" of {self._total}" if self._total else ""
            line = f"  {_MARKS[outcome]} {run_id} {outcome}{at} {seconds:.1f} s ({sum(self.counts.values())}{of}{self._left()})"
            self._console.print(line, soft_wrap=True)

    def _picture(self) -> Group:
        with self._lock:
            counted = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(self.counts.items()))
            lines = [f"  [blue]●[/] {run_id} {stage}" for run_id, stage in sorted(self._running.items())]
            said = Text.from_markup("\n".join([f"{counted or 'none is through yet'}{self._left()}", *lines]))
        return Group(self._bar.get_renderable(), said)

    def _left(self) -> str:
        """The rate so far and the time that the rest takes at it."""
        done, passed = sum(self.counts.values()), self._clock() - self._began
        if not done or not passed or not self._total:
            return ""
        left = timedelta(seconds=round((self._total - done) * passed / done))
        return f"; {60 * done / passed:.1f} dates a minute, {left} left"


def _outcome(event: Mapping[str, Any]) -> str:
    if event["type"] == "ExecutionSucceeded":
        return str(json.loads(event["executionSucceededEventDetails"]["output"])["outcome"])
    details = event.get("executionFailedEventDetails", {})
    return "REJECTED" if details.get("error") == "Daybook.Rejected" else "FAILED"
