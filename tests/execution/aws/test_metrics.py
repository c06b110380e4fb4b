"""A run told in metrics: which, with which dimensions, and which run tells how fresh the tables are."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, List

import pytest

from daybook.execution.aws.metrics import METRICS, Datapoint, build_datapoints
from daybook.records.cost import ExecutionUsage, JobUsage, calculate_cost, load_prices
from daybook.records.names import STAGES
from daybook.sources import Calendar


def attempt(stage: str, seconds: float = 2.5, outcome: str = "SUCCEEDED", **fields: Any) -> Dict[str, Any]:
    return {"stage": stage, "seconds": seconds, "outcome": outcome, "rows": {}, "details": {}, **fields}


def run(**fields: Any) -> Dict[str, Any]:
    """The closed record of a nightly run that published its date."""
    stages = [
        attempt("ingest"),
        attempt("validate", rows={"in": 400, "out": 390, "rejected": 10}),
        *(attempt(stage) for stage in ("transform", "aggregate", "quality")),
        attempt("notify", details={"freshness_hours": 3.1}),
    ]
    return {
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


def told(record: Dict[str, Any], metric: str) -> List[Datapoint]:
    return [each for each in build_datapoints(record, Calendar()) if each.metric.name == metric]


def test_a_good_night_is_told_in_every_metric_but_those_of_bad_ends() -> None:
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


def test_a_run_of_which_nobody_can_say_how_long_it_usually_takes_is_not_held_to_that() -> None:
    assert told(run(usual_seconds=None), "TimesUsual") == told({**run(), "usual_seconds": 0.0}, "TimesUsual") == []


@pytest.mark.parametrize("record", [run(), run(outcome="REJECTED"), run(part_of="backfill-1", outcome="FAILED")])
def test_a_point_has_just_the_dimensions_of_its_metric(record: Dict[str, Any]) -> None:
    for each in build_datapoints(record, Calendar()):
        assert tuple(each.dimensions) == each.metric.dimensions
        assert not each.metric.dimension or each.dimensions[each.metric.dimension] in each.metric.values


def test_no_metric_has_an_unbounded_dimension() -> None:
    # Every value of a dimension is a metric that is paid for.
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
def test_freshness_is_told_by_the_newest_date_that_was_published_only(fields: Dict[str, Any], why: str) -> None:
    assert told(run(**fields), "FreshnessHours") == [], why
    assert len(told(run(**fields), "Runs")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        # The shop was closed: nothing is missing.
        {"outcome": "SKIPPED"},
        # A manifest came before the slot.
        {"started_at": "2025-12-01T00:10:00.000Z"},
        # A minute before the next date is due.
        {"started_at": "2025-12-02T01:59:00.000Z"},
    ],
)
def test_freshness_is_told_of_a_date_that_is_the_newest_due(fields: Dict[str, Any]) -> None:
    assert [each.value for each in told(run(**fields), "FreshnessHours")] == [3.1]


def test_freshness_skips_dates_on_which_the_shop_is_closed() -> None:
    late = run(run_date="2025-11-28", started_at="2025-11-30T02:00:00.000Z")
    closed = Calendar.model_validate({"closed_weekdays": ["Saturday"]})
    assert [each.value for each in build_datapoints(late, closed) if each.metric.name == "FreshnessHours"] == [3.1]
    assert told(late, "FreshnessHours") == []


def by_stage(record: Dict[str, Any], name: str) -> Dict[str, float]:
    return {each.dimensions["Stage"]: each.value for each in told(record, name)}


def test_attempts_of_a_stage_count_together_and_each_by_its_end() -> None:
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


def test_rows_are_those_of_the_last_attempt_that_counted_them() -> None:
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


def test_a_cost_is_told_by_stage_also_of_jobs_that_left_no_record() -> None:
    record = run(stages=[attempt("notify")], outcome="FAILED")
    assert by_stage(record, "StageCost") == {"ingest": 0.00045833, "notify": 0.00091667}
    assert told(run(cost=None), "RunCost") == told(run(cost=None), "StageCost") == []
    # A record from before there were costs.
    old = run()
    del old["cost"]
    assert told(old, "RunCost") == []


def test_the_share_in_quarantine_is_that_of_the_validation_that_counted() -> None:
    failed = attempt("validate", outcome="FAILED")
    counted = attempt("validate", outcome="REJECTED", rows={"in": 50, "out": None, "rejected": 50})
    assert [each.value for each in told(run(stages=[failed, counted], outcome="REJECTED"), "QuarantineShare")] == [100]
    assert told(run(stages=[failed], outcome="FAILED"), "QuarantineShare") == []
    assert told(run(stages=[attempt("validate", rows={"in": 0, "rejected": 0})]), "QuarantineShare") == []


def test_a_point_is_what_put_metric_data_takes() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.Session().get_service_model("cloudwatch").operation_model("PutMetricData").input_shape
    data = [each.to_request() for each in build_datapoints(run(), Calendar())]
    report = ParamValidator().validate({"Namespace": "Daybook/prod", "MetricData": data}, shape)
    assert not report.has_errors(), report.generate_report()
    units = shape.members["MetricData"].member.members["Unit"].enum
    assert {each["Unit"] for each in data} <= set(units)
