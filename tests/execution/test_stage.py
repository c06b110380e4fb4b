"""Test that each attempt of a stage is refused before anything is written, or has a record, even if it was killed."""

from __future__ import annotations

import errno
import json
import os
import re
import runpy
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path
from threading import Event
from typing import Any, Callable, Optional

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_output
from papermill.exceptions import PapermillExecutionError

import daybook
from daybook.errors import NotebookError, ParamsError, StorageError, UsageError
from daybook.execution.attempt import close_abandoned_attempts
from daybook.execution.run_record import close_run
from daybook.execution.stage import run_stage
from daybook.privacy import load_keys, run_values
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.fingerprint import compute_fingerprint
from daybook.records.names import RESULT_MIME, notebook_name
from daybook.report.site import build_site
from daybook.settings import load_settings
from tests.conftest import Disks, Killed, Killer, Project
from tests.runs.shop import run_command
from tests.small_notebooks import build_notebook

RUN = "daily-2025-11-30-1"


def test_unknown_parameter_is_refused_before_any_write(home: Path) -> None:
    with pytest.raises(NotebookError, match=r"1_ingest\.ipynb has no parameter 'speed'"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, extra={"speed": "fast"})
    assert not home.exists()


def test_unknown_stage_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="There is no stage 'digest'; the stages are: ingest, validate"):
        run_stage("digest", env="local", run_date="2025-11-30", run_id=RUN)


@pytest.mark.parametrize(
    "until, run_id",
    [
        ("2025-11-30", "daily-2025-11-01-1"),
        ("2025-11-29", "range-2025-11-01-2025-11-30-1"),
        (None, "range-2025-11-01-2025-11-30-1"),
    ],
)
def test_run_of_another_range_is_refused(home: Path, until: Optional[str], run_id: str) -> None:
    with pytest.raises(UsageError, match="is not a run of 2025-11-01"):
        run_stage("ingest", env="local", run_date="2025-11-01", until=until, run_id=run_id)


def test_run_of_another_date_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="is not a run of 2025-11-29"):
        run_stage("ingest", env="local", run_date="2025-11-29", run_id=RUN)


def claimed(archive: Archive, scratch: Path) -> None:
    archive.ensure_started(RUN)
    facts = {"parameters": {"env": "local"}, "scratch": str(scratch), "code": {"commit": "abc"}, "python": "3.9.0"}
    archive.claim_attempt(RUN, "ingest", facts)


def test_attempt_of_a_dead_process_keeps_its_partial_notebook(home: Path, tmp_path: Path) -> None:
    archive, settings = Archive(load_settings("local").archive), load_settings("local")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    partial = build_notebook()
    partial.cells[1].metadata["papermill"] = {"start_time": "2025-12-01T02:00:00", "status": "completed"}
    partial.cells[2].metadata["papermill"] = {"start_time": "2025-12-01T02:00:01", "status": "running"}
    partial.cells[2].outputs = [new_output("stream", name="stdout", text="so far")]
    nbformat.write(partial, scratch / "executed.ipynb")
    (scratch / "executed.cell").write_text("2")
    claimed(archive, scratch)

    (record,) = close_abandoned_attempts(archive, settings, RUN)

    assert record.outcome == "FAILED"
    assert record.failure.cell == 2
    assert record.failure.source == "print(env)"
    assert "killed" in record.failure.message
    assert (record.code.to_json(), record.python) == ({"commit": "abc"}, "3.9.0")
    stored = nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/1_ingest.attempt-1.ipynb").decode(), 4)
    assert stored.cells[2].outputs[0].text == "so far"
    assert stored.cells[2].metadata.papermill.status == "failed"
    assert not scratch.exists()


def test_attempt_of_a_lost_machine_gets_the_source_notebook(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "was-on-another-machine")

    (record,) = close_abandoned_attempts(archive, load_settings("local"), RUN)

    assert record.outcome == "FAILED"
    assert record.failure.cell is None
    stored = nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/1_ingest.attempt-1.ipynb").decode(), 4)
    assert stored.cells[0].source.startswith("# 1 · Ingest")


