"""Test backfills on the command line with real state machines, job script and notebooks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import psutil
import pytest

from daybook.execution.local.runs import INTERRUPTED_REASON
from daybook.records.models import BackfillRecord
from daybook.scheduling.backfills import read_backfill, read_backfills
from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project, write_tiny_landing

pytestmark = pytest.mark.slow

COMMAND = """
import random
import daybook.execution.local.interpreter as interpreter
from daybook.cli import main

class NoWait(random.Random):
    def random(self):
        return 0.0

interpreter.Random = NoWait
main()
"""
"""The command, with retries without waiting."""
SIX_OF_NINE = ["1.00", "2.00", "3.00", *["n/a"] * 6]
MAY = ("backfill", "2024-05-01", "2024-05-05", "--yes", "--parallel", "2")


@pytest.fixture(scope="module", autouse=True)
def _in_project(module_home: DaybookHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    project = copy_project(tmp_path_factory.mktemp("backfill") / "project")
    add_tiny_shop(project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_PROJECT", str(project))
        yield


def daybook(*arguments: str) -> tuple[int, str]:
    """Run the command on the tiny shop to its end; return exit code and output."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments, "--env", "tiny"], capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def newest(home: DaybookHome) -> BackfillRecord:
    """Return the record of the newest backfill."""
    archive = home.archive("tiny")
    return read_backfills(archive)[-1]


def came_to(record: BackfillRecord) -> dict[str, str]:
    """Return outcomes by run."""
    return {each.run_id: each.outcome for each in record.results}


def spoil(home: DaybookHome, day: str) -> None:
    """Write a byte that is not UTF-8 into the date's file."""
    file = home.path / "landing" / f"{day}.csv"
    file.write_bytes(file.read_bytes().replace(b"A1", b"\xc4pfel"))


@pytest.fixture(scope="module")
def may(module_home: DaybookHome) -> tuple[int, str]:
    """Return a backfill of five dates: valid, closed, broken, rejected, valid."""
    for day in ("2024-05-01", "2024-05-03", "2024-05-05"):
        write_tiny_landing(module_home.path, day, ["10.00", "5.00"])
    spoil(module_home, "2024-05-03")
    write_tiny_landing(module_home.path, "2024-05-04", SIX_OF_NINE)
    return daybook(*MAY)


def test_each_date_has_its_own_outcome(module_home: DaybookHome, may: tuple[int, str]) -> None:
    code, out = may
    assert code == 1, out
    assert "2024-05-01 to 2024-05-05: 5 dates: 5 to run." in out
    assert "  2024-05: 01 02 03 04 05" in out
    record = newest(module_home)
    assert came_to(record) == {
        "daily-2024-05-01-2": "SUCCEEDED",
        "daily-2024-05-02-2": "SKIPPED",
        "daily-2024-05-03-2": "FAILED",
        "daily-2024-05-04-2": "REJECTED",
        "daily-2024-05-05-2": "SUCCEEDED",
    }
    output = " ".join(out.split())
    for run_id, outcome in came_to(record).items():
        assert f"{run_id[6:16]} {run_id} {outcome} " in output
    assert "ingest failed in cell 4 (attempt 1, not retried: the same input would fail again): FormatError:" in output
    assert "sales: 6 of 9 rows (66.7%) are rejected, more than 5.0%" in output
    assert "! daily-2024-05-03-2 FAILED " in output
    assert f"FAILED {record.backfill_id} in" in output
    assert "2 succeeded, 1 skipped, 1 rejected, 1 failed." in output


def test_backfill_sends_one_message(module_home: DaybookHome, may: tuple[int, str]) -> None:
    archive = module_home.archive("tiny")
    record = read_backfill(archive, "backfill-2024-05-01-2024-05-05-1")
    assert record.message.subject.startswith("Daybook tiny: backfill of 2024-05-01 to 2024-05-05: 2 succeeded")
    told = record.message.body.splitlines()
    assert told[3:] == ["", "What to do:", f"  daybook show {record.backfill_id} --env tiny"]
    for each in record.results:
        run = archive.run(each.run_id)
        assert run.part_of == record.backfill_id
        (notify,) = [attempt for attempt in run.stages if attempt.stage == "notify"]
        assert not {"message", "freshness_hours"} & set(notify.details.to_json())
        assert notify.details.run_outcome == each.outcome


def test_backfill_is_listed_and_shown(module_home: DaybookHome, may: tuple[int, str]) -> None:
    name = "backfill-2024-05-01-2024-05-05-1"
    code, out = daybook("backfills")
    assert (code, name in out, "2 succeeded, 1 skipped, 1 rejected, 1 failed" in out) == (0, True, True)
    code, out = daybook("show", name, "--json")
    assert (code, json.loads(out)["backfill_id"]) == (0, name)
    code, out = daybook("show", name)
    assert (code, "daily-2024-05-04-2" in out) == (0, True)


