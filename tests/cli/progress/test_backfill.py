"""Test what the terminal shows of a backfill, with a fake clock."""

from __future__ import annotations

import io
import json
import re
from typing import Any, Optional

import pytest
from rich.console import Console

from asl_local import FakeClock
from daybook.cli.progress import BackfillProgress

STARTED = {"type": "ExecutionStarted"}
ENDED = {"type": "ExecutionSucceeded"}
ABORTED = {"type": "ExecutionAborted"}
FAILED = {"type": "TaskFailed"}


def run_of(number: int) -> str:
    return f"daily-2025-11-{number:02d}-1"


def entered(stage: str) -> dict[str, Any]:
    return {"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": stage.capitalize(), "input": "{}"}}


class Shown:
    """The progress of a backfill, and what a console shows of it."""

    def __init__(self, *, terminal: bool = False, shown: bool = True, total: Optional[int] = 4) -> None:
        self.clock = FakeClock()
        self.screen = io.StringIO()
        console = Console(file=self.screen, width=120, force_terminal=terminal, color_system=None)
        self.progress = BackfillProgress(console, total, shown=shown, clock=self.clock.monotonic)

    def run(self, number: int, *events: dict[str, Any], seconds: float = 0.0) -> None:
        """Send events of the run of a date, each after ``seconds``."""
        for event in events:
            self.clock.advance(seconds)
            self.progress.on_run_event(run_of(number), event)

    def end(self, number: int, outcome: str) -> None:
        """Send the event with the outcome of a date."""
        day = run_of(number)[6:16]
        ended = {"run_date": day, "until": day, "run_id": run_of(number), "outcome": outcome}
        self.progress(
            {"type": "ChoiceStateEntered", "stateEnteredEventDetails": {"name": "RangeEnded", "input": json.dumps(ended)}}
        )

    @property
    def lines(self) -> list[str]:
        return self.screen.getvalue().splitlines()

    def picture(self) -> list[str]:
        """Return the lines that a terminal shows now."""
        before = len(self.screen.getvalue())
        with self.progress:
            pass
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.screen.getvalue()[before:])
        lines = [line.rstrip() for line in plain.splitlines() if line.strip()]
        return lines[max(place for place, line in enumerate(lines) if line.startswith("dates ")) :]


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_ended_date_has_a_line_with_duration_rate_and_rest(shown: Shown) -> None:
    shown.run(1, STARTED)
    shown.run(1, ENDED, seconds=30)
    shown.end(1, "SUCCEEDED")
    assert shown.lines == ["  ✓ daily-2025-11-01-1 SUCCEEDED 30.0 s (1 of 4; 2.0 dates a minute, 0:01:30 left)"]


def test_rate_counts_all_ended_dates(shown: Shown) -> None:
    shown.run(1, STARTED)
    shown.run(2, STARTED)
    shown.run(1, ENDED, seconds=20)
    shown.end(1, "SUCCEEDED")
    shown.run(2, ENDED, seconds=10)
    shown.end(2, "SKIPPED")
    assert shown.lines[1] == "  – daily-2025-11-02-1 SKIPPED 30.0 s (2 of 4; 4.0 dates a minute, 0:00:30 left)"


def test_failed_date_names_its_failed_stage_not_notify(shown: Shown) -> None:
    shown.run(1, STARTED, entered("ingest"), entered("validate"), FAILED, entered("notify"), ENDED)
    shown.end(1, "FAILED")
    assert shown.lines[0].startswith("  ! daily-2025-11-01-1 FAILED in validate 0.0 s (1 of 4")


def read_outcome(outcome: str) -> dict[str, Any]:
    """Return the event with which the state machine reads the outcome of a stage."""
    output = json.dumps({"Body": json.dumps({"outcome": outcome})})
    return {"type": "TaskSucceeded", "taskSucceededEventDetails": {"resourceType": "aws-sdk:s3", "output": output}}


def test_permanent_failure_names_the_failed_stage(shown: Shown) -> None:
    job_ended = {"type": "TaskSucceeded", "taskSucceededEventDetails": {"resourceType": "glue", "output": "{}"}}
    ingested = (entered("ingest"), job_ended, read_outcome("SUCCEEDED"))
    shown.run(
        1, STARTED, *ingested, entered("validate"), job_ended, read_outcome("FAILED"), entered("notify"), job_ended, ENDED
    )
    shown.end(1, "FAILED")
    assert shown.lines[0].startswith("  ! daily-2025-11-01-1 FAILED in validate 0.0 s (1 of 4")


