"""The project's backfill machine: every way it can end, with services that play."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from asl_local import Execution, TaskError
from tests.asl_local.dates import ARCHIVE, FAILED, REJECTED, MachineRunner, ScriptedExecutions
from tests.asl_local.machines import ScriptedService, count_events

STOPPED_JOB = {"JobRunState": "STOPPED"}


@pytest.fixture
def machines(tmp_path: Any) -> MachineRunner:
    return MachineRunner(tmp_path)


def outcomes(execution: Execution) -> list[str]:
    """What the dates came to, in the order in which they ended."""
    entered = [event["stateEnteredEventDetails"] for event in execution.events if event["type"] == "ChoiceStateEntered"]
    return [json.loads(each["input"])["outcome"] for each in entered if each["name"] == "DateEnded"]


def test_all_dates_good(machines: MachineRunner) -> None:
    execution = machines.backfill(3)
    assert (execution.status, execution.output) == ("SUCCEEDED", {"outcome": "SUCCEEDED"})
    assert outcomes(execution) == ["SUCCEEDED"] * 3
    assert machines.clock.sleeps == []


def test_a_date_is_started_with_its_name_and_all_that_its_run_needs(machines: MachineRunner) -> None:
    machines.backfill(1, first_stage="aggregate")
    (started,) = machines.executions.started
    assert (started["StateMachineArn"], started["Name"]) == ("the-daily", "d1")
    parent = started["Input"].pop("AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")
    assert parent.endswith(":execution:backfill:b1")
    assert started["Input"] == {
        "env": "local",
        "run_date": "2025-11-01",
        "overrides": {"landing": "there"},
        "archive": ARCHIVE,
        "first_stage": "aggregate",
        "part_of": "b1",
    }


def test_the_summary_is_asked_for_once_by_the_backfills_name(machines: MachineRunner) -> None:
    machines.backfill(3)
    (call,) = machines.job.calls
    assert call == {
        "JobName": "daybook-local-errand",
        "Arguments": {
            "--bundle": "${BundleUri}",
            "--topic_arn": "${TopicArn}",
            "--errand": "summary",
            "--env": "local",
            "--execution": "b1",
            "--overrides": '{"landing":"there"}',
        },
    }


def test_without_dates_there_is_still_a_summary(machines: MachineRunner) -> None:
    assert machines.backfill(0).status == "SUCCEEDED"
    assert len(machines.job.calls) == 1


def test_skipped_dates_are_good(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1="SKIPPED")
    assert machines.backfill(2).status == "SUCCEEDED"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_one_bad_date_does_not_stop_the_others(machines: MachineRunner, concurrency: int) -> None:
    machines.executions = ScriptedExecutions(d1=FAILED, d3=REJECTED)
    execution = machines.backfill(4, max_concurrency=concurrency)
    assert sorted(machines.executions.names) == ["d1", "d2", "d3", "d4"]
    assert sorted(outcomes(execution)) == ["FAILED", "REJECTED", "SUCCEEDED", "SUCCEEDED"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.DatesFailed")
    assert execution.cause == "1 date failed; b1 has the reasons."
    assert len(machines.job.calls) == 1


def test_dates_that_are_only_rejected_reject_the_backfill(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1=REJECTED, d2=REJECTED)
    execution = machines.backfill(3)
    assert (execution.status, execution.error) == ("FAILED", "Daybook.Rejected")
    assert execution.cause == "A gate rejected 2 of the dates; b1 has the reasons."


@pytest.mark.parametrize(
    "fault",
    [
        FAILED,
        TaskError("Daybook.DateHeld", "2025-11-01 is being run by daily-2025-11-01-2"),
        TaskError("Daybook.Fault", "OSError: no space left"),
        TaskError("StepFunctions.ExecutionAlreadyExistsException", "d1 is there"),
        TaskError("States.Timeout", ""),
    ],
    ids=lambda fault: fault.error,
)
def test_what_another_try_cannot_mend_is_not_tried_again(machines: MachineRunner, fault: TaskError) -> None:
    machines.executions = ScriptedExecutions(d1=fault)
    execution = machines.backfill(2)
    assert machines.executions.names == ["d1", "d2"]
    assert (outcomes(execution), execution.error) == (["FAILED", "SUCCEEDED"], "Daybook.DatesFailed")
    assert machines.clock.sleeps == []


SERVICE_FAULTS = ["ExecutionLimitExceeded", "Throttling", "ServiceUnavailable", "SdkClient", "AWSStepFunctions"]


@pytest.mark.parametrize("name", SERVICE_FAULTS)
def test_a_fault_of_the_service_is_tried_again_three_times_ever_later(machines: MachineRunner, name: str) -> None:
    fault = TaskError(f"StepFunctions.{name}Exception", "")
    machines.executions = ScriptedExecutions(d1=[fault, fault, fault, "SUCCEEDED"])
    assert machines.backfill(1).status == "SUCCEEDED"
    assert machines.executions.names == ["d1"] * 4
    _assert_waits_up_to(machines, [10, 20, 40])


def test_a_fault_of_the_service_that_stays_fails_the_date(machines: MachineRunner) -> None:
    fault = TaskError("StepFunctions.ThrottlingException", "")
    machines.executions = ScriptedExecutions(d1=[fault] * 4)
    execution = machines.backfill(2)
    assert machines.executions.names == ["d1"] * 4 + ["d2"]
    assert outcomes(execution) == ["FAILED", "SUCCEEDED"]


def _assert_waits_up_to(machines: MachineRunner, most: list[float]) -> None:
    """Full jitter: each wait is somewhere up to the backoff; waits of dates are slept a second at a time."""
    assert 0 < sum(machines.clock.sleeps) <= sum(most)
    whole, parts = [0.0], iter(machines.clock.sleeps)
    for part in parts:
        whole[-1] += part
        if part < 1:
            whole.append(0.0)
    assert len(whole) - 1 == len(most)
    assert all(waited <= limit for waited, limit in zip(whole, most))


# At once


def test_dates_are_started_in_their_order(machines: MachineRunner) -> None:
    machines.backfill(9)
    assert machines.executions.names == [f"d{number}" for number in range(1, 10)]


def test_so_many_dates_run_at_once_and_no_more(machines: MachineRunner) -> None:
    together, lock = threading.Barrier(3, timeout=10), threading.Lock()
    running, most = 0, 0

    def meet(heartbeat: Any) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # Three must be there at once for any to go on; a fourth would be counted.
        together.wait()
        with lock:
            running -= 1
        return "SUCCEEDED"

    machines.executions = ScriptedExecutions(**{f"d{number}": meet for number in range(1, 7)})
    assert machines.backfill(6, max_concurrency=3).status == "SUCCEEDED"
    assert most == 3
    # Side by side, the order holds for who comes first.
    assert set(machines.executions.names[:3]) == {"d1", "d2", "d3"}


# Stopping


def test_at_the_first_failure_the_rest_is_left_out_and_summed_up(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d2=FAILED)
    execution = machines.backfill(4, fail_fast=True)
    assert machines.executions.names == ["d1", "d2"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.DatesFailed")
    assert execution.cause == "b1 was stopped at its first failure."
    assert len(machines.job.calls) == 1


def test_a_rejected_date_is_no_failure_to_stop_at(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1=REJECTED)
    assert machines.backfill(3, fail_fast=True).error == "Daybook.Rejected"
    assert len(machines.executions.names) == 3


def test_at_the_first_failure_dates_under_way_are_told_to_stop(machines: MachineRunner) -> None:
    both = threading.Barrier(2, timeout=10)
    told: list[str] = []

    def fail(heartbeat: Any) -> TaskError:
        both.wait()
        return FAILED

    def work(heartbeat: Any) -> None:
        both.wait()
        try:
            while True:
                heartbeat()
        except Exception as stopping:
            told.append(type(stopping).__name__)
            raise

    machines.executions = ScriptedExecutions(d1=fail, d2=work)
    execution = machines.backfill(5, max_concurrency=2, fail_fast=True)
    assert told == ["Cancelled"]
    assert set(machines.executions.names) <= {"d1", "d2", "d3"}
    assert execution.cause == "b1 was stopped at its first failure."
    assert count_events(execution)["MapIterationAborted"] >= 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_ends_it_without_a_summary(machines: MachineRunner, concurrency: int) -> None:
    machines.executions = ScriptedExecutions(d1=KeyboardInterrupt())
    execution = machines.backfill(3, max_concurrency=concurrency)
    assert execution.status == "ABORTED"
    assert machines.job.calls == []


# The summary


def test_a_summary_that_fails_is_tried_three_times_more(machines: MachineRunner) -> None:
    machines.job = ScriptedService(*[TaskError("States.TaskFailed", "{}")] * 3, {"JobRunState": "SUCCEEDED"})
    assert machines.backfill(1).status == "SUCCEEDED"
    assert len(machines.clock.sleeps) == 3
    assert all(waited <= most for waited, most in zip(machines.clock.sleeps, [10, 20, 40]))


def test_a_summary_that_fails_for_good_fails_the_backfill(machines: MachineRunner) -> None:
    machines.job = ScriptedService(*[TaskError("States.TaskFailed", "the lake is gone")] * 4)
    execution = machines.backfill(1)
    assert (execution.status, execution.error) == ("FAILED", "Daybook.SummaryFailed")
    assert json.loads(execution.cause or "") == {
        "State": "Summarise",
        "Error": "States.TaskFailed",
        "Cause": "the lake is gone",
    }


def test_a_summary_that_was_stopped_is_no_summary(machines: MachineRunner) -> None:
    machines.job = ScriptedService(STOPPED_JOB)
    execution = machines.backfill(1)
    assert (execution.error, execution.cause) == ("Daybook.SummaryFailed", "The job run ended as STOPPED")


def test_a_summary_waits_for_its_turn(machines: MachineRunner) -> None:
    busy = TaskError("Glue.ConcurrentRunsExceededException", "")
    machines.job = ScriptedService(*[busy] * 20, {"JobRunState": "SUCCEEDED"})
    assert machines.backfill(1).status == "SUCCEEDED"
    assert max(machines.clock.sleeps) <= 300
