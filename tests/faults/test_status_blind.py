"""Test that dates before the first run are reported as missing by each command and page."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any, Callable

import pytest

from daybook.cli import main
from daybook.contracts import load_tables
from daybook.records.archive import Archive
from daybook.settings import load_settings
from tests.conftest import Project
from tests.faults.conftest import add_deployment
from tests.sample_records import run_record

LAST = "2025-01-03"
Call = Callable[[str], tuple[int, str]]


@pytest.fixture
def archive(home: Path, project: Project) -> Archive:
    """Return the archive of a shop with a run for only the last of three dates."""
    add_deployment(project.root, "status_blind", "odd")
    archive = Archive(load_settings("odd").archive)
    run_id = archive.start_run(date.fromisoformat(LAST), {"env": "odd"})
    at = "2025-01-04T02:00:00.000Z"
    quality: dict[str, Any] = {"stage": "quality", "outcome": "SUCCEEDED", "started_at": at, "ended_at": at}
    quality.update(tables_written=dict.fromkeys(load_tables("gold"), 1), details={"published_dates": [LAST]})
    archive.write_run(run_record(run_id, started_at=at, ended_at=at, stages=[quality]))
    return archive


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call a command on the shop; return exit code and standard output."""

    def called(command: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", command, "--env", "odd"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return called


def test_status_reports_dates_before_the_first_run(archive: Archive, call: Call) -> None:
    code, out = call("status")
    assert code == 1
    assert out.count("missing 2025-01-01 to 2025-01-02 (2 dates)") == 7
    assert "7 of 7 tables exceed their promised latency" in out


def test_gaps_and_the_report_list_the_same_dates(archive: Archive, call: Call) -> None:
    code, out = call("gaps")
    assert (code, out.splitlines()[1].split("  ")[0]) == (1, "2025-01-01 to 2025-01-02 (2 dates)")
    _, index = call("report")
    page = Path(index.strip()).read_text(encoding="utf-8")
    assert "<li>2025-01-01 to 2025-01-02 (2 dates)</li>" in page
    assert page.count('title="2025-01-01: no run for this date"') == 1