def test_rejected_date_is_marked_and_has_no_failed_stage(shown: Shown) -> None:
    shown.run(1, STARTED, entered("ingest"), FAILED, entered("ingest"), entered("validate"), ENDED)
    shown.end(1, "REJECTED")
    assert shown.lines[0].startswith("  ✗ daily-2025-11-01-1 REJECTED 0.0 s (1 of 4")


def test_date_without_a_run_counts_as_done(shown: Shown) -> None:
    shown.clock.advance(60)
    shown.end(3, "FAILED")
    assert shown.lines == ["  ! daily-2025-11-03-1 FAILED (no run) (1 of 4; 1.0 dates a minute, 0:03:00 left)"]
    assert shown.progress.counts == {"FAILED": 1}


def test_date_is_shown_with_its_actual_run_id(shown: Shown) -> None:
    for event in (STARTED, ENDED):
        shown.progress.on_run_event("daily-2025-11-01-7", event)
    shown.end(1, "SUCCEEDED")
    assert "daily-2025-11-01-7 SUCCEEDED" in shown.lines[0]


def test_number_of_dates_comes_from_the_map_state() -> None:
    shown = Shown(total=None)
    shown.clock.advance(1)
    shown.end(1, "SUCCEEDED")
    assert shown.lines == ["  ✓ daily-2025-11-01-1 SUCCEEDED (no run) (1)"]
    ranges = [{"run_date": "2025-11-01", "until": "2025-11-02", "run_id": "range-2025-11-01-2025-11-02-1"}]
    entered = {"name": "Ranges", "input": json.dumps({"ranges": ranges})}
    shown.progress({"type": "MapStateEntered", "stateEnteredEventDetails": entered})
    shown.end(2, "SUCCEEDED")
    assert "(2 of 2; 120.0 dates a minute, 0:00:00 left)" in shown.lines[1]


def test_other_events_print_nothing(shown: Shown) -> None:
    shown.progress({"type": "ChoiceStateEntered", "stateEnteredEventDetails": {"name": "Outcome", "input": "{}"}})
    shown.progress({"type": "MapIterationStarted", "mapIterationStartedEventDetails": {"index": 0}})
    assert (shown.lines, shown.progress.counts) == ([], {})


@pytest.mark.parametrize("terminal", [False, True])
def test_hidden_progress_counts_outcomes(terminal: bool) -> None:
    shown = Shown(shown=False, terminal=terminal)
    with shown.progress:
        shown.run(1, STARTED, ENDED)
        shown.end(1, "SUCCEEDED")
    assert (shown.screen.getvalue(), shown.progress.counts) == ("", {"SUCCEEDED": 1})


def test_terminal_shows_bar_counts_and_running_dates() -> None:
    shown = Shown(terminal=True)
    assert shown.picture()[1:] == ["no date has ended yet"]
    shown.run(2, STARTED, entered("ingest"))
    shown.run(1, STARTED, entered("ingest"), entered("transform"))
    shown.run(3, STARTED)
    shown.run(3, ENDED, seconds=60)
    shown.end(3, "SUCCEEDED")
    shown.end(4, "FAILED")
    bar, *rest = shown.picture()
    assert re.fullmatch(r"dates .* 2/4", bar)
    assert rest == [
        "1 failed, 1 succeeded; 2.0 dates a minute, 0:01:00 left",
        "  ● daily-2025-11-01-1 transform",
        "  ● daily-2025-11-02-1 ingest",
    ]


def test_aborted_run_is_not_shown_as_running() -> None:
    shown = Shown(terminal=True)
    shown.run(1, STARTED, entered("ingest"), ABORTED)
    assert shown.picture()[1:] == ["no date has ended yet"]


def test_terminal_prints_no_lines_beside_the_live_view() -> None:
    shown = Shown(terminal=True)
    shown.run(1, STARTED, ENDED)
    shown.end(1, "SUCCEEDED")
    assert shown.screen.getvalue() == ""
