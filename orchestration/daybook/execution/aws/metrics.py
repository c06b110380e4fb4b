"""Define the CloudWatch metrics for alarms and the dashboard, and compute their values for a run.

Metrics of Step Functions (``AWS/States``) count executions whose jobs died before they sent metrics. No dimension holds dates,
runs or customers, because each new value is a metric that costs money.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from daybook.records.archive import parse_timestamp
from daybook.records.cost import cost_by_part
from daybook.records.models import AttemptRecord, RunRecord
from daybook.records.names import STAGES
from daybook.scheduling.due import newest_due_date
from daybook.sources import Calendar

OUTCOMES = ("SUCCEEDED", "SKIPPED", "REJECTED", "FAILED")

Unit = Literal["Count", "Seconds", "Percent", "None"]


@dataclass(frozen=True)
class Metric:
    """A metric. Each has the dimension ``Environment`` (a file in ``params/``) and at most one more."""

    name: str
    unit: Unit
    meaning: str
    dimension: str = ""
    values: tuple[str, ...] = ()

    @property
    def dimensions(self) -> tuple[str, ...]:
        return ("Environment", self.dimension) if self.dimension else ("Environment",)


RUNS = Metric("Runs", "Count", "Runs that ended with this outcome.", "Outcome", OUTCOMES)
RUN_SECONDS = Metric("RunSeconds", "Seconds", "From the start of a run to its closing record, with waits for retries.")
TIMES_USUAL = Metric(
    "TimesUsual", "None", "Duration of a run divided by the usual duration of the last four weeks, without backfills."
)
FRESHNESS_HOURS = Metric(
    "FreshnessHours",
    "None",  # CloudWatch has no unit for hours
    "Hours from the end of the newest due business date (the shop's midnight) to its publication.",
)
QUARANTINE_SHARE = Metric("QuarantineShare", "Percent", "Share of landed rows that violated a rule of severity error.")
STAGE_SECONDS = Metric("StageSeconds", "Seconds", "Duration of all attempts of a stage.", "Stage", STAGES)
STAGE_RETRIES = Metric("StageRetries", "Count", "Attempts of a stage after the first.", "Stage", STAGES)
STAGE_OUTCOMES = {
    outcome: Metric(
        f"Stage{outcome.capitalize()}", "Count", "Attempts of a stage that ended with this outcome.", "Stage", STAGES
    )
    for outcome in OUTCOMES
}
ROWS_IN = Metric("RowsIn", "Count", "Rows that a stage read, from its last attempt with a count.", "Stage", STAGES)
ROWS_OUT = Metric("RowsOut", "Count", "Rows that a stage wrote, from its last attempt with a count.", "Stage", STAGES)
ROWS_QUARANTINED = Metric(
    "RowsQuarantined", "Count", "Rows that a stage rejected, from its last attempt with a count.", "Stage", STAGES
)
RUN_COST = Metric("RunCost", "None", "Counted cost of a run on AWS, in the currency of its price table.")
STAGE_COST = Metric("StageCost", "None", "Share of the cost for a stage's Glue jobs.", "Stage", STAGES)

METRICS = (
    *(RUNS, RUN_SECONDS, TIMES_USUAL, FRESHNESS_HOURS, QUARANTINE_SHARE, RUN_COST),
    *(STAGE_SECONDS, STAGE_RETRIES, *STAGE_OUTCOMES.values(), ROWS_IN, ROWS_OUT, ROWS_QUARANTINED, STAGE_COST),
)
"""All metrics of the namespace."""


def metrics_namespace(environment: str) -> str:
    """Return a deployment's namespace in CloudWatch; IAM can restrict PutMetricData by namespace only."""
    return f"Daybook/{environment}"


