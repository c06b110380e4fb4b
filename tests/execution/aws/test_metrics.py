"""Test the metrics of a run: values, dimensions, and which runs report freshness."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, List

import pytest

from daybook.execution.aws.metrics import METRICS, Datapoint, build_datapoints
from daybook.records.cost import ExecutionUsage, JobUsage, calculate_cost, load_prices
from daybook.records.models import RunRecord
from daybook.records.names import STAGES
from daybook.sources import Calendar


def attempt(stage: str, seconds: float = 2.5, outcome: str = "SUCCEEDED", **fields: Any) -> Dict[str, Any]:
    return {"stage": stage, "seconds": seconds, "outcome": outcome, "rows": {}, "details": {}, **fields}


def run(**fields: Any) -> RunRecord:
    """Return the closed record of a nightly run that published its date."""
    stages = [
        attempt("ingest"),
        attempt("validate", rows={"in": 400, "out": 390, "rejected": 10}),
        *(attempt(stage) for stage in ("transform", "aggregate", "quality")),
        attempt("notify", details={"freshness_hours": 3.1}),
    ]
    return RunRecord.model_validate(
        {
            "run_id": "daily-2025-11-30-1",
            "run_date": "2025-11-30",
            "env": "prod",
            "outcome": "SUCCEEDED",
            "started_at": "2025-12-01T02:00:03.000Z",
            "ended_at": "2025-12-01T02:04:00.500Z",
            "seconds": 237.5,
            "usual_seconds": 190.0,
            "stages": stages,
            "cost": calculate_cost(
                ExecutionUsage([JobUsage("ingest", 1, 60), JobUsage("notify", 1, 120)], 27, "arn"), [], load_prices("us-east-1")
            ),
            **fields,
        }
    )


def points_of(record: RunRecord, metric: str) -> List[Datapoint]:
    return [each for each in build_datapoints(record, Calendar()) if each.metric.name == metric]


def test_successful_run_has_all_metrics_of_success() -> None:
    points = build_datapoints(run(), Calendar())
    bad = {"StageSkipped", "StageRejected", "StageFailed"}
    assert {each.metric.name for each in points} == {metric.name for metric in METRICS} - bad
    values = {each.metric.name: each.value for each in points if not each.metric.dimension}
    assert values == {
        "RunSeconds": 237.5,
        "TimesUsual": 1.25,
        "FreshnessHours": 3.1,
        "QuarantineShare": 2.5,
        "RunCost": 0.00205,
    }
    assert [(each.value, each.dimensions) for each in points if each.metric.name == "Runs"] == [
        (1, {"Environment": "prod", "Outcome": "SUCCEEDED"})
    ]
    assert {each.at for each in points} == {datetime(2025, 12, 1, 2, 4, 0, 500000, tzinfo=timezone.utc)}


def test_times_usual_needs_usual_duration() -> None:
    assert points_of(run(usual_seconds=None), "TimesUsual") == points_of(run(usual_seconds=0.0), "TimesUsual") == []


@pytest.mark.parametrize("record", [run(), run(outcome="REJECTED"), run(part_of="backfill-1", outcome="FAILED")])
def test_datapoint_has_dimensions_of_its_metric(record: RunRecord) -> None:
    for each in build_datapoints(record, Calendar()):
        assert tuple(each.dimensions) == each.metric.dimensions
        assert not each.metric.dimension or each.dimensions[each.metric.dimension] in each.metric.values


def test_dimensions_are_bounded() -> None:
    # Each value of a dimension is a separate metric that costs money.
    assert all(1 <= len(metric.values) <= len(STAGES) for metric in METRICS if metric.dimension)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"part_of": "backfill-2025-11-01-2025-11-30-1"}, "a day of a backfill"),
        ({"outcome": "REJECTED"}, "nothing was published"),
        ({"outcome": "FAILED"}, "nothing was published"),
        ({"run_date": "2025-11-29"}, "a date of the day before, run again by hand"),
        ({"started_at": "2025-12-02T02:00:00.000Z"}, "a newer date was due when it began"),
    ],
)
def test_other_runs_do_not_report_freshness(fields: Dict[str, Any], why: str) -> None:
    assert points_of(run(**fields), "FreshnessHours") == [], why
    assert len(points_of(run(**fields), "Runs")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        # The shop was closed, so nothing is missing.
        {"outcome": "SKIPPED"},
        # A manifest arrived before the date was due.
        {"started_at": "2025-12-01T00:10:00.000Z"},
        # A minute before the next date is due.
        {"started_at": "2025-12-02T01:59:00.000Z"},
    ],
)
def test_newest_due_date_reports_freshness(fields: Dict[str, Any]) -> None:
    assert [each.value for each in points_of(run(**fields), "FreshnessHours")] == [3.1]


def test_freshness_skips_closed_dates() -> None:
    late = run(run_date="2025-11-28", started_at="2025-11-30T02:00:00.000Z")
    closed = Calendar.model_validate({"closed_weekdays": ["Saturday"]})
    assert [each.value for each in build_datapoints(late, closed) if each.metric.name == "FreshnessHours"] == [3.1]
    assert points_of(late, "FreshnessHours") == []


def by_stage(record: RunRecord, name: str) -> Dict[str, float]:
    return {each.dimensions["Stage"]: each.value for each in points_of(record, name)}


def test_attempts_are_summed_by_stage_and_outcome() -> None:
    stages = [
        *(attempt("ingest", 12.0, "FAILED"), attempt("ingest", 90.2)),
        attempt("validate", 5.0, "REJECTED", rows={"in": 50, "out": 0, "rejected": 9}),
    ]
    record = run(stages=stages, outcome="REJECTED")
    assert by_stage(record, "StageSeconds") == pytest.approx({"ingest": 102.2, "validate": 5.0})
    assert by_stage(record, "StageRetries") == {"ingest": 1, "validate": 0}
    assert by_stage(record, "StageSucceeded") == {"ingest": 1}
    assert by_stage(record, "StageFailed") == {"ingest": 1}
    assert by_stage(record, "StageRejected") == {"validate": 1}
    assert by_stage(record, "StageSkipped") == {}


def test_rows_are_those_of_last_counting_attempt() -> None:
    stages = [
        attempt("validate", rows={"in": 50, "out": 41, "rejected": 9}),
        attempt("validate", rows={"in": 50, "out": 50, "rejected": 0}),
        attempt("validate", outcome="FAILED"),
        attempt("aggregate", rows={"in": None, "out": 7}),
    ]
    record = run(stages=stages, outcome="FAILED")
    assert by_stage(record, "RowsIn") == {"validate": 50}
    assert by_stage(record, "RowsOut") == {"validate": 50, "aggregate": 7}
    assert by_stage(record, "RowsQuarantined") == {"validate": 0}


def test_stage_cost_includes_jobs_without_record() -> None:
    record = run(stages=[attempt("notify")], outcome="FAILED")
    assert by_stage(record, "StageCost") == {"ingest": 0.00045833, "notify": 0.00091667}
    assert points_of(run(cost=None), "RunCost") == points_of(run(cost=None), "StageCost") == []
    # A record of an earlier release has no cost.
    old = RunRecord.model_validate(run().model_dump(exclude={"cost"}, exclude_unset=True, by_alias=True))
    assert points_of(old, "RunCost") == []


def test_quarantine_share_of_last_counting_validation() -> None:
    failed = attempt("validate", outcome="FAILED")
    counted = attempt("validate", outcome="REJECTED", rows={"in": 50, "out": None, "rejected": 50})
    assert [each.value for each in points_of(run(stages=[failed, counted], outcome="REJECTED"), "QuarantineShare")] == [100]
    assert points_of(run(stages=[failed], outcome="FAILED"), "QuarantineShare") == []
    assert points_of(run(stages=[attempt("validate", rows={"in": 0, "rejected": 0})]), "QuarantineShare") == []


def test_datapoint_is_valid_for_put_metric_data() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.Session().get_service_model("cloudwatch").operation_model("PutMetricData").input_shape
    data = [each.to_request() for each in build_datapoints(run(), Calendar())]
    report = ParamValidator().validate({"Namespace": "Daybook/prod", "MetricData": data}, shape)
    assert not report.has_errors(), report.generate_report()
    units = shape.members["MetricData"].member.members["Unit"].enum
    assert {each["Unit"] for each in data} <= set(units)
