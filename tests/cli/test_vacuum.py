"""Test the questions, errors, output and exit codes of ``daybook vacuum``."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Callable

import pytest

from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.settings import load_settings
from tests.lake.vacuuming import age_file, list_data_files, list_files, read_version, write_rows, write_run_record

Call = Callable[..., tuple[int, str, str]]
NOW = datetime.now(timezone.utc)
TABLE = "silver.orders"


@pytest.fixture
def lake(home: Path) -> Lake:
    """Return a lake with three versions, superseded 60 and 20 days ago and read by runs 65 and 25 days ago, and an orphan."""
    settings = load_settings("local")
    lake, archive = Lake(settings.lake, run_id="daily-2025-11-01-1"), Archive(settings.archive)
    for value, days in (("a", 100), ("b", 60), ("c", 20)):
        write_rows(lake, TABLE, value, days=days, now=NOW)
    write_run_record(archive, days=65, read={TABLE: 1}, now=NOW)
    write_run_record(archive, days=25, read={TABLE: 2}, now=NOW)
    age_file(Path(lake.uri(TABLE)) / "killed.parquet", 2, NOW)
    return lake


def test_output_counts_kept_and_removed_per_table(lake: Lake, call: Call) -> None:
    code, out, _ = call("vacuum", "--keep-days", "30", "--yes")
    assert code == 0
    (line,) = [each for each in out.splitlines() if each.startswith(TABLE)]
    assert line.split() == [TABLE, "2", "2", "0", "0.0"]
    assert out.endswith("2 files of 0.0 MB were removed; versions that runs of the last 30 days used are kept.\n")
    assert read_version(lake.uri(TABLE), 1) is None
    assert [len(read_version(lake.uri(TABLE), version) or []) for version in (2, 3)] == [1, 1]


def test_retention_days_of_the_deployment_are_used(lake: Lake, call: Call) -> None:
    assert json.loads(call("vacuum", "--json", "--dry-run")[1])["keep_days"] == 90
    printed = json.loads(call("vacuum", "--json", "--dry-run", "--set", "retention_days=40")[1])
    assert (printed["keep_days"], printed["tables"][0]["versions_kept"]) == (40, [2, 3])


def test_dry_run_reports_the_same_and_changes_nothing(lake: Lake, call: Call) -> None:
    before = list_files(lake.root)
    code, out, _ = call("vacuum", "--keep-days", "0", "--dry-run")
    assert (code, "3 files of 0.0 MB would be removed" in out) == (0, True)
    assert list_files(lake.root) == before


def test_json_has_bytes_and_versions(lake: Lake, call: Call) -> None:
    sizes = {name: (Path(lake.uri(TABLE)) / name).stat().st_size for name in list_data_files(lake.uri(TABLE))}
    printed = json.loads(call("vacuum", "--keep-days", "0", "--yes", "--json")[1])
    left = list_data_files(lake.uri(TABLE))
    assert printed["tables"] == [
        {
            "table": TABLE,
            "development": None,
            "versions_kept": [3],
            "versions_lost_before": [],
            "files": 3,
            "log_entries": 0,
            "bytes": sum(size for name, size in sizes.items() if name not in left),
        }
    ]
    assert (printed["dry_run"], printed["files"], printed["in_no_table"]) == (False, 3, {"files": 0, "bytes": 0})


def test_answer_no_changes_nothing(lake: Lake, call: Call) -> None:
    before = list_files(lake.root)
    code, _, _ = call("vacuum", "--keep-days", "0", answer="n")
    assert (code, list_files(lake.root)) == (1, before)
    assert call("vacuum", "--keep-days", "0", answer="y")[0] == 0
    assert list_files(lake.root) < before


def test_json_needs_yes_or_dry_run(lake: Lake, call: Call) -> None:
    assert call("vacuum", "--json") == (2, "", "--json cannot ask for confirmation; add --yes or --dry-run.\n")


def test_active_run_needs_while_running(lake: Lake, call: Call) -> None:
    archive = load_settings("local").archive
    run_id = Archive(archive).start_run(date(2025, 11, 2), {})
    with DateLocks(archive, [date(2025, 11, 2)]) as lock:
        lock.write_holder(run_id)
        code, _, error = call("vacuum", "--yes")
        assert (code, error.startswith(f"The run {run_id} has not ended, and `daybook vacuum` changes")) == (2, True)
        assert call("vacuum", "--dry-run")[0] == 0
        assert call("vacuum", "--yes", "--while-running")[0] == 0


def test_archive_without_runs_is_refused(lake: Lake, call: Call, tmp_path: Path) -> None:
    before = list_files(lake.root)
    code, _, error = call("vacuum", "--yes", "--set", f"archive={tmp_path / 'other'}")
    assert (code, "has no runs, so it is unknown which versions" in error) == (2, True)
    assert list_files(lake.root) == before


def test_second_vacuum_finds_the_same_kept_versions(lake: Lake, call: Call) -> None:
    assert call("vacuum", "--keep-days", "30", "--yes")[0] == 0
    printed = json.loads(call("vacuum", "--json", "--dry-run")[1])["tables"][0]
    assert (printed["versions_kept"], printed["versions_lost_before"], printed["files"]) == ([2, 3], [1], 0)