@dataclass(frozen=True)
class Datapoint:
    """One value of a metric, with its dimensions by name."""

    metric: Metric
    value: float
    dimensions: dict[str, str]
    at: datetime

    def to_request(self) -> dict[str, Any]:
        """Return the item of ``MetricData`` for PutMetricData."""
        return {
            "MetricName": self.metric.name,
            "Unit": self.metric.unit,
            "Value": self.value,
            "Timestamp": self.at,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions.items()],
        }


def build_datapoints(run: RunRecord, calendar: Calendar) -> list[Datapoint]:
    """Return the data points of a closed run, with the time of its end.

    Freshness is reported by a run of the date that was the newest due one at its start, if it ended as SUCCEEDED or SKIPPED.
    Backfills (``part_of``) and earlier dates do not report it, since their age says nothing about today's tables. A date on
    which the shop is closed is not due, so the date before remains the newest.

    Parameters
    ----------
    run : RunRecord
        The record of a closed run.
    calendar : Calendar
        The calendar of the run's source.
    """
    at = parse_timestamp(run.ended_at or run.started_at)
    seconds = run.seconds or 0.0
    environment = {"Environment": run.env or ""}
    points = [
        Datapoint(RUNS, 1, {**environment, "Outcome": run.outcome}, at),
        Datapoint(RUN_SECONDS, seconds, environment, at),
    ]
    if run.usual_seconds:
        points.append(Datapoint(TIMES_USUAL, seconds / run.usual_seconds, environment, at))
    attempts = run.stages
    if _reports_freshness(run, calendar):
        reported = [each.details.freshness_hours for each in attempts if each.details.freshness_hours is not None]
        points += [Datapoint(FRESHNESS_HOURS, hours, environment, at) for hours in reported[-1:]]  # of the last attempt
    points += [Datapoint(QUARANTINE_SHARE, share, environment, at) for share in _quarantine_shares(attempts)]
    cost = run.cost
    costs: dict[str, Decimal] = cost_by_part(cost) if cost else {}
    # Decimals so far; CloudWatch takes floats only.
    points += [Datapoint(RUN_COST, float(Decimal(cost.total)), environment, at)] if cost else []
    for stage in STAGES:
        own = [each for each in attempts if each.stage == stage]
        where = {**environment, "Stage": stage}
        points += [Datapoint(metric, value, where, at) for metric, value in _stage_values(own)]
        # A job that died before it wrote a record costs money too.
        points += [Datapoint(STAGE_COST, float(costs[stage]), where, at)] if stage in costs else []
    return points


def _stage_values(own: Sequence[AttemptRecord]) -> Iterator[tuple[Metric, float]]:
    """Yield the metrics of a stage's attempts."""
    if not own:
        return
    yield STAGE_SECONDS, sum(each.seconds or 0.0 for each in own)
    yield STAGE_RETRIES, len(own) - 1
    for outcome, metric in STAGE_OUTCOMES.items():
        count = sum(each.outcome == outcome for each in own)
        if count:
            yield metric, count
    for metric, counts in (
        (ROWS_IN, [each.rows.rows_in for each in own]),
        (ROWS_OUT, [each.rows.rows_out for each in own]),
        (ROWS_QUARANTINED, [each.rows.rejected for each in own]),
    ):
        known = [count for count in counts if count is not None]
        if known:
            yield metric, known[-1]


def _reports_freshness(run: RunRecord, calendar: Calendar) -> bool:
    newest = newest_due_date(calendar, parse_timestamp(run.started_at))
    return (
        # None if no date of the calendar is due yet.
        newest is not None
        and not run.in_backfill
        and run.outcome in ("SUCCEEDED", "SKIPPED")
        # A manifest can start a date before it is due.
        and (run.until or run.run_date) >= newest
    )


def _quarantine_shares(attempts: Sequence[AttemptRecord]) -> Iterator[float]:
    """Yield the quarantine share in percent of the last validation with a row count, if any."""
    counted = [each.rows for each in attempts if each.stage == "validate" and each.rows.rows_in]
    for rows in counted[-1:]:
        yield 100 * (rows.rejected or 0) / (rows.rows_in or 1)
