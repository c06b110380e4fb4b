"""Test that failed, lost and stopped runs can be resumed, and that two runs never process one date."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable

import pytest

from daybook.records.locks import find_lock_holder
from tests.runs.shop import DaybookHome, insert_into_last_cell, read_gross_revenue, run_command, write_tiny_landing

pytestmark = pytest.mark.slow
DEADLINE = 120.0
"""Timeout of waits in seconds, sufficient for a slow machine."""
COMMAND = [sys.executable, "-c", "from daybook.cli import main; main()"]
BREAK = """
import pathlib
if run_date == {day!r} and pathlib.Path({mark!r}).exists():
    raise ValueError("a broken notebook")
"""
WAIT = """
import pathlib, time
if run_date == {day!r} and not pathlib.Path({gate!r}).exists():
    pathlib.Path({mark!r}).touch()
    while not pathlib.Path({gate!r}).exists():
        time.sleep(0.01)
"""


def wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < until, f"{what} did not come in {DEADLINE:.0f} seconds"
        time.sleep(0.02)


@dataclass
class Desk:
    """A command line with the corner shop."""

    home: DaybookHome
    project: Path
    scratch: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, command: str, *arguments: str) -> tuple[int, str, str]:
        return run_command(self.monkeypatch, self.capsys, command, *arguments, "--env", "tiny")

    def land(self, day: str, *amounts: str) -> None:
        write_tiny_landing(self.home.path, day, list(amounts))

    def tried(self, run_id: str) -> list[tuple[str, int, str]]:
        attempts = self.home.archive("tiny").attempts(run_id)
        return [(each.stage, each.attempt, each.outcome) for each in attempts]

    def listed(self, run_id: str) -> dict[str, Any]:
        """Return the entry of a run in ``daybook runs``."""
        code, out, _ = self("runs", "--json")
        assert code == 0
        (found,) = [each for each in json.loads(out) if each["run_id"] == run_id]
        return dict(found)

    def gap(self, day: str) -> dict[str, Any]:
        """Return the entry of a date in ``daybook gaps``."""
        _, out, _ = self("gaps", "--json", "--since", day, "--until", day)
        (found,) = json.loads(out)["gaps"]
        return dict(found)

    def files(self, run_id: str) -> Counter[str]:
        archive = self.home.archive("tiny")
        return Counter(key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(run_id)))

    def broken(self, notebook: str, day: str) -> Path:
        """Make a notebook fail on a day while the returned file exists."""
        mark = self.scratch / "broken"
        mark.touch()
        insert_into_last_cell(self.project / "notebooks" / f"{notebook}.ipynb", BREAK.format(day=day, mark=str(mark)))
        return mark

    @contextmanager
    def stopped_in(self, notebook: str, day: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """Start ``daybook run`` in a new process group, whose notebook waits for a file."""
        mark, gate = self.scratch / f"mark-{day}", self.scratch / f"gate-{day}"
        code = WAIT.format(day=day, mark=str(mark), gate=str(gate))
        insert_into_last_cell(self.project / "notebooks" / f"{notebook}.ipynb", code)
        command = [*COMMAND, "run", "--env", "tiny", "--date", day]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as running:
            try:
                wait_until(lambda: mark.exists() or running.poll() is not None, f"{notebook} of {day}")
                assert mark.exists(), running.communicate()[0]
                yield running, gate
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
                gate.touch()

    def cut_off(self, notebook: str, day: str) -> None:
        """Run a day, and kill the runner's process group in the middle of a notebook."""
        with self.stopped_in(notebook, day) as (running, _):
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(DEADLINE)
            # Its jobs end by themselves, and lock the date until then.
            archive = self.home.settings("tiny").archive
            wait_until(lambda: find_lock_holder(archive, date.fromisoformat(day)) is None, "the end of all its processes")


