"""Test what a backfill is expected to take, from earlier runs that tests write."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from daybook.records.archive import Archive
from daybook.records.names import STAGES
from daybook.scheduling.backfills import plan_backfill
from daybook.scheduling.estimates import estimate_backfill
from daybook.settings import Settings, load_settings
from tests.range_records import add_range
from tests.sample_records import attempt_record, run_record
from tests.scheduling.backfilling import add_run, day


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings("local")


@pytest.fixture
def archive(settings: Settings) -> Archive:
    return Archive(settings.archive)


def test_without_earlier_runs_only_jobs_and_least_cost_are_known(settings: Settings) -> None:
    found = estimate_backfill(settings, plan_backfill(settings, day(1), day(30)), parallel=2)
    assert (found.jobs, found.jobs_by_date, found.seconds, found.peak_memory_bytes) == (6, 180, None, None)
    assert found.cost is not None and found.cost_by_date is not None
    # Six jobs of a minute at 1/16 DPU, and the transitions of one execution.
    assert Decimal("0.003") < found.cost < Decimal("0.004")
    assert found.cost_by_date == 30 * found.cost


def test_time_is_that_of_dates_of_earlier_ranges(settings: Settings, archive: Archive) -> None:
    add_range(archive, day(1), day(5))  # Six attempts of 10 seconds: 12 seconds for each date.
    plan = plan_backfill(settings, day(11), day(20), chunk="5")
    assert estimate_backfill(settings, plan, parallel=1).seconds == pytest.approx(120.0)
    assert estimate_backfill(settings, plan, parallel=2).seconds == pytest.approx(60.0)
    found = estimate_backfill(settings, plan, parallel=9)
    assert (found.seconds, found.from_ranges) == (pytest.approx(60.0), True)


def test_time_is_at_most_that_of_runs_of_one_date(settings: Settings, archive: Archive) -> None:
    stages = [attempt_record(stage, seconds=2.0, peak_memory_bytes=10**8) for stage in STAGES]
    archive.write_run(run_record(archive.start_run(day(1), {}), stages=stages))
    found = estimate_backfill(settings, plan_backfill(settings, day(11), day(20)), parallel=2)
    assert (found.seconds, found.peak_memory_bytes, found.from_ranges) == (120.0, 10**8, False)


def test_later_stages_have_fewer_jobs(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    plan = plan_backfill(settings, day(1), day(1), first_stage="aggregate")
    assert estimate_backfill(settings, plan, parallel=1).jobs == 3


def test_without_prices_there_is_no_cost(settings: Settings) -> None:
    found = estimate_backfill(settings.model_copy(update={"prices": None}), plan_backfill(settings, day(1), day(2)), parallel=1)
    assert (found.cost, found.cost_by_date, found.currency) == (None, None, "")
