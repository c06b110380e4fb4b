"""Test the questions, errors, output and exit codes of ``daybook migrate``."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Callable

import pyarrow as pa
import pytest

from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.settings import load_settings
from tests.lake.tables import create_partitioned, landing_rows, read_rows, stored_partitions
from tests.lake.vacuuming import list_files
from tests.lake.writing import replace_date

Call = Callable[..., tuple[int, str, str]]
TABLE = "bronze.orders"
FIRST = date(2025, 11, 1)


@pytest.fixture
def lake(home: object) -> Lake:
    """Return a lake of an earlier release: a table with a partition for each of three dates."""
    lake = Lake(load_settings("local").lake, run_id="daily-2025-11-01-1")
    create_partitioned(lake, TABLE, pa.schema([("run_date", pa.date32()), ("value", pa.string())]))
    for number in range(3):
        replace_date(lake, TABLE, landing_rows("a"), FIRST + timedelta(days=number))
    return lake


def test_output_counts_files_per_table(lake: Lake, call: Call) -> None:
    before = read_rows(lake, TABLE)
    code, out, _ = call("migrate", "--yes")
    assert code == 0
    (line,) = [each for each in out.splitlines() if each.startswith(TABLE)]
    assert line.split()[:3] == [TABLE, "3", "1"]
    assert out.endswith("1 tables were converted; their earlier versions can be read until `daybook vacuum` removes them.\n")
    assert stored_partitions(lake, TABLE) == []
    assert read_rows(lake, TABLE) == before


def test_dry_run_reports_the_same_and_changes_nothing(lake: Lake, call: Call) -> None:
    before = list_files(lake.root)
    code, out, _ = call("migrate", "--dry-run")
    assert (code, "1 tables would be converted" in out) == (0, True)
    assert list_files(lake.root) == before


def test_json_has_files_and_bytes(lake: Lake, call: Call) -> None:
    printed = json.loads(call("migrate", "--json", "--dry-run")[1])
    (table,) = printed["tables"]
    assert (printed["dry_run"], printed["back"]) == (True, False)
    assert (table["table"], table["files_before"], table["files_after"]) == (TABLE, 3, 1)
    assert table["bytes"] > 0
    assert call("migrate", "--json")[0] == 2


def test_back_gives_partitions_again(lake: Lake, call: Call) -> None:
    before = read_rows(lake, TABLE)
    call("migrate", "--yes")
    assert call("migrate", "--back", "--yes")[0] == 0
    assert stored_partitions(lake, TABLE) == ["run_date"]
    assert read_rows(lake, TABLE) == before


def test_second_migration_has_nothing_to_do(lake: Lake, call: Call) -> None:
    call("migrate", "--yes")
    code, out, _ = call("migrate")
    assert (code, "0 tables were converted" in out) == (0, True)


def test_active_run_needs_while_running(lake: Lake, call: Call) -> None:
    archive = load_settings("local").archive
    run_id = Archive(archive).start_run(FIRST, {})
    with DateLocks(archive, [FIRST]) as lock:
        lock.write_holder(run_id)
        code, _, error = call("migrate", "--yes")
        assert (code, error.startswith(f"The run {run_id} has not ended, and `daybook migrate` changes")) == (2, True)
        assert call("migrate", "--dry-run")[0] == 0
        assert call("migrate", "--yes", "--while-running")[0] == 0