@pytest.fixture
def desk(
    module_home: DaybookHome, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    return Desk(module_home, project, tmp_path, monkeypatch, capsys)


def test_run_resumes_from_the_fixed_failed_stage(desk: Desk) -> None:
    day, run_id = "2024-05-01", "daily-2024-05-01-1"
    desk.land(day, "10.00", "5.50")
    mark = desk.broken("3_transform", day)
    code, out, _ = desk("run", "--date", day)
    assert (code, read_gross_revenue(desk.home, "tiny", day)) == (1, None)
    assert f"`daybook resume --env tiny {run_id}`" in out

    mark.unlink()
    code, out, _ = desk("resume", run_id)

    assert code == 0, out
    assert read_gross_revenue(desk.home, "tiny", day) == Decimal("15.5")
    failed = [("transform", number, "FAILED") for number in (1, 2, 3, 4)]
    once = [(stage, 1, "SUCCEEDED") for stage in ("aggregate", "quality")]
    assert desk.tried(run_id) == [
        ("ingest", 1, "SUCCEEDED"),
        ("validate", 1, "SUCCEEDED"),
        *failed,
        ("transform", 5, "SUCCEEDED"),
        *once,
        ("notify", 1, "SUCCEEDED"),
        ("notify", 2, "SUCCEEDED"),
    ]
    names = {"run.json", "run.redrive-1.json", "history.jsonl", "history.redrive-1.jsonl"}
    assert names <= set(desk.files(run_id))
    assert desk.listed(run_id)["outcome"] == "SUCCEEDED"
    # Now the run is complete and cannot be resumed.
    code, _, output = desk("resume", run_id)
    assert (code, output.split(";")[0]) == (2, f"The run {run_id} has ended as SUCCEEDED")


def test_resume_sends_the_missing_message(desk: Desk) -> None:
    day, run_id = "2024-05-02", "daily-2024-05-02-1"
    desk.land(day, "7.00")
    mark = desk.broken("6_notify", day)
    code, out, _ = desk("run", "--date", day)
    assert code == 1
    assert "notify failed" in out
    # Published rows are unchanged.
    assert read_gross_revenue(desk.home, "tiny", day) == Decimal(7)

    mark.unlink()
    code, out, _ = desk("resume", run_id)

    assert code == 0, out
    assert desk.tried(run_id)[-5:] == [*(("notify", number, "FAILED") for number in (1, 2, 3, 4)), ("notify", 5, "SUCCEEDED")]
    assert Counter(stage for stage, _, _ in desk.tried(run_id))["quality"] == 1
    assert desk.listed(run_id)["outcome"] == "SUCCEEDED"


def test_lost_run_can_be_resumed(desk: Desk) -> None:
    day, run_id = "2024-05-03", "daily-2024-05-03-1"
    desk.land(day, "3.00")
    desk.cut_off("3_transform", day)

    entry = desk.listed(run_id)
    assert (entry["outcome"], entry["reasons"][0].split(":")[0]) == ("FAILED", "lost")
    gap = desk.gap(day)
    assert (gap["reason"], gap["newest_run"]) == ("failed", run_id)
    assert "lost" in gap["detail"]

    code, out, _ = desk("resume", run_id)

    assert code == 0, out
    assert read_gross_revenue(desk.home, "tiny", day) == Decimal(3)
    assert desk.tried(run_id) == [
        ("ingest", 1, "SUCCEEDED"),
        ("validate", 1, "SUCCEEDED"),
        ("transform", 1, "FAILED"),
        ("transform", 2, "SUCCEEDED"),
        ("aggregate", 1, "SUCCEEDED"),
        ("quality", 1, "SUCCEEDED"),
        ("notify", 1, "SUCCEEDED"),
    ]
    assert desk.listed(run_id)["outcome"] == "SUCCEEDED"


def test_next_run_of_the_date_closes_a_lost_run(desk: Desk) -> None:
    day, lost, next_run = "2024-05-04", "daily-2024-05-04-1", "daily-2024-05-04-2"
    desk.land(day, "4.00")
    desk.cut_off("1_ingest", day)
    assert "run.json" not in desk.files(lost)

    code, out, _ = desk("run", "--date", day)

    assert code == 0, out
    assert (desk.listed(next_run)["outcome"], read_gross_revenue(desk.home, "tiny", day)) == ("SUCCEEDED", Decimal(4))
    assert {"run.json", "history.jsonl"} <= set(desk.files(lost))
    entry = desk.listed(lost)
    assert (entry["outcome"], entry["reasons"][0].split(":")[0]) == ("FAILED", "lost")
    assert desk.tried(lost) == [("ingest", 1, "FAILED")]
    code, _, output = desk("resume", lost)
    assert (code, output.split(";")[0]) == (2, f"The date of {lost} has been run again as {next_run}")


def test_runs_lock_their_date_only(desk: Desk) -> None:
    day, other, run_id = "2024-05-05", "2024-05-06", "daily-2024-05-05-1"
    desk.land(day, "5.00")
    desk.land(other, "6.00")
    with desk.stopped_in("1_ingest", day) as (running, gate):
        assert desk.listed(run_id)["outcome"] == "RUNNING"
        code, _, output = desk("run", "--date", day)
        assert code == 1
        assert output.startswith(f"{day} is being run by {run_id} (process {running.pid} of ")
        assert output.count("\n") == 1
        code, _, output = desk("resume", run_id)
        assert (code, output.split(" (")[0]) == (1, f"The run is under way: {run_id}")
        code, out, _ = desk("run", "--date", other)
        assert code == 0, out
        gate.touch()
        out, _ = running.communicate(timeout=DEADLINE)
        assert running.returncode == 0, out
    assert [read_gross_revenue(desk.home, "tiny", each) for each in (day, other)] == [Decimal(5), Decimal(6)]
    # A refused command takes no run name.
    assert desk.home.archive("tiny").run_ids(date.fromisoformat(day)) == [run_id]


@pytest.mark.parametrize(
    ("name", "day"), [("SIGINT", "2024-05-07"), ("SIGTERM", "2024-05-08")], ids=["Ctrl-C", "a polite kill"]
)
def test_stopped_run_is_failed_and_can_be_resumed(desk: Desk, name: str, day: str) -> None:
    run_id = f"daily-{day}-1"
    desk.land(day, "8.00")
    with desk.stopped_in("2_validate", day) as (running, _):
        running.send_signal(getattr(signal, name))
        out, _ = running.communicate(timeout=DEADLINE)
        assert running.returncode == 1, out
        assert find_lock_holder(desk.home.settings("tiny").archive, date.fromisoformat(day)) is None
    assert f"`daybook resume --env tiny {run_id}`" in out
    entry = desk.listed(run_id)
    assert (entry["outcome"], entry["reasons"][0].split(",")[0]) == ("FAILED", "stopped before it ended")
    assert desk.tried(run_id) == [("ingest", 1, "SUCCEEDED"), ("validate", 1, "FAILED")]

    code, out, _ = desk("resume", run_id)

    assert code == 0, out
    assert desk.tried(run_id)[:3] == [("ingest", 1, "SUCCEEDED"), ("validate", 1, "FAILED"), ("validate", 2, "SUCCEEDED")]
    assert read_gross_revenue(desk.home, "tiny", day) == Decimal(8)
