"""What the terminal shows of a backfill: dates done, running and failed, the rate and the time left, by a clock that is set."""

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
    """Progress that hears what it is told, and what a console shows of it."""

    def __init__(self, *, terminal: bool = False, shown: bool = True, total: Optional[int] = 4) -> None:
        self.clock = FakeClock()
        self.screen = io.StringIO()
        console = Console(file=self.screen, width=120, force_terminal=terminal, color_system=None)
        self.progress = BackfillProgress(console, total, shown=shown, clock=self.clock.monotonic)

    def run(self, number: int, *events: dict[str, Any], seconds: float = 0.0) -> None:
        """Events of a date's run, after so many seconds each."""
        for event in events:
            self.clock.advance(seconds)
            self.progress.on_run_event(run_of(number), event)

    def end(self, number: int, outcome: str) -> None:
        """The backfill's machine says what a date came to."""
        told = {"run_date": run_of(number)[6:16], "run_id": run_of(number), "outcome": outcome}
        self.progress(
            {"type": "ChoiceStateEntered", "stateEnteredEventDetails": {"name": "DateEnded", "input": json.dumps(told)}}
        )

    @property
    def lines(self) -> list[str]:
        return self.screen.getvalue().splitlines()

    def picture(self) -> list[str]:
        """What a terminal shows at this moment."""
        before = len(self.screen.getvalue())
        with self.progress:
            pass
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.screen.getvalue()[before:])
        lines = [line.rstrip() for line in plain.splitlines() if line.strip()]
        return lines[max(place for place, line in enumerate(lines) if line.startswith("dates ")) :]


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_a_date_that_ends_has_a_line_with_its_time_the_rate_and_what_is_left(shown: Shown) -> None:
    shown.run(1, STARTED)
    shown.run(1, ENDED, seconds=30)
    shown.end(1, "SUCCEEDED")
    assert shown.lines == ["  ✓ daily-2025-11-01-1 SUCCEEDED 30.0 s (1 of 4; 2.0 dates a minute, 0:01:30 left)"]


def test_the_rate_is_of_all_dates_so_far(shown: Shown) -> None:
    shown.run(1, STARTED)
    shown.run(2, STARTED)
    shown.run(1, ENDED, seconds=20)
    shown.end(1, "SUCCEEDED")
    shown.run(2, ENDED, seconds=10)
    shown.end(2, "SKIPPED")
    assert shown.lines[1] == "  – daily-2025-11-02-1 SKIPPED 30.0 s (2 of 4; 4.0 dates a minute, 0:00:30 left)"


def test_a_date_that_failed_names_the_stage_that_failed_and_not_the_notice_after_it(shown: Shown) -> None:
    shown.run(1, STARTED, entered("ingest"), entered("validate"), FAILED, entered("notify"), ENDED)
    shown.end(1, "FAILED")
    assert shown.lines[0].startswith("  ! daily-2025-11-01-1 FAILED in validate 0.0 s (1 of 4")


def read_outcome(outcome: str) -> dict[str, Any]:
    """The outcome of a stage, as the machine reads it."""
    output = json.dumps({"Body": json.dumps({"outcome": outcome})})
    return {"type": "TaskSucceeded", "taskSucceededEventDetails": {"resourceType": "aws-sdk:s3", "output": output}}


def test_a_permanent_failure_names_the_stage_that_failed(shown: Shown) -> None:
    job_ended = {"type": "TaskSucceeded", "taskSucceededEventDetails": {"resourceType": "glue", "output": "{}"}}
    ingested = (entered("ingest"), job_ended, read_outcome("SUCCEEDED"))
    shown.run(
        1, STARTED, *ingested, entered("validate"), job_ended, read_outcome("FAILED"), entered("notify"), job_ended, ENDED
    )
    shown.end(1, "FAILED")
    assert shown.lines[0].startswith("  ! daily-2025-11-01-1 FAILED in validate 0.0 s (1 of 4")


def test_a_rejected_date_is_marked_and_has_no_failed_stage(shown: Shown) -> None:
    shown.run(1, STARTED, entered("ingest"), FAILED, entered("ingest"), entered("validate"), ENDED)
    shown.end(1, "REJECTED")
    assert shown.lines[0].startswith("  ✗ daily-2025-11-01-1 REJECTED 0.0 s (1 of 4")


def test_a_date_that_got_no_run_counts_as_done(shown: Shown) -> None:
    shown.clock.advance(60)
    shown.end(3, "FAILED")
    assert shown.lines == ["  ! daily-2025-11-03-1 FAILED (no run) (1 of 4; 1.0 dates a minute, 0:03:00 left)"]
    assert shown.progress.counts == {"FAILED": 1}


def test_a_date_that_got_another_name_is_shown_by_that(shown: Shown) -> None:
    for event in (STARTED, ENDED):
        shown.progress.on_run_event("daily-2025-11-01-7", event)
    shown.end(1, "SUCCEEDED")
    assert "daily-2025-11-01-7 SUCCEEDED" in shown.lines[0]


def test_the_machine_says_how_many_dates_there_are() -> None:
    shown = Shown(total=None)
    shown.clock.advance(1)
    shown.end(1, "SUCCEEDED")
    assert shown.lines == ["  ✓ daily-2025-11-01-1 SUCCEEDED (no run) (1)"]
    shown.progress({"type": "MapStateStarted", "mapStateStartedEventDetails": {"length": 2}})
    shown.end(2, "SUCCEEDED")
    assert "(2 of 2; 120.0 dates a minute, 0:00:00 left)" in shown.lines[1]


def test_other_events_of_the_machine_show_nothing(shown: Shown) -> None:
    shown.progress({"type": "ChoiceStateEntered", "stateEnteredEventDetails": {"name": "Outcome", "input": "{}"}})
    shown.progress({"type": "MapIterationStarted", "mapIterationStartedEventDetails": {"index": 0}})
    assert (shown.lines, shown.progress.counts) == ([], {})


@pytest.mark.parametrize("terminal", [False, True])
def test_one_that_is_not_shown_counts_all_the_same(terminal: bool) -> None:
    shown = Shown(shown=False, terminal=terminal)
    with shown.progress:
        shown.run(1, STARTED, ENDED)
        shown.end(1, "SUCCEEDED")
    assert (shown.screen.getvalue(), shown.progress.counts) == ("", {"SUCCEEDED": 1})


def test_a_terminal_shows_a_bar_the_counts_and_the_dates_under_way() -> None:
    shown = Shown(terminal=True)
    assert shown.picture()[1:] == ["none is through yet"]
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


def test_a_run_that_was_stopped_is_no_longer_under_way() -> None:
    shown = Shown(terminal=True)
    shown.run(1, STARTED, entered("ingest"), ABORTED)
    assert shown.picture()[1:] == ["none is through yet"]


def test_a_terminal_shows_no_lines_beside_its_picture() -> None:
    shown = Shown(terminal=True)
    shown.run(1, STARTED, ENDED)
    shown.end(1, "SUCCEEDED")
    assert shown.screen.getvalue() == ""
