"""Calculate what a run costs on AWS: usage times prices, in decimals.

Counted are the seconds of Glue jobs, the transitions of Step Functions and the requests to S3 that Daybook makes. Those of
delta-rs, which reads and writes the tables, cannot be counted here; a cost names them as not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daybook.errors import ParamsError
from daybook.records.history import list_jobs
from daybook.records.models import (
    AttemptRecord,
    CostLine,
    ExecutionTransitions,
    JobCost,
    PriceTable,
    RunCost,
    RunRecord,
)
from daybook.records.names import STAGES
from daybook.records.shares import AMOUNT_QUANTUM, sum_amounts
from daybook.settings import format_validation_error, list_files, project_root, read_yaml, require_name

SMALLEST_DPU = Decimal("0.0625")
"""Data processing units of a job unless the deployment sets others (``Dpu`` in infra/pipeline.yaml)."""
MEASURED: Literal["measured"] = "measured"
ESTIMATED: Literal["estimated"] = "estimated"
TABLE_REQUESTS = "requests to S3 of delta-rs, which reads and writes tables"
ALL_REQUESTS = "requests to S3"

_FIXED_TRANSITIONS = 5
"""States of the daily machine that every execution enters besides its stages: Start, Begin, Notify, Outcome and the end."""
_TRANSITIONS_PER_STAGE = 4
"""States of a stage that ends well: job, end, read the outcome, choose by the outcome. A job that fails goes to Notify."""
_REMAINING_TRANSITIONS = 2
"""States that an execution still enters when its notify job reads its history: Outcome and the end."""


class Prices(BaseModel):
    """A file of ``params/prices/``: prices of AWS in ``currency``. None: not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    as_of: date = Field(description="The date of these prices.")
    glue_dpu_hour: Optional[Decimal] = Field(default=None, ge=0)
    glue_least_seconds: int = Field(default=60, ge=0, description="Minimum seconds that a job is billed.")
    states_thousand_transitions: Optional[Decimal] = Field(default=None, ge=0)
    s3_thousand_writes: Optional[Decimal] = Field(default=None, ge=0)
    s3_thousand_reads: Optional[Decimal] = Field(default=None, ge=0)


@dataclass(frozen=True)
class JobUsage:
    """One job of a stage: its seconds on Glue and its data processing units. ``under_way``: it has not ended."""

    stage: str
    attempt: int
    seconds: int
    dpu: Decimal = SMALLEST_DPU
    under_way: bool = False


@dataclass(frozen=True)
class ExecutionUsage:
    """The usage of one execution, as far as it is known. ``execution`` is its ARN; empty for an estimate."""

    jobs: Sequence[JobUsage]
    transitions: int
    execution: str = ""


def list_price_tables() -> list[str]:
    """Return the names of the price tables: files in ``params/prices/``, without .yaml."""
    return [path.stem for path in list_files(project_root() / "params" / "prices", "*.yaml")]


def load_prices(name: str) -> Prices:
    """Read ``params/prices/<name>.yaml``. Raises ``ParamsError`` with file, key and allowed values."""
    path = project_root() / "params" / "prices" / f"{require_name(name, 'a price table')}.yaml"
    if not path.is_file():
        known = ", ".join(list_price_tables()) or "none"
        raise ParamsError(f"There is no params/prices/{name}.yaml; the price tables are: {known}.")
    try:
        return Prices(**read_yaml(path))
    except ValidationError as error:
        raise ParamsError(format_validation_error(error, f"params/prices/{name}.yaml", list(Prices.model_fields))) from None


