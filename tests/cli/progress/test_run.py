"""Test what the terminal shows of a run: the nightly state machine runs with scripted jobs and sends all its events."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from rich.console import Console

import daybook.cli.progress.run
from asl_local import FakeClock, StateMachine, TaskError, TaskTimeout, run_execution
from daybook.cli.progress import Progress
from daybook.records.fingerprint import state_machine_path
from daybook.records.names import STAGES
from daybook.settings import load_settings

RUN = "daily-2025-11-30-1"
JOB, OBJECT = "arn:aws:states:::glue:startJobRun.sync", "arn:aws:states:::aws-sdk:s3:getObject"
START = "arn:aws:states:::states:startExecution.sync:2"
FAULT = TaskError("States.TaskFailed", "{}")

SCHEDULED = {
    "type": "TaskScheduled",
    "taskScheduledEventDetails": {"resourceType": "glue", "parameters": json.dumps({"Arguments": {"--stage": "ingest"}})},
}
FAILED = {"type": "TaskFailed", "taskFailedEventDetails": {}}
RETRY = {"type": "RetryScheduled", "stateName": "Ingest", "waitSeconds": 8.4, "attempt": 1, "error": "States.TaskFailed"}

Answer = dict[str, Any]


def outcome(outcome: str = "SUCCEEDED", attempt: int = 1, **rows: Optional[int]) -> Answer:
    return {"outcome": outcome, "attempt": attempt, "reasons": [], "rows": rows or {"in": 10, "out": 10}}


class Shown:
    """A run of the nightly state machine with scripted jobs, each of 1.5 seconds, and what a console shows of it."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False) -> None:
        self.place = place
        self.clock = FakeClock()
        monkeypatch.setattr(daybook.cli.progress.run, "time", SimpleNamespace(monotonic=self.clock.monotonic))
        self.screen = io.StringIO()
        self.console = Console(file=self.screen, width=120, force_terminal=terminal, color_system=None)
        self.faults: dict[str, Iterator[Exception]] = {}
        self.outcomes: dict[str, Answer] = {}

    def run(self, *, live: bool = True, **script: Any) -> list[str]:
        """Run it with an outcome for each stage, or faults and then an outcome; return the printed lines."""
        for stage, steps in script.items():
            *faults, self.outcomes[stage] = steps if isinstance(steps, list) else [steps]
            self.faults[stage] = iter(faults)
        progress = Progress(self.console, load_settings("local"), RUN, live=live)
        with progress:
            run_execution(
                StateMachine.load(state_machine_path()),
                name=RUN,
                input={
                    "env": "local",
                    "run_date": "2025-11-30",
                    "overrides": {},
                    "archive": {"bucket": "archive", "prefix": ""},
                },
                services={JOB: self._run_job, OBJECT: self._get_object, START: self._run_job},
                journal=self.place / "history.jsonl",
                listener=progress,
                clock=self.clock,
                random=Random(1),  # noqa: S311
            )
        return self.screen.getvalue().splitlines()

    def send(self, *events: dict[str, Any]) -> None:
        """Send only these events, of a stage that took two seconds."""
        with Progress(self.console, load_settings("local"), RUN, live=True) as progress:
            for event in events:
                progress(event)
            self.clock.advance(2)

    def last_table(self) -> list[list[str]]:
        """Return the words of each line of the last table on the terminal."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.screen.getvalue())
        return [line.split() for line in plain[plain.rindex("stage ") :].splitlines() if line.strip()]

    def _run_job(self, resource: str, arguments: Any, **_: Any) -> Answer:
        self.clock.advance(1.5)
        fault = next(self.faults.get(arguments["Arguments"]["--stage"], iter([])), None)
        if fault:
            raise fault
        return {"JobRunState": "SUCCEEDED"}

    def _get_object(self, resource: str, arguments: Any, **_: Any) -> Answer:
        stage = Path(arguments["Key"]).stem
        return {"Body": json.dumps({"stage": stage, **self.outcomes.get(stage, outcome())})}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(tmp_path, monkeypatch)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(tmp_path, monkeypatch, terminal=True)


def test_successful_run_prints_its_id_and_a_line_per_stage(shown: Shown) -> None:
    assert shown.run() == [
        f"Demo shop {RUN}",
        "  ✓ ingest        1.5 s   10 rows in, 10 out",
        "  ✓ validate      1.5 s   10 rows in, 10 out",
        "  ✓ transform     1.5 s   10 rows in, 10 out",
        "  ✓ aggregate     1.5 s   10 rows in, 10 out",
        "  ✓ quality       1.5 s   10 rows in, 10 out",
        "  ✓ notify        1.5 s",
    ]


def test_rejected_rows_are_counted(shown: Shown) -> None:
    lines = shown.run(
        ingest=outcome(**{"in": 12345, "out": 12345}), validate=outcome(**{"in": 12345, "out": 11145, "rejected": 1200})
    )
    assert lines[1] == "  ✓ ingest        1.5 s   12,345 rows in, 12,345 out"
    assert lines[2] == "  ✓ validate      1.5 s   12,345 rows in, 11,145 out, 1,200 rejected"


def test_skipped_date_shows_the_skipped_stage_and_notify(shown: Shown) -> None:
    assert shown.run(ingest=outcome("SKIPPED", **{"in": 0, "out": 0}))[1:] == [
        "  – ingest        1.5 s   0 rows in, 0 out",
        "  ✓ notify        1.5 s",
    ]


def test_rejected_stage_is_marked_and_later_ones_omitted(shown: Shown) -> None:
    lines = shown.run(validate=outcome("REJECTED", **{"in": 10, "out": 0, "rejected": 9}))
    assert lines[2:] == ["  ✗ validate      1.5 s   10 rows in, 0 out, 9 rejected", "  ✓ notify        1.5 s"]


def test_retry_shows_its_delay_and_successful_attempt(shown: Shown) -> None:
    lines = shown.run(transform=[FAULT, TaskTimeout(), outcome(attempt=3)])
    first, second = (f"{seconds:.0f}" for seconds in shown.clock.sleeps)
    assert lines[3:5] == [
        f"  transform: attempt 1 failed, retrying in {first} s",
        f"  transform: attempt 2 failed, retrying in {second} s",
    ]
    total = 3 * 1.5 + sum(shown.clock.sleeps)
    assert lines[5] == f"  ✓ transform  {total:6.1f} s   10 rows in, 10 out   attempt 3"
    assert lines[6].startswith("  ✓ aggregate     1.5 s")


def test_failed_stage_is_marked_once(shown: Shown) -> None:
    lines = shown.run(ingest=[FAULT] * 4 + [outcome()])
    assert [line.split(":")[0] for line in lines[1:4]] == ["  ingest"] * 3
    total = 4 * 1.5 + sum(shown.clock.sleeps)
    assert lines[4:] == [f"  ! ingest     {total:6.1f} s   attempt 4", "  ✓ notify        1.5 s"]


@pytest.mark.parametrize("attempt", [1, None])
def test_permanent_failure_is_shown_as_not_retried(shown: Shown, attempt: Optional[int]) -> None:
    lines = shown.run(ingest={**outcome("FAILED"), "rows": {}, "attempt": attempt, "permanent": True})
    assert lines[1:] == ["  ! ingest        1.5 s   not retried", "  ✓ notify        1.5 s"]


def test_failed_notify_is_shown_as_failed(shown: Shown) -> None:
    assert shown.run(notify=[FAULT] * 4 + [outcome()])[-1].startswith("  ! notify ")


def test_quiet_run_prints_nothing(shown: Shown) -> None:
    assert shown.run(live=False, transform=[FAULT, outcome(attempt=2)]) == []


def test_lines_are_not_wrapped_in_a_narrow_console(shown: Shown) -> None:
    shown.console = Console(file=shown.screen, width=30)
    assert len(shown.run()) == 1 + len(STAGES)


def test_terminal_shows_a_table_of_all_stages(terminal: Shown) -> None:
    terminal.run(transform=[FAULT, outcome(attempt=2, **{"in": 10, "out": 8, "rejected": 2})])
    heading, *stages = terminal.last_table()
    assert heading == ["stage", "seconds", "rows", "in", "rows", "out", "rejected"]
    assert [line[1] for line in stages] == list(STAGES)
    total = 2 * 1.5 + sum(terminal.clock.sleeps)
    assert stages[2] == ["✓", "transform", f"{total:.1f}", "10", "8", "2", "attempt", "2"]


def test_terminal_prints_no_lines_beside_the_table(terminal: Shown) -> None:
    assert "retrying in" not in "".join(terminal.run(transform=[FAULT, outcome(attempt=2)]))


def test_waiting_stage_is_shown_as_waiting(terminal: Shown) -> None:
    terminal.send(SCHEDULED, FAILED, RETRY)
    _, ingest, *others = terminal.last_table()
    assert ingest == ["…", "ingest", "2.0", "attempt", "1", "failed,", "retrying", "in", "8", "s"]
    assert others == [[stage] for stage in STAGES[1:]]


def test_retried_stage_is_shown_as_running(terminal: Shown) -> None:
    terminal.send(SCHEDULED, FAILED, RETRY, SCHEDULED)
    assert terminal.last_table()[1] == ["●", "ingest", "2.0", "attempt", "2"]


def test_resumed_run_shows_its_remaining_stages(shown: Shown) -> None:
    # A redrive does not enter the state again: its first event is the job's, or the outcome of a job that has ended.
    body = json.dumps({"stage": "validate", **outcome()})
    read = {"resourceType": "aws-sdk:s3", "output": json.dumps({"Body": body})}
    shown.send({"type": "ExecutionRedriven"}, {"type": "TaskSucceeded", "taskSucceededEventDetails": read}, SCHEDULED)
    assert "validate" in shown.screen.getvalue()