def test_abandoned_attempt_is_closed_without_its_notebook(home: Path, tmp_path: Path, project: Project) -> None:
    project.write("notebooks/1_ingest.ipynb", "<<<<<<< HEAD")
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")
    (record,) = close_abandoned_attempts(archive, load_settings("local"), RUN)
    assert (record.failure.exception, record.failure.cell) == ("JobDied", None)


def test_abandoned_attempts_are_closed_once(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")
    assert len(close_abandoned_attempts(archive, load_settings("local"), RUN)) == 1
    assert close_abandoned_attempts(archive, load_settings("local"), RUN) == []


def test_run_record_has_attempts_code_and_state_machine(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")

    close_run(archive, load_settings("local"), RUN, "FAILED", ["because"])

    record = json.loads(archive.store.read(f"{archive.folder(RUN)}/run.json"))
    assert (record["outcome"], record["reasons"]) == ("FAILED", ["because"])
    assert [each["stage"] for each in record["stages"]] == ["ingest"]
    assert record["state_machine"]["file"] == "daily.asl.json"
    assert len(record["code"]["lock_sha256"]) == 64
    assert record["fingerprint"] == compute_fingerprint(load_settings("local"))


def test_secret_is_refused_before_any_write(home: Path) -> None:
    with pytest.raises(ParamsError, match="looks like a secret"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, overrides={"db_password": "hunter2"})
    with pytest.raises(NotebookError, match="looks like a secret"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, extra={"db_password": "hunter2"})
    assert not home.exists()


def leave_a_row_behind(home: Path, scratch: Path) -> Archive:
    """Leave an attempt that died after it printed the data of a customer."""
    landing = home / "landing" / "customers" / "2025-11-30"
    landing.mkdir(parents=True)
    columns = ("customer_id", "first_name", "last_name", "email", "phone", "street", "postal_code", "city", "state", "country")
    row = ("C-0009", "Zoë", "Kanarie", "zoe@example.com", "", "", "10115", "Berlin", "Berlin", "DE", "2025-11-30", "2025-11-30")
    (landing / "customers.csv").write_text(f"{','.join(columns)},registered_at,updated_at\n{','.join(row)}\n")
    scratch.mkdir()
    partial = build_notebook()
    partial.cells[2].metadata["papermill"] = {"start_time": "2025-12-01T02:00:01", "status": "running"}
    partial.cells[2].outputs = [new_output("stream", name="stdout", text=f"so far {row}")]
    nbformat.write(partial, scratch / "executed.ipynb")
    (scratch / "executed.cell").write_text("2")
    (scratch / "printed.txt").write_text(f"aborted at {row}\n")
    archive = Archive(load_settings("local").archive)
    claimed(archive, scratch)
    return archive


def everything_under(place: Path) -> str:
    return "".join(path.read_text() for path in sorted(place.rglob("*")) if path.is_file())


def test_partial_notebook_is_redacted_and_counted(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = leave_a_row_behind(home, tmp_path / "scratch")

    (record,) = close_abandoned_attempts(archive, load_settings("local"), RUN)

    archived = everything_under(home / "archive")
    assert "so far (" in archived
    assert "Kanarie" not in archived
    assert "zoe@" not in archived
    assert record.redactions == {"customer_id": 2, "email": 2, "first_name": 2, "last_name": 2, "postal_code": 2}
    assert "'[redacted:first_name]', '[redacted:last_name]', '[redacted:email]'" in capsys.readouterr().err


def test_environment_is_constant_while_tables_are_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs reads the environment in a thread. A concurrent change can crash the process, because getenv is not safe."""
    executing, same = Event(), []
    make = run_values.build_redactor

    def noting(*given: Any, **named: Any) -> Any:
        before = dict(os.environ)
        assert executing.wait(60)
        same.append(dict(os.environ) == before)
        return make(*given, **named)

    def execute(*_: Any, **__: Any) -> None:
        executing.set()
        raise RuntimeError("enough")

    monkeypatch.setattr("daybook.privacy.run_values.build_redactor", noting)
    monkeypatch.setattr("papermill.execute_notebook", execute)
    before = dict(os.environ)
    record = run_stage("transform", env="local", run_date="2025-11-30", run_id=RUN)
    assert "enough" in record.failure.message
    assert same[0]
    assert dict(os.environ) == before


def test_failed_redaction_archives_only_a_withheld_record(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = leave_a_row_behind(home, tmp_path / "scratch")

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the lake is away, with Kanarie")

    monkeypatch.setattr("daybook.privacy.run_values.build_redactor", fails)
    (record,) = close_abandoned_attempts(archive, load_settings("local"), RUN)
    close_run(archive, load_settings("local"), RUN, "FAILED", ["Kanarie did it"])

    names = {key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(RUN))}
    assert {"1_ingest.attempt-1.json", "run.json"} <= names
    assert not [name for name in names if name.endswith((".ipynb", ".html"))]
    assert (record.outcome, record.notebook, record.html) == ("FAILED", None, None)
    assert (record.failure.cell, record.withheld) == (2, "OSError")
    assert record.code.to_json() == {"commit": "abc"}
    printed = capsys.readouterr()
    assert "Kanarie" not in everything_under(home / "archive") + printed.out + printed.err
    run = archive.run(RUN)
    assert (run.outcome, run.reasons) == ("FAILED", ["withheld: the search for personal data failed (OSError)."])
    assert [each.stage for each in run.stages] == ["ingest"]
    moment = datetime(2025, 12, 1, tzinfo=timezone.utc)
    build_site(
        [run],
        out=home / "report",
        history_of=archive.history,
        title="Shop",
        archive_href=lambda run_id, file: f"{run_id}/{file}",
        now=moment,
    )
    assert "withheld" in everything_under(home / "report")


# Clock jumps


class JumpingClock:
    """A wall clock and a monotonic clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.count = 1_764_554_400.0, 1_000.0
        monkeypatch.setattr("daybook.records.archive.time.time", lambda: self.wall)
        monkeypatch.setattr("daybook.records.clock.monotonic_seconds", lambda: self.count)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.count += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    return JumpingClock(monkeypatch)


JUMPS = [-90_000, -3_600, -1, 0, 3_600, 90_000]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("last_saved", [0.0, 20.0])
def test_duration_of_a_killed_attempt_is_bounded(
    home: Path, tmp_path: Path, clock: JumpingClock, jump: float, last_saved: float
) -> None:
    archive, scratch = Archive(load_settings("local").archive), tmp_path / "scratch"
    scratch.mkdir()
    claimed(archive, scratch)
    started = clock.wall
    clock.pass_by(last_saved)
    clock.wall += jump
    nbformat.write(build_notebook(), scratch / "executed.ipynb")
    os.utime(scratch / "executed.ipynb", (clock.wall, clock.wall))
    clock.pass_by(10.0)

    (record,) = close_abandoned_attempts(archive, load_settings("local"), RUN)

    assert 0 <= record.seconds <= last_saved + 10
    assert parse_timestamp(record.started_at).timestamp() == started
    assert record.seconds == (parse_timestamp(record.ended_at) - parse_timestamp(record.started_at)).total_seconds()
    if jump == 0:
        assert record.seconds == last_saved


@pytest.mark.parametrize("jump", JUMPS)
def test_run_duration_ignores_clock_jumps(home: Path, tmp_path: Path, clock: JumpingClock, jump: float) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")
    clock.pass_by(30)
    clock.wall += jump
    clock.pass_by(12)

    record = close_run(archive, load_settings("local"), RUN, "FAILED", ["because"])

    assert record.seconds == 42
    assert archive.count_closing_records(RUN) == 1


# Full disks


def test_unwritable_claim_starts_no_kernel(home: Path, disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    disk = disks.mount(home / "archive")
    Archive(str(disk.path)).ensure_started(RUN)
    disk.read_only()
    with pytest.raises(StorageError, match=r"1_ingest\.attempt-1\.claim could not be written: it is read-only; make"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN)
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(RUN)]


def fake_papermill(action: Callable[[Path], None]) -> Callable[..., None]:
    """Return a replacement of papermill that calls ``action`` with the output path."""
    return lambda path, output, **_: action(Path(output))


def test_full_scratch_folder_is_recorded(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def saves_half(output: Path) -> None:
        output.write_text('{"cells": [{"cell_type": "code", "sou')
        raise OSError(errno.ENOSPC, "No space left on device", str(output))

    monkeypatch.setattr("papermill.execute_notebook", fake_papermill(saves_half))

    record = run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN)

    assert (record.outcome, record.failure.exception) == ("FAILED", "StorageError")
    message = record.failure.message
    assert message.startswith("The scratch folder ")
    assert message.endswith(" could not be written: its disk is full; free some space, then run it again.")
    archive = Archive(load_settings("local").archive)
    stored = nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/1_ingest.attempt-1.ipynb").decode(), 4)
    assert stored.metadata["daybook"]["failure"]["message"] == message


def test_output_on_a_full_disk_is_not_printed_unredacted(disks: Disks, tmp_path: Path) -> None:
    disk = disks.mount(tmp_path / "disk")
    disk.fill()
    script = (
        "import sys; from pathlib import Path; from daybook.execution.kernel import redirect_output\n"
        "with redirect_output(Path(sys.argv[1])):\n    print('Kanarie' * 10)\n"
        "print('after')\n"
    )
    command = [sys.executable, "-c", script, str(disk.path / "printed.txt")]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=buffered)
    assert (done.returncode, done.stdout, done.stderr) == (0, "after\n", "")


# Kill between two writes


def executes(path: str, output: str, **_: Any) -> None:
    """Replace papermill: write the executed notebook of notify without a kernel."""
    result = {
        "stage": "notify", "outcome": "SUCCEEDED", "reasons": [], "rows": {}, "tables_read": {}, "tables_written": {},
        "inputs": [], "engine": None, "peak_memory_bytes": 1,
        "details": {"run_outcome": "SKIPPED", "run_reasons": ["closed"], "summary": None},
    }  # fmt: skip
    executed = build_notebook()
    executed.cells[2].outputs = [new_output("display_data", data={RESULT_MIME: result})]
    nbformat.write(executed, output)


WRITTEN = ["started", "claim", "json", "ipynb", "html", "run.json", "openlineage.jsonl"]


@pytest.mark.parametrize("number", range(1, len(WRITTEN) + 1), ids=WRITTEN)
def test_run_killed_before_any_write_is_ended_by_a_retry(
    home: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", executes)
    archive, arguments = Archive(load_settings("local").archive), {"env": "local", "run_date": "2025-11-30", "run_id": RUN}
    load_keys(load_settings("local").pii_key)
    killer.aim(number)
    with pytest.raises(Killed):
        run_stage("notify", **arguments)
    killer.aim(None)

    written = WRITTEN[: number - 1]
    if "started" in written:
        record = archive.run(RUN)
        assert record.state == ("closed" if "run.json" in written else "lost")
        assert [each.attempt for each in record.stages] == ([1] if "json" in written else [])
        for each in record.stages:
            lost = [f"6_notify.attempt-1.{kind}" for kind in ("ipynb", "html") if kind not in written]
            assert each.missing == lost
        assert record.missing == (["openlineage.jsonl"] if "run.json" in written else [])
    else:
        assert archive.run_ids() == []
    for command in (["runs"], ["report"], *([["show", RUN]] if "started" in written else [])):
        code, out, err = run_command(monkeypatch, capsys, *command)
        assert (code, err) == (0, "")
        if command[0] == "show":
            assert ("never came into the archive" in out) == ("json" in written and "html" not in written)
    if "started" in written:
        page = (home / "report" / "runs" / f"{RUN}.html").read_text()
        linked = set(re.findall(r'href="[^"]*/([^/"]+\.(?:ipynb|html|json|jsonl))"', page)) - {"index.html"}
        there = {key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(RUN))}
        assert linked <= there, "the page links to a missing file"
        assert ("Not in the archive: 6_notify.attempt-1" in page) == ("json" in written and "html" not in written)

    record = run_stage("notify", **arguments)

    assert record.outcome == "SUCCEEDED"
    assert record.attempt == (2 if "claim" in written else 1)
    assert (archive.run(RUN).outcome, archive.run(RUN).reasons) == ("SKIPPED", ["closed"])
    assert [each.outcome for each in archive.run(RUN).stages][-1] == "SUCCEEDED"
    assert archive.start_run(date(2025, 11, 30), {}) == "daily-2025-11-30-2"


# Permanent failures


def failing(name: str, *, written: Optional[dict[str, int]] = None, message: str = "It went wrong.") -> Callable[..., None]:
    """Return a replacement of papermill whose cell raises an exception of this class after it wrote ``written``."""

    def execute(path: str, output: str, **_: Any) -> None:
        result = {"outcome": "FAILED", "reasons": [], "rows": {}, "tables_written": written or {}, "details": {}}
        executed = build_notebook()
        executed.cells[2].outputs = [
            new_output("display_data", data={RESULT_MIME: result}),
            new_output("error", ename=name, evalue=message, traceback=[]),
        ]
        nbformat.write(executed, output)
        raise PapermillExecutionError(2, 2, "print(env)", name, message, [])

    return execute


@pytest.mark.slow
def test_large_exception_is_cut_in_record_and_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    large = "bad row; " * 500_000
    monkeypatch.setattr("papermill.execute_notebook", failing("RuntimeError", message=large))
    message = job(monkeypatch, "ingest")
    assert message is not None
    archive = Archive(load_settings("local").archive)
    (record,) = archive.attempts(RUN)
    assert len(json.dumps(record.to_json())) < 5_000
    assert record.failure.message.startswith("bad row; bad row; ")
    assert "[left out: 4,4" in record.failure.message
    assert len(message) + len(capsys.readouterr().err) < 5_000


def outcome_of(stage: str) -> Optional[dict[str, Any]]:
    store = Archive(load_settings("local").archive).store
    key = f"outcomes/{RUN}/{stage}.json"
    return json.loads(store.read(key)) if store.exists(key) else None


@pytest.mark.parametrize(
    ("stage", "name", "written", "permanent"),
    [
        ("ingest", "MissingFileError", {}, True),
        ("validate", "ContractError", {"quarantine.orders": 3}, True),
        ("transform", "SqlError", {}, True),
        ("quality", "ContractError", {}, True),
        # The next attempt completes a publication that has begun.
        ("quality", "SqlError", {"gold.daily_sales": 3}, False),
        # The state machine learns from the exit code only that no message was sent.
        ("notify", "ContractError", {}, False),
        ("ingest", "LandingError", {}, False),
        ("transform", "EngineError", {}, False),
        ("transform", "RuntimeError", {}, False),
        ("aggregate", "StorageError", {}, False),
    ],
)
def test_only_permanent_failures_write_an_outcome(
    home: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str, written: dict[str, int], permanent: bool
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", failing(name, written=written))

    record = run_stage(stage, env="local", run_date="2025-11-30", run_id=RUN)

    assert (record.outcome, record.permanent, record.failure.permanent) == ("FAILED", permanent, permanent)
    archive = Archive(load_settings("local").archive)
    assert archive.attempts(RUN)[0].permanent is permanent
    page = archive.store.read(f"{archive.folder(RUN)}/{notebook_name(stage)}.attempt-1.html").decode()
    assert ("Not retried: the same input would fail again." in page) is permanent
    why = ", not retried: the same input would fail again"
    assert outcome_of(stage) == (
        {
            "schema_version": 1,
            "stage": stage,
            "attempt": 1,
            "outcome": "FAILED",
            "permanent": True,
            "reasons": [f"{stage} failed in cell 2 (attempt 1{why}): {name}: It went wrong."],
            "rows": {},
        }
        if permanent
        else None
    )


def test_dead_kernel_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr("papermill.execute_notebook", dies)
    record = run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN)
    assert (record.outcome, record.permanent, outcome_of("ingest")) == ("FAILED", False, None)


def test_withheld_record_stays_permanent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the lake is away")

    monkeypatch.setattr("papermill.execute_notebook", failing("MissingFileError"))
    monkeypatch.setattr("daybook.privacy.run_values.build_redactor", fails)
    record = run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN)
    assert (record.withheld, record.permanent, record.failure.permanent) == ("OSError", True, True)
    assert outcome_of("ingest") is not None


def job(monkeypatch: pytest.MonkeyPatch, stage: str, *arguments: str, run_id: str = RUN) -> Optional[str]:
    """Run the job script in this process; return its error if it exits with 1, else None."""
    script = Path(daybook.__file__).parents[1] / "glue_job.py"
    given = ["--env", "local", "--run_date", "2025-11-30", "--run_id", run_id, *arguments]
    monkeypatch.setattr(sys, "argv", [str(script), "--stage", stage, *given])
    try:
        runpy.run_path(str(script), run_name="glue_job")["main"]()
    except SystemExit as ended:
        return str(ended.code)
    return None


def test_job_ends_normally_after_a_permanent_failure(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", failing("MissingFileError"))
    assert job(monkeypatch, "ingest") is None
    assert capsys.readouterr().err.endswith("MissingFileError: It went wrong.\n")
    assert job(monkeypatch, "notify") == "MissingFileError: It went wrong."
    monkeypatch.setattr("papermill.execute_notebook", failing("RuntimeError"))
    assert job(monkeypatch, "ingest") == "RuntimeError: It went wrong."


def test_stage_that_cannot_start_writes_an_outcome(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = ("--overrides", json.dumps({"source": "nowhere"}))
    assert job(monkeypatch, "ingest", *unknown) is None
    message = capsys.readouterr().err.strip()
    assert message.startswith("SourceError: There is no params/sources/nowhere.yaml; ")
    outcome = outcome_of("ingest")
    assert outcome is not None
    assert (outcome["outcome"], outcome["permanent"], outcome["attempt"]) == ("FAILED", True, None)
    assert outcome["reasons"] == [f"ingest did not start (not retried: the same input would fail again): {message}"]
    assert Archive(load_settings("local").archive).run_ids() == []


@pytest.mark.parametrize(
    ("stage", "arguments", "run_id", "message"),
    [
        # If notify cannot start, no message is sent.
        ("notify", ("--overrides", '{"source": "nowhere"}'), RUN, "SourceError: There is no params/sources/nowhere.yaml"),
        # These settings have no archive.
        ("ingest", ("--overrides", '{"nothing": "1"}'), RUN, "ParamsError: --set nothing=1: there is no key"),
        ("ingest", (), "../daily", "UsageError: '../daily' is not a run's name"),
    ],
)
def test_job_fails_if_its_outcome_cannot_be_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, stage: str, arguments: tuple[str, ...], run_id: str, message: str
) -> None:
    assert (job(monkeypatch, stage, *arguments, run_id=run_id) or "").startswith(message)
    assert not home.exists()


def test_fault_before_the_notebook_is_retried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageError("The disk is full; free some space.")

    monkeypatch.setattr(Archive, "claim_attempt", full)
    assert (job(monkeypatch, "ingest") or "").startswith("StorageError: The disk is full")
    assert outcome_of("ingest") is None
