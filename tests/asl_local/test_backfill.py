"""Test every end of the backfill machine with scripted services."""

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
    """Return the outcomes of the dates, in the order in which they ended."""
    entered = [event["stateEnteredEventDetails"] for event in execution.events if event["type"] == "ChoiceStateEntered"]
    return [json.loads(each["input"])["outcome"] for each in entered if each["name"] == "RangeEnded"]


def test_all_dates_succeed(machines: MachineRunner) -> None:
    execution = machines.backfill(3)
    assert (execution.status, execution.output) == ("SUCCEEDED", {"outcome": "SUCCEEDED"})
    assert outcomes(execution) == ["SUCCEEDED"] * 3
    assert machines.clock.sleeps == []


def test_date_is_started_with_name_and_input(machines: MachineRunner) -> None:
    machines.backfill(1, first_stage="aggregate")
    (started,) = machines.executions.started
    assert (started["StateMachineArn"], started["Name"]) == ("the-daily", "d1")
    parent = started["Input"].pop("AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")
    assert parent.endswith(":execution:backfill:b1")
    assert started["Input"] == {
        "env": "local",
        "run_date": "2025-11-01",
        "until": "2025-11-01",
        "overrides": {"landing": "there"},
        "archive": ARCHIVE,
        "first_stage": "aggregate",
        "part_of": "b1",
    }


def test_summary_job_is_started_once(machines: MachineRunner) -> None:
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


def test_summary_job_is_started_without_dates(machines: MachineRunner) -> None:
    assert machines.backfill(0).status == "SUCCEEDED"
    assert len(machines.job.calls) == 1