def usage_from_history(events: Iterable[Mapping[str, Any]], now: datetime, execution: str) -> ExecutionUsage:
    """Return the usage of an execution of the daily machine, from its history in the format of Step Functions.

    The seconds and units of an ended job are its ``ExecutionTime`` and ``MaxCapacity``. A job without that description (the
    state timed out) counts from its start to its end, a job that has not ended until ``now``.
    """
    events = list(events)
    transitions = scheduled = 0
    for event in events:
        if event["type"].endswith("StateEntered"):
            transitions, scheduled = transitions + 1, 0
        elif event["type"] == "TaskScheduled":
            # A retry is a transition of its own.
            transitions, scheduled = transitions + (scheduled > 0), scheduled + 1
    jobs, found = [], list_jobs(events)
    for job in found:
        if job.ended_at is None and job is not found[-1]:
            continue  # Its execution was stopped and redriven; nothing says how long it ran.
        seconds = job.description.get("ExecutionTime")
        if seconds is None:
            seconds = max(0, math.ceil(((job.ended_at or now) - job.scheduled_at).total_seconds()))
        dpu = Decimal(str(job.description.get("MaxCapacity") or SMALLEST_DPU))
        jobs.append(JobUsage(job.stage, job.attempt, int(seconds), dpu, under_way=job.ended_at is None))
    if jobs and jobs[-1].under_way:
        transitions += _REMAINING_TRANSITIONS
    return ExecutionUsage(jobs, transitions, execution)


def estimate_usage(attempts: Sequence[AttemptRecord]) -> ExecutionUsage:
    """Return the usage of a run on AWS if its attempts took as long there as here, with the smallest jobs."""
    jobs = [JobUsage(each.stage, each.attempt, math.ceil(each.seconds or 0.0)) for each in attempts]
    transitions = _FIXED_TRANSITIONS
    for stage in STAGES:
        own = [each for each in attempts if each.stage == stage]
        if own:
            retries = len(own) - 1
            # A permanent failure leaves an outcome, which the state machine reads like a good one.
            caught = own[-1].outcome == "FAILED" and not own[-1].permanent
            states = 0 if stage == STAGES[-1] else 1 if caught else _TRANSITIONS_PER_STAGE
            transitions += states + retries
    return ExecutionUsage(jobs, transitions)


def calculate_cost(
    use: ExecutionUsage, attempts: Sequence[AttemptRecord], prices: Prices, before: Optional[RunCost] = None
) -> RunCost:
    """Return the cost of a run.

    Parameters
    ----------
    use
        The usage of the execution, measured or estimated.
    attempts
        The run's attempts, which counted their requests to buckets.
    prices
        The price table.
    before
        The cost in the run's previous record, if it was resumed: the usage of other executions stays.
    """
    jobs = [_job_cost(each, use.execution, prices) for each in use.jobs]
    executions = [ExecutionTransitions(execution=use.execution, transitions=use.transitions)]
    if use.execution and before and before.basis == MEASURED:
        jobs = [each for each in before.jobs if each.execution != use.execution] + jobs
        executions = [each for each in before.executions if each.execution != use.execution] + executions
    transitions = _cost_line(sum(each.transitions for each in executions), prices.states_thousand_transitions)
    requests = {kind: sum(each.requests.get(kind, 0) for each in attempts) for kind in ("writes", "reads")}
    # Requests to folders are not counted; that does not mean that buckets would have had none.
    counted = any(requests.values())
    writes = _cost_line(requests["writes"] if counted else None, prices.s3_thousand_writes)
    reads = _cost_line(requests["reads"] if counted else None, prices.s3_thousand_reads)
    known = {
        "AWS Glue": prices.glue_dpu_hour,
        "Step Functions": prices.states_thousand_transitions,
        "writing requests to S3": prices.s3_thousand_writes,
        "reading requests to S3": prices.s3_thousand_reads,
    }
    unknown = [f"{name}, whose price is not in the table" for name, price in known.items() if price is None]
    cost = RunCost(
        basis=MEASURED if use.execution else ESTIMATED,
        currency=prices.currency,
        prices=PriceTable(region=prices.region, as_of=prices.as_of.isoformat()),
        jobs=jobs,
        executions=executions,
        transitions=transitions,
        writes=writes,
        reads=reads,
        not_counted=[*unknown, TABLE_REQUESTS if counted else ALL_REQUESTS],
    )
    return cost.changed(total=format(sum_amounts(cost), "f"))


