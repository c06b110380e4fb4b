"""The daily machine with scripted jobs: which failures are retried, and how the execution ends."""

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
    """The daily machine, whose jobs succeed unless ``faults`` counts some, with the outcomes of ``outcomes``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.jobs: List[Dict[str, Any]] = []
        self.faults: Dict[str, int] = {}
        self.outcomes: Dict[str, Dict[str, Any]] = {}

    def run(self, first_stage: Optional[str] = None) -> Execution:
        started = {"env": "local", "run_date": "2025-11-30", "overrides": {}, "archive": {"bucket": "archive", "prefix": ""}}
        return run_execution(
            StateMachine.load(state_machine_path()),
            name=RUN,
            input={**started, **({"first_stage": first_stage} if first_stage else {})},
            services={JOB: self._run_job, GET: self._get_object},
            journal=self.place / "history.jsonl",
            clock=FakeClock(),
            random=Random(7),  # noqa: S311
        )

    @property
    def tried(self) -> List[str]:
        return [each["--stage"] for each in self.jobs]

    def _run_job(self, resource: str, arguments: Any, **_: Any) -> Dict[str, Any]:
        given = arguments["Arguments"]
        self.jobs.append(given)
        if self.faults.get(given["--stage"], 0) >= self.tried.count(given["--stage"]):
            raise FAULT
        return {"JobRunState": "SUCCEEDED"}

    def _get_object(self, resource: str, arguments: Any, **_: Any) -> Dict[str, Any]:
        stage = Path(arguments["Key"]).stem
        told = self.outcomes.get(stage, {"outcome": "SUCCEEDED", "attempt": 1, "reasons": [], "rows": {}})
        return {"Body": json.dumps({"stage": stage, **told})}


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day(tmp_path)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_permanent_failure_goes_to_notify_and_fails(day: Day, stage: str) -> None:
    day.outcomes[stage] = PERMANENT
    execution = day.run()
    assert day.tried == [*STAGES[: STAGES.index(stage) + 1], "notify"]
    assert (execution.status, execution.error) == ("FAILED", "Daybook.Failed")
    caught = {"State": stage.capitalize(), "Error": PERMANENT_FAILURE, "Cause": REASON}
    assert json.loads(day.jobs[-1]["--failure"]) == caught
    assert json.loads(str(execution.cause)) == caught


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_fault_is_tried_four_times(day: Day, stage: str) -> None:
    day.faults[stage] = 4
    execution = day.run()
    assert day.tried == [*STAGES[: STAGES.index(stage)], *[stage] * 4, "notify"]
    assert execution.error == "Daybook.Failed"
    assert json.loads(day.jobs[-1]["--failure"])["Error"] == "States.TaskFailed"


def test_a_permanent_failure_after_faults_ends_retries(day: Day) -> None:
    day.faults["ingest"], day.outcomes["ingest"] = 2, PERMANENT
    assert day.run().error == "Daybook.Failed"
    assert day.tried == [*["ingest"] * 3, "notify"]


def test_notify_failing_after_a_permanent_failure_is_told(day: Day) -> None:
    day.outcomes["ingest"], day.faults["notify"] = PERMANENT, 4
    execution = day.run()
    assert day.tried == ["ingest", *["notify"] * 4]
    assert execution.error == "Daybook.NotifyFailed"
    assert REASON in json.loads(json.loads(str(execution.cause))["Run"])["Cause"]


@pytest.mark.parametrize("reasons", [[], None, ["x" * 5000], ["one", "two"]])
def test_any_reasons_of_a_permanent_failure_reach_notify(day: Day, reasons: Any) -> None:
    day.outcomes["ingest"] = {"outcome": "FAILED", **({} if reasons is None else {"reasons": reasons})}
    execution = day.run()
    assert (execution.error, day.tried) == ("Daybook.Failed", ["ingest", "notify"])
    assert json.loads(day.jobs[-1]["--failure"]).get("Cause", "") == " ".join(reasons or [])[:2000]


def test_a_run_resumed_at_a_stage_can_fail_permanently(day: Day) -> None:
    day.outcomes["transform"] = PERMANENT
    assert day.run(first_stage="transform").error == "Daybook.Failed"
    assert day.tried == ["transform", "notify"]