def test_repeated_backfill_runs_only_failed_dates(module_home: DaybookHome, may: tuple[int, str]) -> None:
    write_tiny_landing(module_home.path, "2024-05-03", ["10.00", "5.00"])

    code, out = daybook(*MAY)

    assert code == 3, out
    assert "5 dates: 2 to run; 3 omitted (already successful; --force runs them again)." in out
    assert came_to(newest(module_home)) == {"daily-2024-05-03-3": "SUCCEEDED", "daily-2024-05-04-3": "REJECTED"}


def test_backfill_from_a_later_stage_reads_no_landing(module_home: DaybookHome, may: tuple[int, str]) -> None:
    code, out = daybook("backfill", "2024-05-01", "2024-05-04", "--stages", "aggregate..", "--yes", "--parallel", "2")
    assert code == 0, out
    archive, record = module_home.archive("tiny"), newest(module_home)
    assert {run_id[:16]: outcome for run_id, outcome in came_to(record).items()}.keys() <= {
        "daily-2024-05-01",
        "daily-2024-05-03",
    }
    assert "daily-2024-05-01-3" in came_to(record)
    assert "omitted" in out
    for run_id in came_to(record):
        assert [each.stage for each in archive.attempts(run_id)] == ["aggregate", "quality", "notify"]


def test_backfill_can_stop_at_the_first_failure(module_home: DaybookHome) -> None:
    for day in ("2024-06-01", "2024-06-02"):
        write_tiny_landing(module_home.path, day, ["10.00"])
    spoil(module_home, "2024-06-01")
    code, out = daybook("backfill", "2024-06-01", "2024-06-03", "--yes", "--chunk", "day", "--parallel", "1", "--fail-fast")
    assert code == 1, out
    record = newest(module_home)
    assert list(came_to(record).values()) == ["FAILED", "NOT STARTED", "NOT STARTED"]
    assert "1 failed, 2 not started" in record.message.subject


def stop_after_the_first(signalled: signal.Signals, *arguments: str) -> tuple[int, str]:
    """Run the command, and send a signal after its first date. No process of it may remain."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, *arguments, "--env", "tiny"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " SUCCEEDED " in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signalled)
        rest, _ = process.communicate(timeout=60)
    assert family
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
    return process.returncode, "".join(lines) + rest


@pytest.mark.parametrize(
    ("signalled", "options"),
    [(signal.SIGINT, ("--parallel", "2")), (signal.SIGTERM, ("--parallel", "1", "--force"))],
    ids=["Ctrl-C, side by side", "killed politely, forced"],
)
def test_interrupted_backfill_continues_with_the_same_command(
    module_home: DaybookHome, signalled: signal.Signals, options: tuple[str, ...]
) -> None:
    archive = module_home.archive("tiny")
    days = ["2024-07-01", "2024-07-02", "2024-07-03"]
    for day in days:
        write_tiny_landing(module_home.path, day, ["10.00"])
    before = {day: len(archive.run_ids(date.fromisoformat(day))) for day in days}
    command = ("backfill", days[0], days[-1], "--yes", "--chunk", "day", *options)

    code, out = stop_after_the_first(signalled, *command)

    stopped = newest(module_home)
    assert code == 1, out
    assert (stopped.outcome, stopped.stopped) == ("FAILED", True)
    assert "Stopped; the same command continues it." in out
    assert all(each.run_id in out for each in stopped.results)
    done = {each.run_date: each.run_id for each in stopped.results if each.outcome == "SUCCEEDED"}
    assert 0 < len(done) < 3
    under_way = [each for each in stopped.results if each.outcome == "FAILED"]
    assert all(each.reason == INTERRUPTED_REASON for each in under_way)
    assert stopped.counts.get("NOT STARTED", 0) == 3 - len(done) - len(under_way)

    code, out = daybook(*command)

    assert code == 0, out
    assert f"Continues {stopped.backfill_id}" in out
    record = newest(module_home)
    assert record.counts == {"SUCCEEDED": 3}
    assert {each.run_date: each.run_id for each in record.results}.items() >= done.items()
    started_runs = {day: len(archive.run_ids(date.fromisoformat(day))) - before[day] for day in days}
    assert started_runs == {day: 1 + (day in [each.run_date.isoformat() for each in under_way]) for day in days}


def test_catch_up_fills_the_oldest_gaps(module_home: DaybookHome) -> None:
    for day in ("2024-08-01", "2024-08-02", "2024-08-03"):
        write_tiny_landing(module_home.path, day, ["10.00"])
    dates = ("--since", "2024-08-01", "--until", "2024-08-03")
    code, out = daybook("catch-up", *dates, "--limit", "2", "--yes")
    assert code == 0, out
    assert "3 gaps from 2024-08-01 to 2024-08-03; 2 to run:" in out
    record = newest(module_home)
    assert record.backfill_id == "catch-up-2024-08-01-2024-08-02-1"
    assert came_to(record) == {"daily-2024-08-01-2": "SUCCEEDED", "daily-2024-08-02-2": "SUCCEEDED"}
    code, out = daybook("gaps", *dates, "--json")
    gaps: Any = json.loads(out)["gaps"]
    assert (code, [gap["run_date"] for gap in gaps]) == (1, ["2024-08-03"])
