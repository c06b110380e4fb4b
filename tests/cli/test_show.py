"""Test that ``daybook show`` names the run with the published figures, and unusual days of a backfill."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from daybook.records.archive import Archive
from daybook.records.models import PlannedDate, UnusualDay
from daybook.scheduling.backfills import BackfillPlan, close_backfill, start_backfill
from daybook.settings import load_settings
from tests.sample_records import run_record

Call = Callable[..., tuple[int, str, str]]
DAY = date(2025, 11, 30)


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(load_settings("local").archive)


def add_run(archive: Archive, outcome: str, part_of: Optional[str] = None) -> str:
    """Write a closed run of the date without attempts."""
    facts: dict[str, Any] = {"part_of": part_of} if part_of else {}
    run_id = archive.start_run(DAY, facts)
    values = {"seconds": 1.0, "summary": {"orders": 7}, "started_at": "2025-12-01T02:00:00.000Z"}
    archive.write_run(run_record(run_id, outcome, **values, **facts))
    return run_id


def test_failed_run_names_the_run_that_published(archive: Archive, call: Call) -> None:
    good, failed = add_run(archive, "SUCCEEDED"), add_run(archive, "FAILED")
    message = f"This run published nothing; readers see the figures that {good} published.\n"
    assert message in call("show", failed)[1]
    assert "published" not in call("show", good)[1]


def test_list_of_runs_has_figures_of_published_runs_only(archive: Archive, call: Call) -> None:
    add_run(archive, "SUCCEEDED")
    add_run(archive, "FAILED")
    code, out, _ = call("runs", "--json")
    assert (code, out.count('"summary": null'), out.count('"orders": 7')) == (0, 1, 1)


def test_unusual_day_of_a_backfill_is_noted(archive: Archive, call: Call) -> None:
    name = start_backfill(archive, BackfillPlan(DAY, DAY, (PlannedDate(run_date=DAY, run_id=f"daily-{DAY}-1"),)), {})
    run_id = add_run(archive, "SUCCEEDED", part_of=name)
    found = UnusualDay(run_date=DAY, severity="warning", warning="net revenue [low] is unusual")
    close_backfill(archive, name, unusual_days=[found])
    _, out, _ = call("show", run_id)
    assert f"Note: net revenue [low] is unusual (found by {name} after all its dates were published)" in out
