"""Show the progress of a run in the terminal: stage, attempt, elapsed time, rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from rich.console import Console
from rich.table import Table

from daybook.cli.progress.live import SYMBOLS, LiveDisplay
from daybook.cli.terminal import Part, styled_text
from daybook.records.archive import parse_timestamp
from daybook.records.names import STAGES
from daybook.settings import Settings


@dataclass
class _StageLine:
    state: str = ""
    attempt: int = 1
    started: float = 0.0
    started_at: Optional[str] = None
    seconds: Optional[float] = None
    rows: dict[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started if self.seconds is None else self.seconds


class Progress(LiveDisplay):
    """A context manager that shows a run while it lasts, from the events of its state machine.

    After the stages of a range that failed, it shows those of its halves, one after the other.
    """

    def __init__(self, console: Console, settings: Settings, run_id: str, *, live: bool) -> None:
        self._lines: dict[str, _StageLine] = {}
        self._state = ""
        self._half = ""
        self._at: Optional[str] = None
        super().__init__(console, shown=live)
        if live:
            console.print(styled_text((settings.title, "bold"), f" {run_id}"))

    def __call__(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        self._at = event.get("timestamp")
        if kind == "TaskStateEntered":
            self._state = event["stateEnteredEventDetails"]["name"]
        elif kind == "TaskScheduled":
            self._start(event.get("taskScheduledEventDetails", {}))
        elif kind == "RetryScheduled":
            self._wait(event)
        elif kind in ("TaskFailed", "TaskTimedOut"):
            line = next(reversed(self._lines.values()), None)
            if line and line.state == "RUNNING":
                line.state = "FAILED"
        elif kind == "TaskSucceeded":
            self._succeed(event["taskSucceededEventDetails"])
        elif kind == "TaskStateExited":
            self._exit_state(event["stateExitedEventDetails"]["name"].lower())

    def on_half_event(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Take an event of the run of a half."""
        if event["type"] == "ExecutionStarted":
            self._lines.clear()
            self._half = run_id
            self._print_line(f"  {run_id}: a half of the range")
        self(event)

    def _start(self, details: Mapping[str, Any]) -> None:
        """Note the start of a job: the first, one after a wait, or one of a resumed run."""
        if details.get("resourceType") == "glue":
            stage = json.loads(details["parameters"])["Arguments"]["--stage"]
        elif self._state.lower() in STAGES:
            stage = self._state.lower()  # A task in the state of a stage that is not a Glue job.
        else:
            return
        line = self._lines.setdefault(stage, _StageLine(started=time.monotonic(), started_at=self._at))
        if line.state == "FAILED":
            # Step Functions has no event for the wait before a retry.
            line.attempt += 1
            self._print_line(f"  {stage}: attempt {line.attempt - 1} failed, retrying")
        line.state, line.remark = "RUNNING", ""

    def _wait(self, event: Mapping[str, Any]) -> None:
        stage = event["stateName"].lower()
        if stage not in self._lines:
            return
        line = self._lines[stage]
        line.attempt += 1
        line.state = "WAITING"
        line.remark = f"attempt {line.attempt - 1} failed, retrying in {event['waitSeconds']:.0f} s"
        self._print_line(f"  {stage}: {line.remark}")

    def _succeed(self, details: Mapping[str, Any]) -> None:
        output = json.loads(details["output"])
        # Jobs and executions have no body; the outcome of a whole range has no stage.
        outcome = json.loads(output["Body"]) if "Body" in output else {}
        if "stage" not in outcome:
            return
        # A resumed run may begin with the outcome of a stage that has already ended.
        line = self._lines.setdefault(outcome["stage"], _StageLine(started=time.monotonic(), started_at=self._at))
        line.state, line.rows, line.attempt = outcome["outcome"], outcome["rows"], outcome["attempt"] or line.attempt
        line.remark = "not retried" if outcome.get("permanent") else ""
        self._print_stage(outcome["stage"])

    def _exit_state(self, state: str) -> None:
        line = self._lines.get(state)
        if line:
            line.seconds = _elapsed_seconds(line.started_at, self._at, line.elapsed)
            if state == STAGES[-1] and line.state == "RUNNING":
                # The outcome of the last stage is not read: only the end of its task is known.
                line.state = "SUCCEEDED"
            if line.state in ("SUCCEEDED", "FAILED"):
                self._print_stage(state)

    def _render(self) -> Table:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("")
        table.add_column("stage", min_width=10)
        table.title = self._half or None
        for name in ("seconds", "rows in", "rows out", "rejected"):
            table.add_column(name, justify="right", min_width=8)
        table.add_column("")
        for stage in STAGES:
            line = self._lines.get(stage)
            cells: list[Part]
            if line is None:
                cells = [" ", (stage, "dim")]
            else:
                counts = _format_row_counts(stage, line)
                cells = [SYMBOLS[line.state], stage, f"{line.elapsed:.1f}", *counts, _format_remark(line)]
            table.add_row(*map(styled_text, cells))
        return table

    def _print_stage(self, stage: str) -> None:
        line = self._lines[stage]
        rows_in, rows_out, rejected = _format_row_counts(stage, line)
        text = f" {stage:<10} {line.elapsed:6.1f} s"
        if rows_out:
            text += f"   {rows_in} rows in, {rows_out} out" + (f", {rejected} rejected" if rejected else "")
        remark = _format_remark(line)
        self._print_line("  ", SYMBOLS[line.state], text, f"   {remark}" if remark else "")


def _elapsed_seconds(started: Optional[str], ended: Optional[str], otherwise: float) -> float:
    """Return the seconds between the timestamps of two events, since events may arrive late."""
    if started is None or ended is None:
        return otherwise
    return max((parse_timestamp(ended) - parse_timestamp(started)).total_seconds(), 0.0)


def _format_row_counts(stage: str, line: _StageLine) -> tuple[str, str, str]:
    if stage == STAGES[-1] or not line.rows:
        return "", "", ""
    rows_in, rows_out, rejected = (line.rows.get(name) or 0 for name in ("in", "out", "rejected"))
    return f"{rows_in:,}", f"{rows_out:,}", f"{rejected:,}" if rejected else ""


def _format_remark(line: _StageLine) -> str:
    return line.remark or (f"attempt {line.attempt}" if line.attempt > 1 else "")