def test_skipped_dates_succeed(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1="SKIPPED")
    assert machines.backfill(2).status == "SUCCEEDED"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_failed_date_does_not_stop_others(machines: MachineRunner, concurrency: int) -> None:
    machines.executions = ScriptedExecutions(d1=FAILED, d3=REJECTED)
    execution = machines.backfill(4, max_concurrency=concurrency)
    assert sorted(machines.executions.names) == ["d1", "d2", "d3", "d4"]
    assert sorted(outcomes(execution)) == ["FAILED", "REJECTED", "SUCCEEDED", "SUCCEEDED"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.DatesFailed")
    assert execution.cause == "1 run failed; b1 has the reasons."
    assert len(machines.job.calls) == 1


def test_rejected_dates_reject_backfill(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1=REJECTED, d2=REJECTED)
    execution = machines.backfill(3)
    assert (execution.status, execution.error) == ("FAILED", "Daybook.Rejected")
    assert execution.cause == "A gate rejected dates of 2 runs; b1 has the reasons."


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
def test_permanent_errors_are_not_retried(machines: MachineRunner, fault: TaskError) -> None:
    machines.executions = ScriptedExecutions(d1=fault)
    execution = machines.backfill(2)
    assert machines.executions.names == ["d1", "d2"]
    assert (outcomes(execution), execution.error) == (["FAILED", "SUCCEEDED"], "Daybook.DatesFailed")
    assert machines.clock.sleeps == []


SERVICE_FAULTS = ["ExecutionLimitExceeded", "Throttling", "ServiceUnavailable", "SdkClient", "AWSStepFunctions"]


@pytest.mark.parametrize("name", SERVICE_FAULTS)
def test_service_error_is_retried_three_times(machines: MachineRunner, name: str) -> None:
    fault = TaskError(f"StepFunctions.{name}Exception", "")
    machines.executions = ScriptedExecutions(d1=[fault, fault, fault, "SUCCEEDED"])
    assert machines.backfill(1).status == "SUCCEEDED"
    assert machines.executions.names == ["d1"] * 4
    _assert_waits_up_to(machines, [10, 20, 40])


def test_persistent_service_error_fails_date(machines: MachineRunner) -> None:
    fault = TaskError("StepFunctions.ThrottlingException", "")
    machines.executions = ScriptedExecutions(d1=[fault] * 4)
    execution = machines.backfill(2)
    assert machines.executions.names == ["d1"] * 4 + ["d2"]
    assert outcomes(execution) == ["FAILED", "SUCCEEDED"]


def _assert_waits_up_to(machines: MachineRunner, limits: list[float]) -> None:
    """Assert that each retry wait is at most the backoff. Iterations sleep one second at a time."""
    assert 0 < sum(machines.clock.sleeps) <= sum(limits)
    whole, parts = [0.0], iter(machines.clock.sleeps)
    for part in parts:
        whole[-1] += part
        if part < 1:
            whole.append(0.0)
    assert len(whole) - 1 == len(limits)
    assert all(waited <= limit for waited, limit in zip(whole, limits))


# Concurrency


def test_dates_are_started_in_order(machines: MachineRunner) -> None:
    machines.backfill(9)
    assert machines.executions.names == [f"d{number}" for number in range(1, 10)]


def test_dates_run_up_to_max_concurrency(machines: MachineRunner) -> None:
    together, lock = threading.Barrier(3, timeout=10), threading.Lock()
    running, most = 0, 0

    def meet(heartbeat: Any) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # The barrier releases three concurrent dates; a fourth would raise the maximum.
        together.wait()
        with lock:
            running -= 1
        return "SUCCEEDED"

    machines.executions = ScriptedExecutions(**{f"d{number}": meet for number in range(1, 7)})
    assert machines.backfill(6, max_concurrency=3).status == "SUCCEEDED"
    assert most == 3
    # Concurrent dates start in order.
    assert set(machines.executions.names[:3]) == {"d1", "d2", "d3"}


# Stopping


def test_fail_fast_skips_remaining_dates(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d2=FAILED)
    execution = machines.backfill(4, fail_fast=True)
    assert machines.executions.names == ["d1", "d2"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.DatesFailed")
    assert execution.cause == "b1 was stopped at its first failure."
    assert len(machines.job.calls) == 1


def test_fail_fast_ignores_rejected_dates(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(d1=REJECTED)
    assert machines.backfill(3, fail_fast=True).error == "Daybook.Rejected"
    assert len(machines.executions.names) == 3


def test_fail_fast_stops_running_dates(machines: MachineRunner) -> None:
    both = threading.Barrier(2, timeout=10)
    stopped: list[str] = []

    def fail(heartbeat: Any) -> TaskError:
        both.wait()
        return FAILED

    def work(heartbeat: Any) -> None:
        both.wait()
        try:
            while True:
                heartbeat()
        except Exception as stopping:
            stopped.append(type(stopping).__name__)
            raise

    machines.executions = ScriptedExecutions(d1=fail, d2=work)
    execution = machines.backfill(5, max_concurrency=2, fail_fast=True)
    assert stopped == ["IterationCancelled"]
    assert set(machines.executions.names) <= {"d1", "d2", "d3"}
    assert execution.cause == "b1 was stopped at its first failure."
    assert count_events(execution)["MapIterationAborted"] >= 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_interrupt_aborts_without_summary(machines: MachineRunner, concurrency: int) -> None:
    machines.executions = ScriptedExecutions(d1=KeyboardInterrupt())
    execution = machines.backfill(3, max_concurrency=concurrency)
    assert execution.status == "ABORTED"
    assert machines.job.calls == []


# The summary


def test_failed_summary_is_retried_three_times(machines: MachineRunner) -> None:
    machines.job = ScriptedService(*[TaskError("States.TaskFailed", "{}")] * 3, {"JobRunState": "SUCCEEDED"})
    assert machines.backfill(1).status == "SUCCEEDED"
    assert len(machines.clock.sleeps) == 3
    assert all(waited <= limit for waited, limit in zip(machines.clock.sleeps, [10, 20, 40]))


def test_persistently_failed_summary_fails_backfill(machines: MachineRunner) -> None:
    machines.job = ScriptedService(*[TaskError("States.TaskFailed", "the lake is gone")] * 4)
    execution = machines.backfill(1)
    assert (execution.status, execution.error) == ("FAILED", "Daybook.SummaryFailed")
    assert json.loads(execution.cause or "") == {
        "State": "Summarise",
        "Error": "States.TaskFailed",
        "Cause": "the lake is gone",
    }


def test_stopped_summary_job_fails_backfill(machines: MachineRunner) -> None:
    machines.job = ScriptedService(STOPPED_JOB)
    execution = machines.backfill(1)
    assert (execution.error, execution.cause) == ("Daybook.SummaryFailed", "The job run ended as STOPPED")


def test_summary_retries_while_job_is_busy(machines: MachineRunner) -> None:
    busy = TaskError("Glue.ConcurrentRunsExceededException", "")
    machines.job = ScriptedService(*[busy] * 20, {"JobRunState": "SUCCEEDED"})
    assert machines.backfill(1).status == "SUCCEEDED"
    assert max(machines.clock.sleeps) <= 300
