"""What a run costs on AWS: the price table, what was used, and the two multiplied, in decimals.

What is counted: Glue's seconds, Step Functions' transitions, and the requests to S3 that Daybook itself makes. Those of
delta-rs, which reads and writes the tables, nobody can count from here; they are named as not counted rather than guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daybook.errors import ParamsError
from daybook.records.archive import Record, parse_timestamp
from daybook.records.names import STAGES
from daybook.settings import format_validation_error, list_files, project_root, read_yaml, require_name

SMALLEST_DPU = Decimal("0.0625")
"""What a job gets unless the deployment says otherwise (``Dpu`` in infra/pipeline.yaml)."""
MEASURED, ESTIMATED = "measured", "estimated"
TABLE_REQUESTS = "requests to S3 of delta-rs, which reads and writes tables"
ALL_REQUESTS = "requests to S3"

_AMOUNT_QUANTUM = Decimal("0.00000001")
_FIXED_TRANSITIONS = 5
"""States of the daily machine that every execution enters besides its stages: Start, Begin, Notify, Outcome, and its end."""
_TRANSITIONS_PER_STAGE = 4
"""States of a stage that ends well: its job, its end, its outcome read, its outcome judged. A job that fails goes to Notify."""
_REMAINING_TRANSITIONS = 2
"""States that an execution still enters while its notify job looks at it: Outcome, and its end."""


class Prices(BaseModel):
    """A file of ``params/prices/``: what AWS asks for, in ``currency``. What is None is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    as_of: date = Field(description="The day on which these were AWS's prices.")
    glue_dpu_hour: Optional[Decimal] = Field(default=None, ge=0)
    glue_least_seconds: int = Field(default=60, ge=0, description="What a run of a job is billed at least.")
    states_thousand_transitions: Optional[Decimal] = Field(default=None, ge=0)
    s3_thousand_writes: Optional[Decimal] = Field(default=None, ge=0)
    s3_thousand_reads: Optional[Decimal] = Field(default=None, ge=0)


@dataclass(frozen=True)
class JobUsage:
    """One run of a stage's job: its seconds on Glue and its data processing units. ``under_way`` where it has not ended yet."""

    stage: str
    attempt: int
    seconds: int
    dpu: Decimal = SMALLEST_DPU
    under_way: bool = False


@dataclass(frozen=True)
class ExecutionUsage:
    """What one execution used, as far as it is known. ``execution`` is its ARN, or empty for an estimate."""

    jobs: Sequence[JobUsage]
    transitions: int
    execution: str = ""


def list_price_tables() -> list[str]:
    """The tables there are: names of files in ``params/prices/``, without .yaml."""
    return [path.stem for path in list_files(project_root() / "params" / "prices", "*.yaml")]


def load_prices(name: str) -> Prices:
    """Read ``params/prices/<name>.yaml``; ``ParamsError`` names the file, the key and what is allowed."""
    path = project_root() / "params" / "prices" / f"{require_name(name, 'a price table')}.yaml"
    if not path.is_file():
        known = ", ".join(list_price_tables()) or "none"
        raise ParamsError(f"There is no params/prices/{name}.yaml; the price tables are: {known}.")
    try:
        return Prices(**read_yaml(path))
    except ValidationError as error:
        raise ParamsError(format_validation_error(error, f"params/prices/{name}.yaml", list(Prices.model_fields))) from None


def usage_from_history(events: Iterable[Mapping[str, Any]], now: datetime, execution: str) -> ExecutionUsage:
    """What an execution of the daily machine has used, from its history as Step Functions tells it.

    A job run that has ended says its ``ExecutionTime`` and ``MaxCapacity``; one that has not is counted until ``now``, and one
    that left no description (the state's time was over) from its start to its end.
    """
    jobs: list[JobUsage] = []
    entered = transitions = 0
    open_job: Optional[tuple[str, int, datetime]] = None
    tries: dict[str, int] = {}
    for event in events:
        kind = event["type"]
        if kind.endswith("StateEntered"):
            transitions, entered = transitions + 1, 0
        elif kind == "TaskScheduled":
            # A retry is a transition of its own.
            transitions, entered = transitions + (entered > 0), entered + 1
            stage = _stage_of(event["taskScheduledEventDetails"])
            if stage:
                tries[stage] = tries.get(stage, 0) + 1
                open_job = (stage, tries[stage], parse_timestamp(event["timestamp"]))
        elif kind in ("TaskSubmitFailed", "TaskStartFailed"):
            if open_job:
                tries[open_job[0]] -= 1  # Nothing was started.
            open_job = None
        elif open_job and kind in ("TaskSucceeded", "TaskFailed", "TaskTimedOut"):
            jobs.append(_job_usage(open_job, event))
            open_job = None
    if open_job:
        stage, attempt, since = open_job
        jobs.append(JobUsage(stage, attempt, _seconds_between(since, now), under_way=True))
        transitions += _REMAINING_TRANSITIONS
    return ExecutionUsage(jobs, transitions, execution)


