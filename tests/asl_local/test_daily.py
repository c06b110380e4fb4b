"""Test retries and ends of the daily machine with scripted jobs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Dict, List, Optional

import pytest

from asl_local import Execution, FakeClock, StateMachine, TaskError, run_execution
from daybook.records.fingerprint import state_machine_path
from daybook.records.names import STAGES
from daybook.records.notifications import PERMANENT_FAILURE
from tests.asl_local.machines import GET, JOB

RUN = "daily-2025-11-30-1"
FAULT = TaskError("States.TaskFailed", json.dumps({"JobRunState": "FAILED", "ErrorMessage": "KernelDied"}))
REASON = 'ingest failed in cell 4 (attempt 1): MissingFileError: "a\'b".csv is not there.'
PERMANENT = {"outcome": "FAILED", "permanent": True, "attempt": 1, "reasons": [REASON], "rows": {}}


class Day:
    """Run the daily machine. Jobs fail as often as ``faults`` tells, and end with ``outcomes``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jobs: List[Dict[str, Any]] = []
        self.faults: Dict[str, int] = {}
        self.outcomes: Dict[str, Dict[str, Any]] = {}

    def run(self, first_stage: Optional[str] = None) -> Execution:
        data = {"env": "local", "run_date": "2025-11-30", "overrides": {}, "archive": {"bucket": "archive", "prefix": ""}}
        return run_execution(
            StateMachine.load(state_machine_path()),
            name=RUN,
            input={**data, **({"first_stage": first_stage} if first_stage else {})},
            services={JOB: self._run_job, GET: self._get_object},
            journal=self.directory / "history.jsonl",
            clock=FakeClock(),
            random=Random(7),  # noqa: S311
        )

    @property
    def tried(self) -> List[str]:
        return [job["--stage"] for job in self.jobs]

    def _run_job(self, resource: str, arguments: Any, **_: Any) -> Dict[str, Any]:
        stage = arguments["Arguments"]["--stage"]
        self.jobs.append(arguments["Arguments"])
        if self.faults.get(stage, 0) >= self.tried.count(stage):
            raise FAULT
        return {"JobRunState": "SUCCEEDED"}

    def _get_object(self, resource: str, arguments: Any, **_: Any) -> Dict[str, Any]:
        stage = Path(arguments["Key"]).stem
        outcome = self.outcomes.get(stage, {"outcome": "SUCCEEDED", "attempt": 1, "reasons": [], "rows": {}})
        return {"Body": json.dumps({"stage": stage, **outcome})}


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day(tmp_path)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_permanent_failure_runs_notify_and_fails(day: Day, stage: str) -> None:
    day.outcomes[stage] = PERMANENT
    execution = day.run()
    assert day.tried == [*STAGES[: STAGES.index(stage) + 1], "notify"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.Failed")
    caught = {"State": stage.capitalize(), "Error": PERMANENT_FAILURE, "Cause": REASON}
    assert json.loads(day.jobs[-1]["--failure"]) == caught
    assert json.loads(str(execution.cause)) == caught


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_fault_is_tried_four_times(day: Day, stage: str) -> None:
    day.faults[stage] = 4
    execution = day.run()
    assert day.tried == [*STAGES[: STAGES.index(stage)], *[stage] * 4, "notify"]
    assert execution.error == "Daybook.Failed"
    assert json.loads(day.jobs[-1]["--failure"])["Error"] == "States.TaskFailed"


def test_permanent_failure_after_faults_ends_retries(day: Day) -> None:
    day.faults["ingest"], day.outcomes["ingest"] = 2, PERMANENT
    assert day.run().error == "Daybook.Failed"
    assert day.tried == [*["ingest"] * 3, "notify"]


def test_cause_contains_failures_of_notify_and_stage(day: Day) -> None:
    day.outcomes["ingest"], day.faults["notify"] = PERMANENT, 4
    execution = day.run()
    assert day.tried == ["ingest", *["notify"] * 4]
    assert execution.error == "Daybook.NotifyFailed"
    assert REASON in json.loads(json.loads(str(execution.cause))["Run"])["Cause"]


@pytest.mark.parametrize("reasons", [[], None, ["x" * 5000], ["one", "two"]])
def test_notify_gets_reasons_of_permanent_failure(day: Day, reasons: Any) -> None:
    day.outcomes["ingest"] = {"outcome": "FAILED", **({} if reasons is None else {"reasons": reasons})}
    execution = day.run()
    assert (execution.error, day.tried) == ("Daybook.Failed", ["ingest", "notify"])
    assert json.loads(day.jobs[-1]["--failure"]).get("Cause", "") == " ".join(reasons or [])[:2000]


def test_run_from_first_stage_can_fail_permanently(day: Day) -> None:
    day.outcomes["transform"] = PERMANENT
    assert day.run(first_stage="transform").error == "Daybook.Failed"
    assert day.tried == ["transform", "notify"]
