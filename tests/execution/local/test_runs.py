"""Test local runs from start to closing record without kernels: closing, clock jumps and full disks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from asl_local import Execution, FakeClock, TaskError
from daybook.errors import StorageError, UsageError
from daybook.execution.local.runs import resume_dates, run_dates
from daybook.execution.stage import run_stage
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.models import RunRecord
from daybook.records.names import RESULT_MIME
from daybook.settings import Settings, load_settings
from tests.conftest import Disks

DAY = date(2025, 11, 30)
CLOSED = "the shop was closed"


class Machine:
    """Run jobs in this process with a simulated clock; each stage takes five seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.count = 1_764_554_400.0, 1_000.0
        self.jumps: Iterator[float] = iter(())
        self.failing: set[str] = set()
        monkeypatch.setattr("daybook.records.archive.time.time", lambda: self.wall)
        monkeypatch.setattr("daybook.records.clock.monotonic_seconds", lambda: self.count)
        monkeypatch.setattr("papermill.execute_notebook", self.execute)
        monkeypatch.setattr("daybook.execution.local.interpreter.SystemClock", FakeClock)
        monkeypatch.setattr("daybook.execution.local.runs.GlueJobs", lambda *_: self.job)

    def execute(self, path: str, output: str, *, parameters: dict[str, Any], **_: Any) -> None:
        """Write the executed notebook of a stage on a closed day."""
        self.wall += 5.0 + next(self.jumps, 0.0)
        self.count += 5.0
        stage = Path(path).stem.split("_", 1)[1]
        last = stage == "notify"
        details = {"run_outcome": "SKIPPED", "run_reasons": [CLOSED], "summary": None} if last else {}
        result = {
            "stage": stage, "outcome": "SUCCEEDED" if last else "SKIPPED", "reasons": [] if last else [CLOSED], "rows": {},
            "tables_read": {}, "tables_written": {}, "inputs": [], "details": details, "engine": None, "peak_memory_bytes": 1,
        }  # fmt: skip
        shown = new_output("display_data", data={RESULT_MIME: result})
        nbformat.write(new_notebook(cells=[new_code_cell("end()", outputs=[shown])]), output)

    def job(self, resource: str, arguments: Any, **_: Any) -> dict[str, Any]:
        given = {name.lstrip("-"): value for name, value in arguments["Arguments"].items()}
        if given["stage"] in self.failing:
            raise TaskError("States.TaskFailed", "the job's machine is gone")
        run_stage(given["stage"], env=given["env"], run_date=given["run_date"], run_id=given["run_id"])
        return {"JobRunState": "SUCCEEDED"}


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings("local")


def run(settings: Settings) -> tuple[Execution, RunRecord, Archive]:
    archive = Archive(settings.archive)
    execution, record = run_dates(settings, archive.start_run(DAY, {"env": settings.env}))
    return execution, record, archive


JUMPS = [-7_200.0, -1.0, 0.0, 3_600.0, 90_000.0]


@pytest.mark.parametrize("first", JUMPS)
@pytest.mark.parametrize("second", JUMPS)
def test_durations_ignore_wall_clock_jumps(machine: Machine, settings: Settings, first: float, second: float) -> None:
    machine.jumps = iter((first, second))

    execution, record, archive = run(settings)

    assert execution.status == "SUCCEEDED"
    assert (record.state, record.outcome, record.reasons) == ("closed", "SKIPPED", [CLOSED])
    assert archive.count_closing_records(record.run_id) == 1
    assert [(each.stage, each.attempt, each.seconds) for each in record.stages] == [
        ("ingest", 1, 5.0),
        ("notify", 1, 5.0),
    ]
    assert record.seconds == 10.0
    for each in (record, *record.stages):
        assert (parse_timestamp(each.ended_at) - parse_timestamp(each.started_at)).total_seconds() == each.seconds


@pytest.mark.parametrize("jump", JUMPS)
def test_run_numbers_ignore_wall_clock_jumps(machine: Machine, settings: Settings, jump: float) -> None:
    first = run(settings)[1]
    machine.wall += jump
    second = run(settings)[1]
    assert [first.run_id, second.run_id] == ["daily-2025-11-30-1", "daily-2025-11-30-2"]
    assert Archive(settings.archive).run_ids() == [first.run_id, second.run_id]


@pytest.mark.parametrize("jump", JUMPS)
def test_runner_closes_run_if_notify_fails(machine: Machine, settings: Settings, jump: float) -> None:
    machine.jumps, machine.failing = iter((jump,)), {"notify"}
    execution, record, archive = run(settings)
    assert execution.status == "FAILED"
    assert (record.state, record.outcome) == ("closed", "FAILED")
    assert archive.count_closing_records(record.run_id) == 1
    assert record.seconds == 5.0


def test_run_resumes_after_full_disk_before_journal(machine: Machine, settings: Settings, home: Path, disks: Disks) -> None:
    disk = disks.mount(home / "executions")
    disk.fill()
    with pytest.raises(StorageError, match=r"daily-2025-11-30-1\.jsonl could not be written: its disk is full; free"):
        run(settings)
    with pytest.raises(StorageError, match=r"could not be written: its disk is full"):
        resume_dates(settings, "daily-2025-11-30-1")
    disk.free()
    _, record = resume_dates(settings, "daily-2025-11-30-1")
    assert record.outcome == "SKIPPED"
    assert [each.stage for each in record.stages] == ["ingest", "notify"]


def test_run_resumes_after_full_disk_in_journal(machine: Machine, settings: Settings, home: Path, disks: Disks) -> None:
    disk = disks.mount(home / "executions")
    (disk.path / "local").mkdir()
    disk.fill(leave=4096)
    with pytest.raises(StorageError, match=r"jsonl could not be written: its disk is full; free some space, then resume"):
        run(settings)
    archive = Archive(settings.archive)
    assert archive.count_closing_records("daily-2025-11-30-1") == 0
    disk.free()

    execution, record = resume_dates(settings, "daily-2025-11-30-1")

    assert execution.status == "SUCCEEDED"
    assert record.outcome == "SKIPPED"
    assert archive.count_closing_records(record.run_id) == 1
    assert [event["id"] for event in archive.history(record.run_id)] == list(range(1, len(execution.events) + 1))


def test_closed_run_with_full_disk_has_ended(machine: Machine, home: Path, disks: Disks) -> None:
    # With this input, the third page of the journal is full after the last job has started, before its end is written.
    settings = load_settings("local", {"title": "x" * 360})
    disk = disks.mount(home / "executions")
    (disk.path / "local").mkdir()
    disk.fill(leave=12_288)
    with pytest.raises(StorageError, match="its disk is full"):
        run(settings)
    disk.free()
    assert Archive(settings.archive).run("daily-2025-11-30-1").outcome == "SKIPPED"
    with pytest.raises(UsageError, match="has ended as SKIPPED"):
        resume_dates(settings, "daily-2025-11-30-1")
