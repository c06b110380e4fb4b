"""Test the cost of a run: measured from the history of its execution, or estimated."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Optional

import pytest

from daybook.errors import ParamsError
from daybook.records.archive import format_timestamp
from daybook.records.cost import (
    ALL_REQUESTS,
    SMALLEST_DPU,
    TABLE_REQUESTS,
    ExecutionUsage,
    JobUsage,
    Prices,
    calculate_cost,
    cost_by_part,
    estimate_usage,
    list_price_tables,
    load_prices,
    sum_costs,
    usage_from_history,
)
from daybook.records.models import AttemptRecord, CostLine, RunCost, RunRecord
from tests.asl_local.machines import GET, JOB, START, ScriptedService
from tests.infra.templates import read_template
from tests.sample_records import attempt_record, run_record

PRICES = Prices(
    region="us-east-1",
    currency="USD",
    as_of="2026-06-30",
    glue_dpu_hour="0.44",
    states_thousand_transitions="0.025",
    s3_thousand_writes="0.005",
    s3_thousand_reads="0.0004",
)
ARN = "arn:aws:states:us-east-1:123456789012:execution:daybook-prod-daily:daily-2025-11-30-1"
BEGAN = datetime(2025, 12, 1, 2, tzinfo=timezone.utc)


def attempt(stage: str, seconds: float = 2.5, outcome: str = "SUCCEEDED", number: int = 1, **fields: Any) -> AttemptRecord:
    return attempt_record(stage, outcome, attempt=number, seconds=seconds, **fields)


class Story:
    """The history of an execution in the form of boto3, which is built state by state."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.now = BEGAN

    def add(self, kind: str, passed: float = 0, **details: Any) -> None:
        self.now += timedelta(seconds=passed)
        self.events.append(
            {"id": len(self.events) + 1, "timestamp": format_timestamp(self.now.timestamp()), "type": kind, **details}
        )

    def enter(self, kind: str = "Pass") -> None:
        self.add(f"{kind}StateEntered", stateEnteredEventDetails={"name": "any"})

    def start(self, stage: str) -> None:
        given = {"JobName": f"daybook-prod-{stage}", "Arguments": {"--stage": stage}}
        self.add("TaskScheduled", taskScheduledEventDetails={"resourceType": "glue", "parameters": json.dumps(given)})
        self.add("TaskStarted", 1)
        self.add("TaskSubmitted", 1)

    def end(self, seconds: int, *, dpu: float = 0.0625, failed: bool = False) -> None:
        cause = json.dumps({"ExecutionTime": seconds, "MaxCapacity": dpu, "JobRunState": "FAILED" if failed else "SUCCEEDED"})
        if failed:
            self.add("TaskFailed", seconds, taskFailedEventDetails={"error": "States.TaskFailed", "cause": cause})
        else:
            self.add("TaskSucceeded", seconds, taskSucceededEventDetails={"output": cause})

    @property
    def use(self) -> ExecutionUsage:
        return usage_from_history(self.events, self.now, ARN)


# Measured


def test_each_job_run_counts_including_failed_ones() -> None:
    story = Story()
    story.enter("Task")
    story.start("ingest")
    story.end(95, failed=True)
    story.start("ingest")
    story.end(130, dpu=1)
    story.enter("Choice")
    assert story.use.jobs == [
        JobUsage("ingest", 1, 95, Decimal("0.0625")),
        JobUsage("ingest", 2, 130, Decimal("1.0")),
    ]
    # Two states, and the retry.
    assert story.use.transitions == 3


def test_job_of_a_stopped_execution_is_not_counted_after_redrive() -> None:
    story = Story()
    story.enter("Task")
    story.start("ingest")
    story.add("ExecutionAborted")
    story.add("ExecutionRedriven", 9999)
    story.start("ingest")
    story.end(100)
    assert story.use.jobs == [JobUsage("ingest", 2, 100)]


def test_output_that_is_no_object_has_no_description() -> None:
    story = Story()
    story.enter("Task")
    story.start("ingest")
    story.add("TaskSucceeded", 70, taskSucceededEventDetails={"output": "[1]"})
    assert [(each.stage, each.dpu) for each in story.use.jobs] == [("ingest", Decimal("0.0625"))]


def test_waiting_job_is_not_counted() -> None:
    story = Story()
    story.enter("Task")
    for _ in range(2):
        given = json.dumps({"Arguments": {"--stage": "ingest"}})
        story.add("TaskScheduled", taskScheduledEventDetails={"parameters": given})
        story.add("TaskSubmitFailed", 1, taskSubmitFailedEventDetails={"error": "Glue.ConcurrentRunsExceededException"})
    story.start("ingest")
    story.end(61)
    assert story.use.jobs == [JobUsage("ingest", 1, 61)]
    assert story.use.transitions == 3


def test_timed_out_job_counts_from_start_to_end() -> None:
    story = Story()
    story.enter("Task")
    story.start("quality")
    story.add("TaskTimedOut", 3598, taskTimedOutEventDetails={"error": "States.Timeout"})
    assert story.use.jobs == [JobUsage("quality", 1, 3600)]


