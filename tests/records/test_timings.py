"""Where the time of an attempt went: what the job noted, and what only the state machine's history tells."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from daybook.records import clock, timings
from daybook.records.models import AttemptRecord
from daybook.records.timings import PhaseTimer, attempt_timings, read_process_start


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine's count, which the test sets: its one item."""
    at = [100.0]
    monkeypatch.setattr(timings, "monotonic_seconds", lambda: at[0])
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: at[0])
    return at


def test_phases_follow_each_other_from_the_process_start_to_the_page(count: list[float]) -> None:
    noted = PhaseTimer(began=99.5)
    noted.end("start")
    count[0] = 101.0
    noted.end("claim")
    for at, is_parameters in ((103.0, True), (103.5, True), (104.0, False), (106.0, False)):
        count[0] = at
        noted.start_cell(parameters=is_parameters)
        count[0] = at + 0.25
        noted.end_cell()
    count[0] = 108.0
    noted.end_notebook()
    count[0] = 109.0
    noted.end("search")
    assert noted.noted() == {
        "start": 0.5, "claim": 1.0, "kernel": 2.0, "opening": 3.0, "cells": 0.25, "kernel's end": 1.75, "search": 1.0,
    }  # fmt: skip
    assert sum(noted.noted().values()) == 109.0 - 99.5


def test_a_kernel_that_never_answered_has_taken_all_the_time_until_it_was_given_up(count: list[float]) -> None:
    noted = PhaseTimer()
    count[0] = 220.0
    noted.end_notebook()
    assert noted.noted() == {"kernel": 120.0}


def test_of_a_stage_that_failed_while_it_opened_no_cells_are_noted(count: list[float]) -> None:
    noted = PhaseTimer()
    noted.start_cell(parameters=True)
    noted.start_cell(parameters=False)
    count[0] = 101.0
    noted.end_cell()
    noted.end_notebook()
    assert noted.noted() == {"kernel": 0.0, "opening": 1.0, "kernel's end": 0.0}


def test_a_process_knows_when_it_began() -> None:
    script = (
        "from daybook.records.timings import read_process_start\nfrom daybook.records.clock import monotonic_seconds\n"
        "print(read_process_start(), monotonic_seconds())"
    )
    before = clock.monotonic_seconds()
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "None":
        pytest.skip("this system does not say when a process began")
    # The system tells hundredths, and may cut them off.
    assert before - 0.02 <= float(told[0]) < float(told[1]) <= clock.monotonic_seconds()
    assert read_process_start() < before


def test_seconds_within_others_count_once_also_where_something_fails(count: list[float]) -> None:
    spent = clock.TimeBreakdown()
    with spent.on("commits"):
        count[0] += 1
        with spent.on("opening"):
            count[0] += 2
    with pytest.raises(ValueError, match="no"), spent.on("opening"):
        count[0] += 4
        raise ValueError("no")
    assert spent.seconds() == {"commits": 3.0, "opening": 4.0}


def scheduled(at: str, stage: str) -> dict[str, Any]:
    asked = {"JobName": "j", "Arguments": {"--stage": stage}}
    return {"type": "TaskScheduled", "timestamp": at, "taskScheduledEventDetails": {"parameters": json.dumps(asked)}}


def ended(at: str, how: str = "TaskSucceeded") -> dict[str, Any]:
    return {"type": how, "timestamp": at}


OUTCOME = {
    "type": "TaskScheduled",
    "timestamp": "2025-11-30T02:00:20.000Z",
    "taskScheduledEventDetails": {"parameters": json.dumps({"Bucket": "b", "Key": "k"})},
}
HISTORY = [
    scheduled("2025-11-30T02:00:00.000Z", "ingest"), ended("2025-11-30T02:00:05.000Z", "TaskFailed"),
    scheduled("2025-11-30T02:00:10.000Z", "ingest"), ended("2025-11-30T02:00:20.000Z"),
    OUTCOME, ended("2025-11-30T02:00:20.500Z"),
]  # fmt: skip


def attempt(number: int, **more: Any) -> AttemptRecord:
    facts = {"stage": "ingest", "attempt": number, "outcome": "SUCCEEDED", "started_at": "2025-11-30T02:00:13.000Z"}
    return AttemptRecord.model_validate({**facts, **more})


def test_each_attempt_has_its_own_wait_and_what_it_could_not_note_itself_is_told_apart() -> None:
    noted = {"start": 0.5, "claim": 0.5, "kernel": 1.0, "cells": 4.0}
    first, second = attempt_timings([attempt(1), attempt(2, phases=noted, table_seconds={"commits": 2.0})], HISTORY)
    assert (first.whole, first.phases) == (5.0, {})
    assert second.whole == 10.0
    assert second.phases == {"wait": 2.0, **noted, "archive and end": 2.0}
    assert sum(second.phases.values()) == second.whole
    assert second.tables == {"commits": 2.0}


def test_without_a_history_there_is_what_the_job_noted() -> None:
    (row,) = attempt_timings([attempt(1, phases={"start": 0.5})], [])
    assert (row.whole, row.phases) == (None, {"start": 0.5})