@dataclass(frozen=True)
class CostSummary:
    """The costs of many runs, in one currency."""

    currency: str
    by_date: Mapping[str, Mapping[str, Decimal]]
    """Cost by business date and part (``COST_PARTS``)."""
    by_stage: Mapping[str, Decimal]
    """Cost by part."""
    total: Decimal
    runs: int
    runs_without_cost: Sequence[str]
    """Runs without a cost on record."""
    prices: tuple[str, ...]
    """The price tables: ``us-east-1 as of 2026-06-30``."""
    bases: tuple[str, ...]
    not_counted: Sequence[str]


def cost_as_single_runs(runs: Iterable[RunRecord], prices: Prices) -> Decimal:
    """Return what date runs of ranges would have cost at least, had each been a run of its own, without requests to S3.

    Such a run has the date's share of the range's seconds at least, and a job is billed ``glue_least_seconds`` at least.
    """
    return sum((Decimal(calculate_cost(estimate_usage(each.stages), [], prices).total) for each in runs), Decimal(0))


COST_PARTS = (*STAGES, "states", "requests")
"""The parts of a run's cost: its stages' jobs, the state machine, requests to S3."""


def cost_by_part(cost: RunCost) -> dict[str, Decimal]:
    """Return a run's cost by part, without parts that were not used or whose price is not known."""
    lines = [("states", cost.transitions), ("requests", cost.writes), ("requests", cost.reads)]
    amounts = [(job.stage, job.amount) for job in cost.jobs] + [(part, line.amount) for part, line in lines]
    return _sum_by_part((part, Decimal(amount)) for part, amount in amounts if amount is not None)


def sum_costs(runs: Sequence[RunRecord]) -> list[CostSummary]:
    """Return the sums of the runs' costs, one for each currency; one without a currency if no run has a cost."""
    without = [each.run_id for each in runs if not each.cost]
    counted = [(each.run_date.isoformat(), each.cost) for each in runs if each.cost]
    sums = []
    for currency in sorted({cost.currency for _, cost in counted}) or [""]:
        own = [(day, cost) for day, cost in counted if cost.currency == currency]
        by_date: dict[str, dict[str, Decimal]] = {}
        for day, cost in own:
            by_date[day] = _sum_by_part([*by_date.get(day, {}).items(), *cost_by_part(cost).items()])
        by_stage = _sum_by_part(each for costs_of_day in by_date.values() for each in costs_of_day.items())
        costs = [cost for _, cost in own]
        sums.append(
            CostSummary(
                currency=currency,
                by_date=dict(sorted(by_date.items())),
                by_stage={part: by_stage[part] for part in COST_PARTS if part in by_stage},
                total=sum((Decimal(each.total) for each in costs), Decimal(0)),
                runs=len(own),
                runs_without_cost=without,
                prices=tuple(sorted({f"{each.prices.region} as of {each.prices.as_of}" for each in costs})),
                bases=tuple(sorted({each.basis for each in costs})),
                not_counted=list(dict.fromkeys(name for each in costs for name in each.not_counted)),
            )
        )
    return sums


def _sum_by_part(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for part, amount in amounts:
        found[part] = found.get(part, Decimal(0)) + amount
    return found


def _job_cost(use: JobUsage, execution: str, prices: Prices) -> JobCost:
    seconds = max(prices.glue_least_seconds, use.seconds)
    return JobCost(
        stage=use.stage,
        attempt=use.attempt,
        seconds=seconds,
        dpu=str(use.dpu),
        amount=_calculate_amount(seconds * use.dpu, prices.glue_dpu_hour, 3600),
        **({"under_way": True} if use.under_way else {}),
        execution=execution,
    )


def _cost_line(count: Optional[int], thousand: Optional[Decimal]) -> CostLine:
    return CostLine(count=count, amount=_calculate_amount(count, thousand, 1000))


def _calculate_amount(number: Union[int, Decimal, None], price: Optional[Decimal], per: int) -> Optional[str]:
    """Return what a number of things costs, with the price of ``per`` things; None if one of them is not known."""
    if number is None or price is None:
        return None
    return format((number * price / per).quantize(AMOUNT_QUANTUM, rounding=ROUND_HALF_UP), "f")