def test_running_job_and_remaining_states_count() -> None:
    story = Story()
    story.enter("Task")
    story.start("notify")
    story.add("TaskSubmitted", 40)
    assert story.use.jobs == [JobUsage("notify", 1, 42, under_way=True)]
    assert story.use.transitions == 1 + 2


def test_task_that_reads_an_object_is_not_a_job() -> None:
    story = Story()
    story.enter("Task")
    details = {"resourceType": "aws-sdk:s3", "parameters": json.dumps({"Bucket": "b", "Key": "k"})}
    story.add("TaskScheduled", taskScheduledEventDetails=details)
    story.add("TaskSucceeded", 1, taskSucceededEventDetails={"output": json.dumps({"Body": "{}"})})
    assert (story.use.jobs, story.use.transitions) == ([], 1)


def test_history_of_a_retried_run_matches_the_estimate(tmp_path: Any) -> None:
    """Compare the events of a run with a retry: they have the states and attempts that the estimate assumes."""
    execution = run_daily(tmp_path, [ok(), ok(), fails(), ok(), ok(), ok(), ok()])
    used = usage_from_history(execution.events, BEGAN, ARN)
    stages = ["ingest", "validate", "transform", "transform", "aggregate", "quality", "notify"]
    assert [(each.stage, each.attempt) for each in used.jobs] == list(zip(stages, [1, 1, 1, 2, 1, 1, 1]))
    attempts = [
        attempt(stage, outcome="FAILED" if place == 2 else "SUCCEEDED", number=1 + (place == 3))
        for place, stage in enumerate(stages)
    ]
    assert estimate_usage(attempts).transitions == used.transitions


def test_history_of_a_failed_run_matches_the_estimate(tmp_path: Any) -> None:
    execution = run_daily(tmp_path, [ok(), *[fails()] * 4, ok()])
    assert execution.status == "FAILED"
    attempts = [attempt("ingest"), *(attempt("validate", outcome="FAILED", number=number) for number in (1, 2, 3, 4))]
    used = usage_from_history(execution.events, BEGAN, ARN)
    assert estimate_usage([*attempts, attempt("notify")]).transitions == used.transitions


def test_history_of_a_permanent_failure_matches_the_estimate(tmp_path: Any) -> None:
    execution = run_daily(tmp_path, [ok(), ok(), ok()], "SUCCEEDED", "FAILED")
    assert execution.status == "FAILED"
    attempts = [attempt("ingest"), attempt("validate", outcome="FAILED", permanent=True), attempt("notify")]
    used = usage_from_history(execution.events, BEGAN, ARN)
    assert [each.stage for each in used.jobs] == ["ingest", "validate", "notify"]
    assert estimate_usage(attempts).transitions == used.transitions


def ok() -> Any:
    return {"JobRunState": "SUCCEEDED", "ExecutionTime": 61}


def fails() -> Any:
    from asl_local import TaskError

    return TaskError("States.TaskFailed", json.dumps({"JobRunState": "FAILED", "ExecutionTime": 7}))


def run_daily(tmp_path: Any, script: list[Any], *outcomes: str) -> Any:
    """Run the project's state machine with scripted jobs, and stages with these outcomes, then SUCCEEDED."""
    import random

    from asl_local import FakeClock, StateMachine, run_execution
    from daybook.records.fingerprint import state_machine_path

    replies = [{"Body": json.dumps({"outcome": each})} for each in [*outcomes, *["SUCCEEDED"] * 9]]
    return run_execution(
        StateMachine.load(state_machine_path()),
        name="daily-2025-11-30-1",
        input={"env": "local", "run_date": "2025-11-30", "overrides": {}, "archive": {"bucket": "b", "prefix": ""}},
        services={JOB: ScriptedService(*script), GET: ScriptedService(*replies), START: ScriptedService()},
        journal=tmp_path / "history.jsonl",
        clock=FakeClock(),
        random=random.Random(7),  # noqa: S311
    )


# Priced


def test_amounts_are_decimals_that_add_up() -> None:
    use = ExecutionUsage(
        [JobUsage("ingest", 1, 95), JobUsage("ingest", 2, 61, Decimal(1)), JobUsage("notify", 1, 5, under_way=True)], 27, ARN
    )
    attempts = [attempt("ingest", requests={"reads": 200, "writes": 30}), attempt("notify", requests={"reads": 50})]
    cost = calculate_cost(use, attempts, PRICES)
    assert [each.amount for each in cost.jobs] == ["0.00072569", "0.00745556", "0.00045833"]
    # At least one minute is billed.
    assert [each.seconds for each in cost.jobs] == [95, 61, 60]
    assert cost.transitions == CostLine(count=27, amount="0.00067500")
    assert (cost.writes, cost.reads) == (CostLine(count=30, amount="0.00015000"), CostLine(count=250, amount="0.00010000"))
    assert cost.total == "0.00956458"
    assert Decimal(cost.total) == sum(cost_by_part(cost).values())
    assert (cost.basis, cost.not_counted) == ("measured", [TABLE_REQUESTS])
    assert RunCost.model_validate_json(json.dumps(cost.to_json())) == cost


