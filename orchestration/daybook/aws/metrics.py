"""The metrics of CloudWatch that alarms and the dashboard read: their names, units and dimensions, and a run told in them.

Here: the contract between whoever emits and ``infra/watch.yaml``, and the data points of a closed run. Not here: sending them,
alarms. An execution whose job died before it could tell anything is counted by Step Functions' own metrics (``AWS/States``).

Every dimension is bounded: nobody's business date, run or customer is one, for each new value would be a metric to pay for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from daybook.archive import Record, parse_moment
from daybook.schedule import newest_due
from daybook.stages import STAGES

NAMESPACE = "Daybook"
OUTCOMES = ("SUCCEEDED", "SKIPPED", "REJECTED", "FAILED")
LEAST_BILLED_SECONDS = 60
"""What Glue bills a run of a job at least."""

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
FRESHNESS_HOURS = Metric(
    "FreshnessHours",
    "None",  # CloudWatch knows no hours.
    "Hours from the end of the newest due business date, at the shop's midnight, until it was published.",
)
QUARANTINE_SHARE = Metric("QuarantineShare", "Percent", "Of the rows that landed, those that broke a rule of severity error.")
STAGE_SECONDS = Metric("StageSeconds", "Seconds", "A stage's work, all attempts together.", "Stage", STAGES)
STAGE_RETRIES = Metric("StageRetries", "Count", "Attempts of a stage after the first.", "Stage", STAGES)
BILLED_SECONDS = Metric(
    "BilledSeconds", "Seconds", "What Glue bills for a stage at the least: a minute an attempt, else its work.", "Stage", STAGES
)

METRICS = (RUNS, RUN_SECONDS, FRESHNESS_HOURS, QUARANTINE_SHARE, STAGE_SECONDS, STAGE_RETRIES, BILLED_SECONDS)
"""All there are; ``infra/watch.yaml`` uses no other of this namespace."""


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


def datapoints_of(run: Record) -> list[Datapoint]:
    """What a closed run's record comes to, dated at its end.

    Freshness is told by a run that publishes the newest date that was due when it began, or finds that there is nothing to
    publish; never by a day of a backfill (``part_of``) nor by one of long ago, whose age says nothing of today's tables.
    """
    at = parse_moment(run["ended_at"])
    place = {"Environment": run["env"]}
    points = [Datapoint(RUNS, 1, {**place, "Outcome": run["outcome"]}, at), Datapoint(RUN_SECONDS, run["seconds"], place, at)]
    attempts = run["stages"]
    if _tells_freshness(run):
        # Of the last attempt: one before it did not come to its end.
        told = [each["details"]["freshness_hours"] for each in attempts if "freshness_hours" in each["details"]]
        points += [Datapoint(FRESHNESS_HOURS, hours, place, at) for hours in told[-1:]]
    points += [Datapoint(QUARANTINE_SHARE, share, place, at) for share in _quarantine_shares(attempts)]
    for stage in STAGES:
        own = [each["seconds"] for each in attempts if each["stage"] == stage]
        if own:
            where = {**place, "Stage": stage}
            points += [
                Datapoint(STAGE_SECONDS, sum(own), where, at),
                Datapoint(STAGE_RETRIES, len(own) - 1, where, at),
                Datapoint(BILLED_SECONDS, sum(max(LEAST_BILLED_SECONDS, math.ceil(each)) for each in own), where, at),
            ]
    return points


def _tells_freshness(run: Record) -> bool:
    newest = newest_due(parse_moment(run["started_at"]))
    return (
        "part_of" not in run
        and run["outcome"] in ("SUCCEEDED", "SKIPPED")
        # A manifest may start a date before its slot.
        and date.fromisoformat(run["run_date"]) >= newest
    )


def _quarantine_shares(attempts: Sequence[Record]) -> Iterator[float]:
    """The share of the last validation that counted its rows, in percent; none where nothing landed or nothing was counted."""
    counted = [each["rows"] for each in attempts if each["stage"] == "validate" and each["rows"].get("in")]
    for rows in counted[-1:]:
        yield 100 * (rows.get("rejected") or 0) / rows["in"]
