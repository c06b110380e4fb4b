"""Test the usual duration in the closing record of a run, and what closing does to its leases."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import StorageError
from daybook.execution.run_record import close_run
from daybook.records.archive import Archive
from daybook.records.names import run_date_of
from daybook.settings import load_settings
from tests.sample_records import run_record

RUN = "daily-2025-11-30-1"


def add_successful_runs(archive: Archive, lengths: dict[int, float], **facts: Any) -> None:
    """Add closed runs: ``lengths`` maps the number of days before the run to a duration in seconds."""
    day = run_date_of(RUN)
    for back, seconds in lengths.items():
        run_date = day - timedelta(days=back)
        run_id = archive.start_run(run_date, {"env": "local"})
        archive.write_run(run_record(run_id, **{"seconds": seconds, **facts}))


def test_usual_duration_is_the_median_of_four_weeks(home: Path) -> None:
    archive = Archive(str(home / "archive"))
    add_successful_runs(archive, {**{back: 60.0 + back for back in (1, 2, 3, 4, 5, 27, 28)}, 29: 1000.0})
    add_successful_runs(archive, dict.fromkeys((6, 7, 8), 2000.0), outcome="FAILED")
    add_successful_runs(archive, dict.fromkeys((9, 10, 11), 2000.0), part_of="backfill-1")
    archive.start_named_run(RUN, {"env": "local"})
    assert close_run(archive, load_settings("local"), RUN, "FAILED", []).usual_seconds == 64.0


def test_no_usual_duration_with_few_runs_or_in_a_backfill(home: Path) -> None:
    archive = Archive(str(home / "archive"))
    add_successful_runs(archive, dict.fromkeys(range(1, 7), 60.0))
    archive.start_named_run(RUN, {"env": "local"})
    assert close_run(archive, load_settings("local"), RUN, "FAILED", []).usual_seconds is None
    add_successful_runs(archive, {7: 60.0})
    for number, facts, usual in ((2, {}, 60.0), (3, {"part_of": "backfill-1"}, None)):
        run_id = RUN[:-1] + str(number)
        archive.start_named_run(run_id, {"env": "local", **facts})
        assert close_run(archive, load_settings("local"), run_id, "FAILED", []).usual_seconds == usual


def test_lease_that_cannot_be_released_is_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released: list[Any] = []

    def refuse(lake: str, run_id: str, dates: list[date]) -> None:
        released.append((lake, run_id, dates))
        raise StorageError("s3://lake/leases could not be written: permission is denied.")

    monkeypatch.setattr("daybook.execution.run_record.release_dates", refuse)
    archive, settings = Archive(str(home / "archive")), load_settings("local")
    archive.start_named_run(RUN, {"env": "local"})
    close_run(archive, settings, RUN, "FAILED", [])
    assert archive.run(RUN).state == "closed"
    assert released == [(settings.lake, RUN, [date(2025, 11, 30)])]
    assert "leases of its dates were not released and will expire: s3://lake/leases could not" in caplog.text
