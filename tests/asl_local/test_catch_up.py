"""Test every end of the catch-up machine with scripted services."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asl_local import TaskError
from tests.asl_local.dates import ARCHIVE, MachineRunner, ScriptedExecutions, build_task_error
from tests.asl_local.machines import ScriptedService

GAPS = {"gaps": 2, "backfill_id": "b7", "ranges": [{"run_date": "2025-11-03", "run_id": "d3"}]}
FAULT = TaskError("States.TaskFailed", "no such folder")


@pytest.fixture
def machines(tmp_path: Any) -> MachineRunner:
    return MachineRunner(tmp_path)


def test_gaps_are_found_and_backfilled(machines: MachineRunner) -> None:
    execution = machines.catch_up(GAPS)
    assert (execution.status, execution.output) == ("SUCCEEDED", {"outcome": "SUCCEEDED"})
    (call,) = machines.job.calls
    assert call["JobName"] == "daybook-local-errand"
    assert call["Arguments"] == {
        "--bundle": "${BundleUri}",
        "--topic_arn": "${TopicArn}",
        "--errand": "gaps",
        "--env": "local",
        "--execution": "c1",
        "--overrides": '{"landing":"there"}',
        "--limit": "7",
        "--since": "none",
        "--until": "none",
        "--include_stale": "no",
        "--chunk": "month",
    }
    assert machines.object.calls == [{"Bucket": "archive", "Key": "in/outcomes/c1/gaps.json"}]
    (started,) = machines.executions.started
    assert (started["StateMachineArn"], started["Name"]) == ("the-backfill", "b7")
    assert started["Input"].pop("AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID").endswith(":execution:catch_up:c1")
    assert started["Input"] == {
        "env": "local",
        "overrides": {"landing": "there"},
        "archive": ARCHIVE,
        "daily": "the-daily",
        "backfill_id": "b7",
        "ranges": GAPS["ranges"],
        "max_concurrency": 2,
    }


def test_gap_filters_are_passed_to_job(machines: MachineRunner) -> None:
    machines.catch_up(GAPS, since="2025-11-01", until="2025-11-09", include_stale=True)
    arguments = machines.job.calls[0]["Arguments"]
    assert (arguments["--since"], arguments["--until"], arguments["--include_stale"]) == ("2025-11-01", "2025-11-09", "yes")


def test_no_gaps_start_no_backfill(machines: MachineRunner) -> None:
    execution = machines.catch_up({"gaps": 0, "ranges": []})
    assert (execution.status, machines.executions.started) == ("SUCCEEDED", [])


def test_failed_backfill_fails_catch_up_without_retry(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(b7=build_task_error("Daybook.DatesFailed"))
    execution = machines.catch_up(GAPS)
    assert (execution.status, execution.error) == ("FAILED", "Daybook.CatchUpFailed")
    assert "Daybook.DatesFailed" in (execution.cause or "")
    assert machines.executions.names == ["b7"]


def test_service_error_is_retried_three_times(machines: MachineRunner) -> None:
    fault = TaskError("StepFunctions.ThrottlingException", "")
    machines.executions = ScriptedExecutions(b7=[fault, fault, fault, "SUCCEEDED"])
    assert machines.catch_up(GAPS).status == "SUCCEEDED"
    assert len(machines.clock.sleeps) == 3
    assert all(waited <= limit for waited, limit in zip(machines.clock.sleeps, [10, 20, 40]))


def test_failed_gap_search_is_retried_three_times(machines: MachineRunner) -> None:
    machines.job = ScriptedService(FAULT, FAULT, FAULT, {"JobRunState": "SUCCEEDED"})
    assert machines.catch_up(GAPS).status == "SUCCEEDED"
    assert len(machines.clock.sleeps) == 3


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        ([FAULT] * 4, {"State": "FindGaps", "Error": "States.TaskFailed", "Cause": "no such folder"}),
        ([{"JobRunState": "STOPPED"}], "The job run ended as STOPPED"),
    ],
    ids=["failed", "stopped"],
)
def test_failed_gap_search_starts_no_backfill(machines: MachineRunner, job: list[Any], cause: Any) -> None:
    machines.job = ScriptedService(*job)
    execution = machines.catch_up(GAPS)
    assert execution.error == "Daybook.CatchUpFailed"
    assert (json.loads(execution.cause or "") if isinstance(cause, dict) else execution.cause) == cause
    assert machines.executions.started == []


def test_unreadable_gaps_fail_catch_up(machines: MachineRunner) -> None:
    machines.object = ScriptedService(*[TaskError("S3.NoSuchKeyException", "no gaps.json")] * 4)
    execution = machines.catch_up()
    assert json.loads(execution.cause or "")["State"] == "ReadGaps"
    assert machines.executions.started == []


def test_interrupted_backfill_aborts_catch_up(machines: MachineRunner) -> None:
    machines.executions = ScriptedExecutions(b7=KeyboardInterrupt())
    assert machines.catch_up(GAPS).status == "ABORTED"
