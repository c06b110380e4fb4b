"""The metrics of CloudWatch that alarms and the dashboard read: their names, units and dimensions, and a run told in them.

An execution whose job died before it could tell anything is counted by Step Functions' own metrics (``AWS/States``).

Every dimension is bounded: nobody's business date, run or customer is one, for each new value would be a metric to pay for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from daybook.records.archive import Record, parse_timestamp
from daybook.records.cost import cost_by_part
from daybook.records.names import STAGES
from daybook.scheduling.due import newest_due_date
from daybook.sources import Calendar

OUTCOMES = ("SUCCEEDED", "SKIPPED", "REJECTED", "FAILED")

Unit = Literal["Count", "Seconds", "Percent", "None"]


@dataclass(frozen=True)
class Metric:
    """A metric as alarms know it. Besides its own dimension, if it has one, each has ``Environment``: a file in ``params/``."""

    name: str
    unit: Unit
    meaning: str
    dimension: str = ""
    values: tuple[str, ...] = ()

    @property
    def dimensions(self) -> tuple[str, ...]:
        return ("Environment", self.dimension) if self.dimension else ("Environment",)


RUNS = Metric("Runs", "Count", "Runs that ended so; one for each.", "Outcome", OUTCOMES)
RUN_SECONDS = Metric("RunSeconds", "Seconds", "From the start of a run to its closing record, waits for retries included.")
TIMES_USUAL = Metric(
    "TimesUsual", "None", "A run's length over the usual one of the four weeks before, of no day of a backfill."
)
FRESHNESS_HOURS = Metric(
    "FreshnessHours",
    "None",  # CloudWatch knows no hours.
    "Hours from the end of the newest due business date, at the shop's midnight, until it was published.",
)
QUARANTINE_SHARE = Metric("QuarantineShare", "Percent", "Of the rows that landed, those that broke a rule of severity error.")
STAGE_SECONDS = Metric("StageSeconds", "Seconds", "A stage's work, all attempts together.", "Stage", STAGES)
STAGE_RETRIES = Metric("StageRetries", "Count", "Attempts of a stage after the first.", "Stage", STAGES)
STAGE_OUTCOMES = {
    outcome: Metric(f"Stage{outcome.capitalize()}", "Count", "Attempts of a stage that ended so.", "Stage", STAGES)
    for outcome in OUTCOMES
}
ROWS_IN = Metric("RowsIn", "Count", "Rows that a stage read, by its last attempt that counted.", "Stage", STAGES)
ROWS_OUT = Metric("RowsOut", "Count", "Rows that a stage handed on, by its last attempt that counted.", "Stage", STAGES)
ROWS_QUARANTINED = Metric("RowsQuarantined", "Count", "Rows that a stage put aside, by its last attempt.", "Stage", STAGES)
RUN_COST = Metric("RunCost", "None", "What a run costs on AWS, as far as it is counted, in its price table's currency.")
STAGE_COST = Metric("StageCost", "None", "What of it is a stage's jobs on Glue.", "Stage", STAGES)

METRICS = (
    *(RUNS, RUN_SECONDS, TIMES_USUAL, FRESHNESS_HOURS, QUARANTINE_SHARE, RUN_COST),
    *(STAGE_SECONDS, STAGE_RETRIES, *STAGE_OUTCOMES.values(), ROWS_IN, ROWS_OUT, ROWS_QUARANTINED, STAGE_COST),
)
"""All there are; ``infra/watch.yaml`` uses no other of this namespace."""


def metrics_namespace(environment: str) -> str:
    """Return a deployment's namespace in CloudWatch; IAM can restrict PutMetricData by namespace only."""
    return f"Daybook/{environment}"


@dataclass(frozen=True)
class Datapoint:
    """One value of a metric; ``dimensions`` by name."""

    metric: Metric
    value: float
    dimensions: dict[str, str]
    at: datetime

    def to_request(self) -> dict[str, Any]:
        """As PutMetricData takes it, in ``MetricData``."""
        return {
            "MetricName": self.metric.name,
            "Unit": self.metric.unit,
            "Value": self.value,
            "Timestamp": self.at,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions.items()],
        }


def build_datapoints(run: Record, calendar: Calendar) -> list[Datapoint]:
    """What a closed run's record comes to, dated at its end; ``calendar`` is that of the run's source.

    Freshness is told by a run that publishes the newest date that was due when it began, or finds that there is nothing to
    publish; never by a day of a backfill (``part_of``) nor by one of long ago, whose age says nothing of today's tables. A date
    on which the shop is closed is not due, so the date before it stays the newest.
    """
    at = parse_timestamp(run["ended_at"])
    place = {"Environment": run["env"]}
    points = [Datapoint(RUNS, 1, {**place, "Outcome": run["outcome"]}, at), Datapoint(RUN_SECONDS, run["seconds"], place, at)]
    if run.get("usual_seconds"):
        points.append(Datapoint(TIMES_USUAL, run["seconds"] / run["usual_seconds"], place, at))
    attempts = run["stages"]
    if _reports_freshness(run, calendar):
        # Of the last attempt: one before it did not come to its end.
        told = [each["details"]["freshness_hours"] for each in attempts if "freshness_hours" in each["details"]]
        points += [Datapoint(FRESHNESS_HOURS, hours, place, at) for hours in told[-1:]]
    points += [Datapoint(QUARANTINE_SHARE, share, place, at) for share in _quarantine_shares(attempts)]
    cost = run.get("cost")
    costs: dict[str, Decimal] = cost_by_part(cost) if cost else {}
    # Decimals until here; CloudWatch knows no other numbers than floats.
    points += [Datapoint(RUN_COST, float(Decimal(cost["total"])), place, at)] if cost else []
    for stage in STAGES:
        own = [each for each in attempts if each["stage"] == stage]
        where = {**place, "Stage": stage}
        points += [Datapoint(metric, value, where, at) for metric, value in _stage_values(own)]
        # A job that died before it left a record is paid for all the same.
        points += [Datapoint(STAGE_COST, float(costs[stage]), where, at)] if stage in costs else []
    return points


def _stage_values(own: Sequence[Record]) -> Iterator[tuple[Metric, float]]:
    """What a stage's attempts come to; nothing without any."""
    if not own:
        return
    yield STAGE_SECONDS, sum(each["seconds"] for each in own)
    yield STAGE_RETRIES, len(own) - 1
    for outcome, metric in STAGE_OUTCOMES.items():
        count = sum(each["outcome"] == outcome for each in own)
        if count:
            yield metric, count
    for metric, name in ((ROWS_IN, "in"), (ROWS_OUT, "out"), (ROWS_QUARANTINED, "rejected")):
        counted = [each["rows"][name] for each in own if each["rows"].get(name) is not None]
        if counted:
            yield metric, counted[-1]


def _reports_freshness(run: Record, calendar: Calendar) -> bool:
    newest = newest_due_date(calendar, parse_timestamp(run["started_at"]))
    return (
        # Where nothing was due yet, the date is none of the calendar.
        newest is not None
        and "part_of" not in run
        and run["outcome"] in ("SUCCEEDED", "SKIPPED")
        # A manifest may start a date before its slot.
        and date.fromisoformat(run["run_date"]) >= newest
    )


def _quarantine_shares(attempts: Sequence[Record]) -> Iterator[float]:
    """The share of the last validation that counted its rows, in percent; none where nothing landed or nothing was counted."""
    counted = [each["rows"] for each in attempts if each["stage"] == "validate" and each["rows"].get("in")]
    for rows in counted[-1:]:
        yield 100 * (rows.get("rejected") or 0) / rows["in"]