def estimate_usage(attempts: Sequence[Record]) -> ExecutionUsage:
    """What a run would use on AWS if its attempts lasted there as long as here, on the smallest jobs there are."""
    jobs = [JobUsage(each["stage"], each["attempt"], math.ceil(each["seconds"])) for each in attempts]
    transitions = _FIXED_TRANSITIONS
    for stage in STAGES:
        own = [each for each in attempts if each["stage"] == stage]
        if own:
            retries = len(own) - 1
            # A permanent failure leaves an outcome, which is read like a good one.
            caught = own[-1]["outcome"] == "FAILED" and not own[-1].get("permanent")
            states = 0 if stage == STAGES[-1] else 1 if caught else _TRANSITIONS_PER_STAGE
            transitions += states + retries
    return ExecutionUsage(jobs, transitions)


def calculate_cost(use: ExecutionUsage, attempts: Sequence[Record], prices: Prices, before: Optional[Record] = None) -> Record:
    """A run's cost, as its record holds it: amounts are decimals as text, which add up to ``total``.

    ``before`` is the cost in the run's record before this one, where it has gone on: what other executions used stays.
    """
    basis = MEASURED if use.execution else ESTIMATED
    jobs = [_job_cost(each, use.execution, prices) for each in use.jobs]
    executions: list[Record] = [{"execution": use.execution, "transitions": use.transitions}]
    if use.execution and before and before["basis"] == MEASURED:
        jobs = [each for each in before["jobs"] if each["execution"] != use.execution] + jobs
        executions = [each for each in before["executions"] if each["execution"] != use.execution] + executions
    transitions = sum(each["transitions"] for each in executions)
    asked = {kind: sum((each.get("requests") or {}).get(kind, 0) for each in attempts) for kind in ("writes", "reads")}
    # Of folders none is counted: that is not to say that buckets would have been asked for nothing.
    counted = any(asked.values())
    lines = {
        "transitions": _cost_line(transitions, prices.states_thousand_transitions),
        "writes": _cost_line(asked["writes"] if counted else None, prices.s3_thousand_writes),
        "reads": _cost_line(asked["reads"] if counted else None, prices.s3_thousand_reads),
    }
    unknown = [f"{name}, whose price is not in the table" for name, price in _list_prices(prices) if price is None]
    amounts = [each["amount"] for each in (*jobs, *lines.values()) if each["amount"] is not None]
    return {
        "basis": basis,
        "currency": prices.currency,
        "prices": {"region": prices.region, "as_of": prices.as_of.isoformat()},
        "jobs": jobs,
        "executions": executions,
        **lines,
        "total": format(sum(map(Decimal, amounts), Decimal(0)), "f"),
        "not_counted": [*unknown, TABLE_REQUESTS if counted else ALL_REQUESTS],
    }


@dataclass(frozen=True)
class CostSummary:
    """Costs of many runs, in one currency. ``of_states`` is Step Functions', ``of_requests`` S3's as far as it is counted."""

    currency: str
    by_date: Mapping[str, Mapping[str, Decimal]]
    """A date's cost by stage; ``states`` and ``requests`` besides."""
    by_stage: Mapping[str, Decimal]
    total: Decimal
    runs: int
    runs_without_cost: Sequence[str]
    """Runs whose record says nothing of a cost."""
    prices: tuple[str, ...]
    """The tables they were counted by: ``us-east-1 as of 2026-06-30``."""
    bases: tuple[str, ...]
    not_counted: Sequence[str]


COST_PARTS = (*STAGES, "states", "requests")
"""What a run's cost is made of: its stages' jobs, the state machine, requests to S3."""


