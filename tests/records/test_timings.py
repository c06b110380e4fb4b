"""Test the phases of an attempt, from the job's own measurements and the history of the state machine."""

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
    """Return the monotonic clock, a list with one value that the test sets."""
    at = [100.0]
    monkeypatch.setattr(timings, "monotonic_seconds", lambda: at[0])
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: at[0])
    return at


def test_phases_cover_the_time_since_the_process_start(count: list[float]) -> None:
    timer = PhaseTimer(began=99.5)
    timer.end("start")
    count[0] = 101.0
    timer.end("claim")
    for at, is_parameters in ((103.0, True), (103.5, True), (104.0, False), (106.0, False)):
        count[0] = at
        timer.start_cell(parameters=is_parameters)
        count[0] = at + 0.25
        timer.end_cell()
    count[0] = 108.0
    timer.end_notebook()
    count[0] = 109.0
    timer.end("search")
    assert timer.noted() == {
        "start": 0.5, "claim": 1.0, "kernel": 2.0, "opening": 3.0, "cells": 0.25, "kernel's end": 1.75, "search": 1.0,
    }  # fmt: skip
    assert sum(timer.noted().values()) == 109.0 - 99.5


def test_kernel_without_an_answer_takes_the_whole_time(count: list[float]) -> None:
    timer = PhaseTimer()
    count[0] = 220.0
    timer.end_notebook()
    assert timer.noted() == {"kernel": 120.0}


def test_stage_that_fails_while_opening_has_no_cells_phase(count: list[float]) -> None:
    timer = PhaseTimer()
    timer.start_cell(parameters=True)
    timer.start_cell(parameters=False)
    count[0] = 101.0
    timer.end_cell()
    timer.end_notebook()
    assert timer.noted() == {"kernel": 0.0, "opening": 1.0, "kernel's end": 0.0}


def test_process_start_is_read() -> None:
    script = (
        "from daybook.records.timings import read_process_start\nfrom daybook.records.clock import monotonic_seconds\n"
        "print(read_process_start(), monotonic_seconds())"
    )
    before = clock.monotonic_seconds()
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    if printed[0] == "None":
        pytest.skip("this system does not report the start of a process")
    # The system reports hundredths of a second and may truncate them.
    assert before - 0.02 <= float(printed[0]) < float(printed[1]) <= clock.monotonic_seconds()
    assert read_process_start() < before


def test_nested_phases_count_once_also_after_errors(count: list[float]) -> None:
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


def test_each_attempt_has_its_wait_and_unmeasured_time() -> None:
    timer = {"start": 0.5, "claim": 0.5, "kernel": 1.0, "cells": 4.0}
    first, second = attempt_timings([attempt(1), attempt(2, phases=timer, table_seconds={"commits": 2.0})], HISTORY)
    assert (first.whole, first.phases) == (5.0, {})
    assert second.whole == 10.0
    assert second.phases == {"wait": 2.0, **timer, "archive and end": 2.0}
    assert sum(second.phases.values()) == second.whole
    assert second.tables == {"commits": 2.0}


def test_without_a_history_only_measured_phases_exist() -> None:
    (row,) = attempt_timings([attempt(1, phases={"start": 0.5})], [])
    assert (row.whole, row.phases) == (None, {"start": 0.5})
