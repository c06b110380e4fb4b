"""Test the table, the JSON and the exit code of ``daybook status`` on an archive with made-up records."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Callable

import pytest

from daybook.contracts import load_tables
from daybook.records.archive import Archive, serialize_record
from daybook.settings import load_settings
from tests.conftest import Project

Call = Callable[..., tuple[int, str, str]]
GOLD = list(load_tables("gold"))


@pytest.fixture
def archive(home: Path, project: Project) -> Archive:
    """Return the archive of a shop whose calendar begins with November."""
    project.replace("params/sources/demo.yaml", "first: 2025-10-02", "first: 2025-11-01")
    return Archive(load_settings("local").archive)


def add_run(archive: Archive, day: str, outcome: str = "SUCCEEDED", waiting: tuple[str, ...] = ()) -> None:
    """Add a run of a date, whose quality stage published all gold tables except those in ``waiting``.

    The stage ran on the day after the date, so that runs that are added within one clock tick have an order.
    """
    run_id = archive.start_run(date.fromisoformat(day), {"env": "local"})
    publications = {name: "waiting" if name in waiting else "published" for name in GOLD}
    started = f"{date.fromisoformat(day) + timedelta(days=1)}T02:00:00.000Z"
    quality: dict[str, Any] = {
        "stage": "quality",
        "outcome": outcome,
        "started_at": started,
        "ended_at": started,
        "tables_written": {},
        "details": {"publications": publications, "published_dates": [day]} if outcome == "SUCCEEDED" else {},
    }
    record = {"run_id": run_id, "run_date": day, "outcome": outcome, "started_at": started, "stages": [quality]}
    archive.store.create(f"{archive.folder(run_id)}/run.json", serialize_record(record))


def test_exit_code_is_0_if_all_latencies_hold(archive: Archive, call: Call) -> None:
    add_run(archive, "2025-11-01")
    add_run(archive, "2025-11-02")
    code, out, _ = call("status", "--at", "2025-11-03T09:30")
    assert code == 0
    (line,) = [each for each in out.splitlines() if each.startswith("gold.daily_sales")]
    assert line.split() == ["gold.daily_sales", "2025-11-02", "9.5", "24", "h", "in", "time"]
    assert out.endswith("All 7 tables meet their promised latency at 2025-11-03T09:30+01:00.\n")


def test_late_table_gives_exit_code_1_and_its_dates(archive: Archive, call: Call) -> None:
    add_run(archive, "2025-11-01")
    add_run(archive, "2025-11-02", waiting=("gold.customer_rfm",))
    code, out, _ = call("status", "--at", "2025-11-04T09:30")
    assert code == 1
    (line,) = [each for each in out.splitlines() if each.startswith("gold.customer_rfm")]
    assert line.split() == ["gold.customer_rfm", "2025-11-01", "57.5", "24", "h", "late", "late", "2025-11-02"]
    assert "1 of 7 tables exceed their promised latency at 2025-11-04T09:30+01:00; `daybook gaps --env local` shows why." in out


def test_json_separates_late_and_missing(archive: Archive, call: Call) -> None:
    for day, outcome in (("2025-11-01", "SUCCEEDED"), ("2025-11-02", "REJECTED"), ("2025-11-03", "SUCCEEDED")):
        add_run(archive, day, outcome)
    code, out, _ = call("status", "--json", "--at", "2025-11-06T00:00:00+01:00")
    printed = json.loads(out)
    assert (code, printed["timezone"], [each["table"] for each in printed["tables"]]) == (1, "Europe/Berlin", GOLD)
    assert printed["tables"][0] == {
        "table": GOLD[0],
        "newest": "2025-11-03",
        "hours_since": 48.0,
        "promised_hours": 24.0,
        "holds": False,
        "states": ["late", "missing"],
        "late": ["2025-11-04"],
        "missing": ["2025-11-02"],
        "ranges": {
            "late": [{"first": "2025-11-04", "last": "2025-11-04", "dates": 1}],
            "missing": [{"first": "2025-11-02", "last": "2025-11-02", "dates": 1}],
        },
    }


def test_dates_outside_the_calendar_are_not_due(archive: Archive, call: Call) -> None:
    """The demo shop's data ends with November."""
    for number in range(1, 31):
        add_run(archive, f"2025-11-{number:02d}")
    assert call("status")[0] == 0


def test_dates_before_the_first_run_are_missing(archive: Archive, call: Call) -> None:
    """The calendar begins with November."""
    add_run(archive, "2025-11-30")
    code, out, _ = call("status")
    assert code == 1
    (line,) = [each for each in out.splitlines() if each.startswith("gold.daily_sales")]
    assert line.rstrip().endswith("missing 2025-11-01 to 2025-11-29 (29 dates)")
    assert out.endswith("`daybook gaps --env local` shows why.\n")


def test_without_runs_everything_is_missing(home: Path, call: Call) -> None:
    code, out, _ = call("status")
    assert (code, out.count("missing 2025-10-02 to 2025-11-30 (60 dates)")) == (1, 7)
    assert not home.exists()


def test_consecutive_dates_are_shown_as_the_newest_ranges(archive: Archive, call: Call) -> None:
    for number in (1, 4, 6, 8, 10):
        add_run(archive, f"2025-11-{number:02d}")
    _, out, _ = call("status", "--at", "2025-11-16T00:00")
    (line,) = [each for each in out.splitlines() if each.startswith("gold.daily_sales")]
    assert line.rstrip().endswith(
        "late 2025-11-11 to 2025-11-14 (4 dates); missing 2 older dates, 2025-11-05, 2025-11-07, 2025-11-09"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2025-12-01", "2025-12-01T00:00:00+01:00"),
        ("2025-12-01T08:00:00Z", "2025-12-01T09:00:00+01:00"),
        ("2025-07-01T08:00", "2025-07-01T08:00:00+02:00"),
        ("2025-12-01T08:00-05:00", "2025-12-01T14:00:00+01:00"),
    ],
)
def test_time_without_offset_is_in_the_shops_time_zone(home: Path, call: Call, given: str, expected: str) -> None:
    assert json.loads(call("status", "--json", "--at", given)[1])["at"] == expected


def test_invalid_time_is_refused(home: Path, call: Call) -> None:
    assert call("status", "--at", "soon") == (
        2,
        "",
        "--at soon is not a point in time; write it in ISO 8601, for example 2025-12-01T09:00.\n",
    )