def cost_by_part(cost: Record) -> dict[str, Decimal]:
    """A run's cost by part; parts that were not used, or whose price is not known, are left out."""
    found: dict[str, Decimal] = {}
    for each in cost["jobs"]:
        _add_amount(found, each["stage"], each["amount"])
    for part, line in (("states", "transitions"), ("requests", "writes"), ("requests", "reads")):
        _add_amount(found, part, cost[line]["amount"])
    return found


def sum_costs(runs: Sequence[Record]) -> list[CostSummary]:
    """Sums of closed and open runs' records, one for each currency; one without any where no run has a cost."""
    without = [each["run_id"] for each in runs if not each.get("cost")]
    counted = [each for each in runs if each.get("cost")]
    sums = []
    for currency in sorted({each["cost"]["currency"] for each in counted}) or [""]:
        own = [each for each in counted if each["cost"]["currency"] == currency]
        by_date: dict[str, dict[str, Decimal]] = {}
        by_stage: dict[str, Decimal] = {}
        for each in own:
            for part, amount in cost_by_part(each["cost"]).items():
                for place in (by_date.setdefault(each["run_date"], {}), by_stage):
                    place[part] = place.get(part, Decimal(0)) + amount
        costs = [each["cost"] for each in own]
        sums.append(
            CostSummary(
                currency=currency,
                by_date=dict(sorted(by_date.items())),
                by_stage={part: by_stage[part] for part in COST_PARTS if part in by_stage},
                total=sum((Decimal(each["total"]) for each in costs), Decimal(0)),
                runs=len(own),
                runs_without_cost=without,
                prices=tuple(sorted({f"{each['prices']['region']} as of {each['prices']['as_of']}" for each in costs})),
                bases=tuple(sorted({each["basis"] for each in costs})),
                not_counted=list(dict.fromkeys(name for each in costs for name in each["not_counted"])),
            )
        )
    return sums


def _add_amount(found: dict[str, Decimal], part: str, amount: Optional[str]) -> None:
    if amount is not None:
        found[part] = found.get(part, Decimal(0)) + Decimal(amount)


def _job_cost(use: JobUsage, execution: str, prices: Prices) -> Record:
    seconds = max(prices.glue_least_seconds, use.seconds)
    amount = None if prices.glue_dpu_hour is None else _format_amount(seconds * use.dpu * prices.glue_dpu_hour / 3600)
    return {
        "stage": use.stage,
        "attempt": use.attempt,
        "seconds": seconds,
        "dpu": str(use.dpu),
        "amount": amount,
        **({"under_way": True} if use.under_way else {}),
        "execution": execution,
    }


def _cost_line(count: Optional[int], thousand: Optional[Decimal]) -> Record:
    return {"count": count, "amount": None if thousand is None or count is None else _format_amount(count * thousand / 1000)}


def _list_prices(prices: Prices) -> list[tuple[str, Optional[Decimal]]]:
    return [
        ("AWS Glue", prices.glue_dpu_hour),
        ("Step Functions", prices.states_thousand_transitions),
        ("writing requests to S3", prices.s3_thousand_writes),
        ("reading requests to S3", prices.s3_thousand_reads),
    ]


def _format_amount(amount: Decimal) -> str:
    return format(amount.quantize(_AMOUNT_QUANTUM, rounding=ROUND_HALF_UP), "f")


def _stage_of(details: Mapping[str, Any]) -> str:
    """The stage of a scheduled job; empty for a task that is none."""
    given = _parse_json_object(details.get("parameters")).get("Arguments")
    return str(given.get("--stage", "")) if isinstance(given, dict) else ""


def _job_usage(job: tuple[str, int, datetime], event: Mapping[str, Any]) -> JobUsage:
    stage, attempt, since = job
    details = event.get("taskSucceededEventDetails") or event.get("taskFailedEventDetails") or {}
    told = _parse_json_object(details.get("output") or details.get("cause"))
    seconds = told.get("ExecutionTime")
    if seconds is None:
        seconds = _seconds_between(since, parse_timestamp(event["timestamp"]))
    return JobUsage(stage, attempt, int(seconds), Decimal(str(told.get("MaxCapacity") or SMALLEST_DPU)))


def _parse_json_object(text: Optional[str]) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}  # A cause may be any text.
    return found if isinstance(found, dict) else {}


def _seconds_between(since: datetime, until: datetime) -> int:
    return max(0, math.ceil((until - since).total_seconds()))
