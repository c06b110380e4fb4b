"""Test the errors of ``daybook resume`` for runs that cannot be resumed."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.cli import main
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.settings import load_settings
from tests.sample_records import run_record

DAY = date(2025, 11, 30)
FIRST, SECOND = "daily-2025-11-30-1", "daily-2025-11-30-2"


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(load_settings("local").archive)


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command and returns exit code and errors."""

    def call(run_id: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", "resume", run_id])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def end(archive: Archive, outcome: str) -> str:
    run_id = archive.start_run(DAY, {})
    archive.write_run(run_record(run_id, outcome))
    return run_id


@pytest.mark.parametrize("outcome", ["SUCCEEDED", "SKIPPED", "REJECTED"])
def test_run_with_a_final_outcome_is_not_resumed(archive: Archive, resume: Any, outcome: str) -> None:
    end(archive, outcome)
    again = f"run its date again with `daybook run --env local --date {DAY}`."
    assert resume(FIRST) == (2, f"The run {FIRST} has ended as {outcome}; {again}\n")


@pytest.mark.parametrize("then", ["FAILED", "SUCCEEDED", None])
def test_run_with_a_later_run_is_not_resumed(archive: Archive, resume: Any, then: str) -> None:
    end(archive, "FAILED")
    if then is None:
        archive.start_run(DAY, {})
    else:
        end(archive, then)
    message = (
        f"The date of {FIRST} has been run again as {SECOND}; resume that one, or start `daybook run --env local --date {DAY}`."
    )
    assert resume(FIRST) == (2, f"{message}\n")


def test_active_run_is_not_resumed(archive: Archive, resume: Any) -> None:
    run_id = archive.start_run(DAY, {})
    with DateLocks(archive.store.uri, [DAY]) as lock:
        lock.write_holder(run_id)
        code, error = resume(run_id)
    assert code == 1
    assert error.startswith(f"The run is under way: {FIRST} (process ")
    assert error.endswith("). Wait until it ends or stop it, then resume it.\n")
    assert error.count("\n") == 1


def test_run_is_not_resumed_while_its_date_is_locked(archive: Archive, resume: Any) -> None:
    end(archive, "FAILED")
    with DateLocks(archive.store.uri, [DAY]) as lock:
        lock.write_holder(SECOND)
        code, error = resume(FIRST)
    assert (code, error.split(" (")[0]) == (1, f"{DAY} is being run by {SECOND}")


def test_unknown_run_is_not_resumed(archive: Archive, resume: Any) -> None:
    assert resume(FIRST) == (2, f"There is no run {FIRST}; `daybook runs` lists them.\n")
