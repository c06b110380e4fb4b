"""Write made-up runs and backfills into an archive, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, Optional

from daybook.records.archive import Archive
from daybook.records.models import PlannedDate
from daybook.records.names import STAGES
from daybook.scheduling.backfills import BackfillPlan, start_backfill
from tests.sample_records import attempt_record, run_record

FIRST = date(2025, 11, 1)


def day(number: int) -> date:
    """Return a day of November 2025."""
    return FIRST + timedelta(days=number - 1)


def write_run_record(
    archive: Archive, run_id: str, outcome: str, *, stages: Optional[dict[str, str]] = None, **more: Any
) -> str:
    """Write the record of a run. ``stages`` maps stages to outcomes; by default they follow from the outcome."""
    if stages is None:
        last = {"SUCCEEDED": None, "SKIPPED": "ingest", "REJECTED": "validate", "FAILED": "transform"}[outcome]
        through = STAGES if last is None else STAGES[: STAGES.index(last)]
        stages = {**dict.fromkeys(through, "SUCCEEDED"), **({last: outcome} if last else {})}
    reasons = [] if outcome in ("SUCCEEDED", "SKIPPED") else [f"{run_id} came to {outcome}"]
    facts = {"started_at": "2025-12-01T00:00:00.000Z", "inputs": []}
    attempts = [attempt_record(stage, each, **facts) for stage, each in stages.items()]
    archive.write_run(run_record(run_id, outcome, **{"reasons": reasons, "stages": attempts, "seconds": 2.0, **more}))
    return run_id


def add_run(archive: Archive, number: int, outcome: str, *, part_of: Optional[str] = None, **more: Any) -> str:
    """Add a closed run of a day with the next id."""
    run_id = archive.start_run(day(number), {"part_of": part_of} if part_of else {})
    return write_run_record(archive, run_id, outcome, **more)


def run_backfill(archive: Archive, plan: BackfillPlan, outcomes: Iterable[str]) -> str:
    """Start a backfill, and end the runs of its first dates with these outcomes."""
    backfill_id = start_backfill(archive, plan, {})
    for planned, outcome in zip(plan.days, outcomes):
        archive.start_named_run(planned.run_id, {"part_of": backfill_id})
        write_run_record(archive, planned.run_id, outcome)
    return backfill_id


def build_plan(*numbers: int, **more: Any) -> BackfillPlan:
    """Return a plan of these days, each with its first run id."""
    days = tuple(PlannedDate(run_date=day(number), run_id=f"daily-{day(number)}-1") for number in numbers)
    return BackfillPlan(days[0].run_date, days[-1].run_date, days, **more)