def test_estimate_is_marked_and_lists_uncounted_parts() -> None:
    cost = calculate_cost(estimate_usage([attempt("ingest", 61.2), attempt("notify", 1.0)]), [], PRICES)
    assert [(each.stage, each.seconds, each.dpu) for each in cost.jobs] == [
        ("ingest", 62, "0.0625"),
        ("notify", 60, "0.0625"),
    ]
    assert (cost.basis, cost.writes.count, cost.not_counted) == ("estimated", None, [ALL_REQUESTS])


def test_parts_without_a_price_are_listed() -> None:
    prices = PRICES.model_copy(update={"states_thousand_transitions": None})
    cost = calculate_cost(ExecutionUsage([JobUsage("ingest", 1, 60)], 27, ARN), [], prices)
    assert (cost.transitions, cost.total) == (CostLine(count=27, amount=None), "0.00045833")
    assert "Step Functions, whose price is not in the table" in cost.not_counted
    assert "states" not in cost_by_part(cost)


def test_resumed_run_costs_both_executions() -> None:
    first = calculate_cost(ExecutionUsage([JobUsage("ingest", 1, 60)], 9, ARN), [], PRICES)
    again = calculate_cost(ExecutionUsage([JobUsage("ingest", 1, 70)], 7, f"{ARN}-resumed-1"), [], PRICES, first)
    assert [each.seconds for each in again.jobs] == [60, 70]
    assert again.transitions.count == 16
    # A later reading of the same execution replaces the earlier one.
    later = calculate_cost(
        ExecutionUsage([JobUsage("ingest", 1, 70), JobUsage("notify", 1, 60)], 12, f"{ARN}-resumed-1"), [], PRICES, again
    )
    assert [each.seconds for each in later.jobs] == [60, 70, 60]
    assert later.transitions.count == 21


# Sums


def run(name: str, cost: Optional[RunCost]) -> RunRecord:
    return run_record(name, cost=cost)


def test_costs_are_summed_by_date_and_stage() -> None:
    one = calculate_cost(ExecutionUsage([JobUsage("ingest", 1, 60), JobUsage("notify", 1, 60)], 10, ARN), [], PRICES)
    two = calculate_cost(estimate_usage([attempt("ingest")]), [], PRICES)
    names = ["daily-2025-11-29-1", "daily-2025-11-30-1", "daily-2025-11-30-2", "daily-2025-11-30-3"]
    (found,) = sum_costs([run(names[0], one), run(names[1], one), run(names[2], two), run(names[3], None)])
    assert (found.runs, found.runs_without_cost, found.currency) == (3, [names[3]], "USD")
    assert found.total == 2 * Decimal(one.total) + Decimal(two.total)
    assert list(found.by_date) == ["2025-11-29", "2025-11-30"]
    assert found.by_date["2025-11-30"]["ingest"] == 2 * Decimal("0.00045833")
    assert sum(found.by_stage.values()) == sum(sum(each.values()) for each in found.by_date.values()) == found.total
    assert (found.bases, found.prices) == (("estimated", "measured"), ("us-east-1 as of 2026-06-30",))


def test_currencies_are_summed_separately() -> None:
    dear = calculate_cost(
        ExecutionUsage([JobUsage("ingest", 1, 60)], 10, ARN), [], PRICES.model_copy(update={"currency": "CNY"})
    )
    cheap = calculate_cost(ExecutionUsage([JobUsage("ingest", 1, 60)], 10, ARN), [], PRICES)
    sums = sum_costs([run("daily-2025-11-29-1", dear), run("daily-2025-11-30-1", cheap)])
    assert [(each.currency, each.runs) for each in sums] == [("CNY", 1), ("USD", 1)]


def test_sum_of_no_runs_is_zero() -> None:
    (found,) = sum_costs([])
    assert (found.runs, found.total, found.by_stage) == (0, Decimal(0), {})


# Price tables


@pytest.mark.parametrize("name", list_price_tables())
def test_price_tables_of_the_project_are_valid(name: str) -> None:
    prices = load_prices(name)
    assert prices.region == name
    assert prices.glue_dpu_hour


def test_prices_are_exact_decimals() -> None:
    assert load_prices("us-east-1") == PRICES


def test_error_in_a_price_table_names_file_and_key(project: Any) -> None:
    project.replace("params/prices/us-east-1.yaml", 'glue_dpu_hour: "0.44"', "glue_dpu_hour: dear")
    with pytest.raises(ParamsError, match=r"^params/prices/us-east-1.yaml: key 'glue_dpu_hour' is 'dear'"):
        load_prices("us-east-1")
    with pytest.raises(ParamsError, match=r"There is no params/prices/mars.yaml; the price tables are: us-east-1\."):
        load_prices("mars")


def test_estimate_assumes_the_default_job_sizes() -> None:
    assert Decimal(str(read_template("pipeline")["Parameters"]["Dpu"]["Default"])) == SMALLEST_DPU
