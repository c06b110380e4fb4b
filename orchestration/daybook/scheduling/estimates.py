"""Estimate what a backfill takes, from the records of earlier runs: jobs, seconds, memory and cost on AWS."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Optional

from daybook.records.archive import Archive
from daybook.records.cost import calculate_cost, estimate_usage, load_prices
from daybook.records.models import AttemptRecord, PlannedRange, RunRecord
from daybook.records.names import STAGES
from daybook.scheduling.backfills import BackfillPlan
from daybook.settings import Settings

_MAX_RUNS = 28
"""Number of newest runs from whose records an estimate is made."""


@dataclass(frozen=True)
class BackfillEstimate:
    """What a backfill takes. Seconds and memory are None without an earlier run; the cost is None without a price table."""

    jobs: int
    seconds: Optional[float] = None
    peak_memory_bytes: Optional[int] = None
    from_ranges: bool = False
    """Whether earlier ranges are on record. Runs of one date take longer for each date, and need less memory."""
    cost: Optional[Decimal] = None
    cost_by_date: Optional[Decimal] = None
    """The cost if each date had a run of its own."""
    jobs_by_date: int = 0
    currency: str = ""


def estimate_backfill(settings: Settings, plan: BackfillPlan, *, parallel: int) -> BackfillEstimate:
    """Return what a plan takes, ``parallel`` runs at a time.

    Time and memory are those of the newest successful runs on record: of date runs of ranges if there are any, else of runs of
    one date. On AWS, a job is billed at least a minute, also if nothing is known of its time.
    """
    stages = STAGES[STAGES.index(plan.first_stage) :]
    jobs, jobs_by_date = len(plan.ranges) * len(stages), len(plan.days) * len(stages)
    single, in_range = _read_samples(Archive(settings.archive))
    alone = _stage_seconds(single, stages)
    shared = _stage_seconds(in_range, stages) or alone
    runs = [_expect_seconds(each, alone or shared, shared) for each in plan.ranges]
    sample = in_range or single
    memory = max((stage.peak_memory_bytes or 0 for run in sample for stage in run.stages), default=0)
    cost, currency = _estimate_cost(settings, runs, stages)
    by_date, _ = _estimate_cost(settings, [alone or shared] * len(plan.days), stages)
    whole = sum(sum(each.values()) for each in runs)
    longest = max((sum(each.values()) for each in runs), default=0.0)
    return BackfillEstimate(
        jobs=jobs,
        seconds=max(whole / max(min(parallel, len(runs)), 1), longest) if shared else None,
        peak_memory_bytes=memory or None,
        from_ranges=bool(in_range),
        cost=cost,
        cost_by_date=by_date,
        jobs_by_date=jobs_by_date,
        currency=currency,
    )


def _read_samples(archive: Archive) -> tuple[list[RunRecord], list[RunRecord]]:
    """Return the newest successful runs of one date, and date runs of ranges."""
    single: list[RunRecord] = []
    in_range: list[RunRecord] = []
    for run_id in archive.run_ids()[: -_MAX_RUNS - 1 : -1]:
        run = archive.run(run_id)
        if run.outcome == "SUCCEEDED":
            (in_range if run.range_id else single).append(run)
    return single, in_range


def _stage_seconds(runs: Iterable[RunRecord], stages: Sequence[str]) -> dict[str, float]:
    """Return the median seconds of each stage for a date; empty without runs."""
    attempts = [each for run in runs for each in run.stages if each.outcome == "SUCCEEDED" and each.seconds is not None]
    found = {stage: [each.seconds or 0.0 for each in attempts if each.stage == stage] for stage in stages}
    return {stage: median(seconds) for stage, seconds in found.items() if seconds}


def _expect_seconds(planned: PlannedRange, alone: Mapping[str, float], shared: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each stage of a planned run."""
    dates = len(planned.dates)
    return {stage: seconds * dates for stage, seconds in shared.items()} if dates > 1 else dict(alone)


def _estimate_cost(
    settings: Settings, runs: Sequence[Mapping[str, float]], stages: Sequence[str]
) -> tuple[Optional[Decimal], str]:
    """Return the cost of runs on AWS, given the seconds of their stages as far as they are known, and its currency."""
    if settings.prices is None:
        return None, ""
    prices, total = load_prices(settings.prices), Decimal(0)
    for seconds in runs:
        attempts = [
            AttemptRecord(stage=stage, outcome="SUCCEEDED", seconds=math.ceil(seconds.get(stage, 0.0))) for stage in stages
        ]
        total += Decimal(calculate_cost(estimate_usage(attempts), attempts, prices).total)
    return total, prices.currency
