"""Test the halves of a range that failed as a whole."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Optional

import pytest

from daybook.execution.halves import MAX_SPLITS, find_date_outcomes, plan_halves, write_range_outcome
from daybook.records.archive import Archive
from daybook.records.names import format_range_id
from daybook.records.notifications import PERMANENT_FAILURE
from tests.range_records import add_range, close_range

FIRST = date(2025, 11, 1)
FAULT = json.dumps({"State": "Transform", "Error": "States.TaskFailed", "Cause": "memory"})


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


def halves(archive: Archive, days: int, failure: str = FAULT, splits: int = 0) -> list[tuple[str, Optional[str], str]]:
    run_id = format_range_id(FIRST, FIRST + timedelta(days=days - 1), 1)
    planned = plan_halves(archive, run_id, failure=failure, splits=splits)
    return [(str(each.run_date), each.until and str(each.until), each.run_id) for each in planned]


def test_halves_cover_the_range(archive: Archive) -> None:
    assert halves(archive, 30) == [
        ("2025-11-01", "2025-11-15", "range-2025-11-01-2025-11-15-1"),
        ("2025-11-16", "2025-11-30", "range-2025-11-16-2025-11-30-1"),
    ]


def test_first_half_has_the_odd_date(archive: Archive) -> None:
    assert [each[:2] for each in halves(archive, 3)] == [("2025-11-01", "2025-11-02"), ("2025-11-03", None)]


def test_half_of_one_date_is_a_run_of_that_date(archive: Archive) -> None:
    archive.start_range(FIRST, FIRST + timedelta(days=1), {})
    assert halves(archive, 2) == [
        ("2025-11-01", None, "daily-2025-11-01-3"),
        ("2025-11-02", None, "daily-2025-11-02-3"),
    ]
    planned = plan_halves(archive, "range-2025-11-01-2025-11-02-1", failure=FAULT, splits=0)
    assert "until" not in planned[0].to_json()


def test_half_gets_the_next_free_id(archive: Archive) -> None:
    archive.start_range(FIRST, FIRST + timedelta(days=14), {})
    assert halves(archive, 30)[0][2] == "range-2025-11-01-2025-11-15-2"


@pytest.mark.parametrize(
    "failure, splits",
    [("null", 0), (json.dumps({"Error": PERMANENT_FAILURE, "Cause": "no file"}), 0), (FAULT, MAX_SPLITS)],
    ids=["no fault of a stage", "permanent", "halved five times"],
)
def test_range_is_not_halved(archive: Archive, failure: str, splits: int) -> None:
    assert halves(archive, 30, failure, splits) == []


def test_month_is_halved_to_single_dates_in_five_times(archive: Archive) -> None:
    days = 31
    for _ in range(MAX_SPLITS):
        days = (days + 1) // 2
    assert days == 1


def test_run_of_one_date_is_not_halved(archive: Archive) -> None:
    assert plan_halves(archive, "daily-2025-11-01-1", failure=FAULT, splits=0) == []


def test_outcome_file_is_what_the_state_machine_reads(archive: Archive) -> None:
    run_id = archive.start_range(FIRST, FIRST + timedelta(days=1), {})
    record = close_range(archive, run_id, {"2025-11-02": ("validate", "REJECTED")})
    write_range_outcome(archive, record, [])
    content = json.loads(archive.store.read(f"outcomes/{run_id}/range.json"))
    assert content == {"outcome": "REJECTED", "reasons": record.reasons, "first_stage": "ingest", "halves": []}


def test_dates_of_halves_replace_those_of_their_range(archive: Archive) -> None:
    last = FIRST + timedelta(days=2)
    run_id = archive.start_range(FIRST, last, {})
    first_half = add_range(archive, FIRST, FIRST + timedelta(days=1), {"2025-11-01": ("validate", "REJECTED")})
    ends = {f"2025-11-0{day}": ("transform", "FAILED") for day in (1, 2, 3)}
    record = close_range(archive, run_id, ends, halves=[first_half, "daily-2025-11-03-9"])
    found = find_date_outcomes(archive, record)
    assert {day: (each.run_id, each.outcome) for day, each in found.items()} == {
        "2025-11-01": ("daily-2025-11-01-3", "REJECTED"),
        "2025-11-02": ("daily-2025-11-02-3", "SUCCEEDED"),
        # The second half did not start.
        "2025-11-03": ("daily-2025-11-03-2", "FAILED"),
    }
    assert archive.list_halves(run_id) == [first_half, "daily-2025-11-03-9"]
