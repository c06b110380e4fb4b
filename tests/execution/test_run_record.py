"""Closing records of runs: how long runs usually take. What else stands in them is held where it is made."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from daybook.execution.run_record import close_run
from daybook.records.archive import Archive
from daybook.records.names import run_date_of
from daybook.settings import load_settings
from tests.sample_records import run_record

RUN = "daily-2025-11-30-1"


def good_runs(archive: Archive, lengths: dict[int, float], **said: Any) -> None:
    """Closed runs of so many days before the run's, of these lengths in seconds."""
    day = run_date_of(RUN)
    for back, seconds in lengths.items():
        run_date = day - timedelta(days=back)
        run_id = archive.start_run(run_date, {"env": "local"})
        archive.write_run(run_record(run_id, **{"seconds": seconds, **said}))


def test_a_run_is_told_how_long_those_of_the_four_weeks_before_usually_took(home: Path) -> None:
    archive = Archive(str(home / "archive"))
    good_runs(archive, {**{back: 60.0 + back for back in (1, 2, 3, 4, 5, 27, 28)}, 29: 1000.0})
    good_runs(archive, dict.fromkeys((6, 7, 8), 2000.0), outcome="FAILED")
    good_runs(archive, dict.fromkeys((9, 10, 11), 2000.0), part_of="backfill-1")
    archive.start_named_run(RUN, {"env": "local"})
    assert close_run(archive, load_settings("local"), RUN, "FAILED", []).usual_seconds == 64.0


def test_too_few_runs_say_nothing_of_what_is_usual_and_a_day_of_a_backfill_is_not_held_to_it(home: Path) -> None:
    archive = Archive(str(home / "archive"))
    good_runs(archive, dict.fromkeys(range(1, 7), 60.0))
    archive.start_named_run(RUN, {"env": "local"})
    assert close_run(archive, load_settings("local"), RUN, "FAILED", []).usual_seconds is None
    good_runs(archive, {7: 60.0})
    for number, said, usual in ((2, {}, 60.0), (3, {"part_of": "backfill-1"}, None)):
        run_id = RUN[:-1] + str(number)
        archive.start_named_run(run_id, {"env": "local", **said})
        assert close_run(archive, load_settings("local"), run_id, "FAILED", []).usual_seconds == usual
