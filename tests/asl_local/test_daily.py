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
from tests.asl_local.machines import GET, JOB, START

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
        self.outcomes: Dict[str, Any] = {}
        self.read: List[str] = []
        self.runs = 0
        self.started: List[Dict[str, Any]] = []
        self.ends: List[Optional[str]] = []
        """Errors of the executions that are started, by order; None, and the end of the list, is a success."""

    def run(self, first_stage: Optional[str] = None, **more: Any) -> Execution:
        data = {"run_date": "2025-11-30", **({"first_stage": first_stage} if first_stage else {}), **more}
        return self._run(RUN, {"overrides": {}, **data})

    def run_range(self, **more: Any) -> Execution:
        data = {"run_date": "2025-11-01", "until": "2025-11-30", "overrides": {"landing": "there"}, **more}
        return self._run(RANGE, data)

    def _run(self, name: str, data: Dict[str, Any]) -> Execution:
        self.runs += 1
        return run_execution(
            StateMachine.load(state_machine_path()),
            name=name,
            input={"env": "local", "archive": {"bucket": "archive", "prefix": ""}, **data},
            services={JOB: self._run_job, GET: self._get_object, START: self._start},
            journal=self.directory / f"history-{self.runs}.jsonl",
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
        self.read.append(stage)
        outcome = self.outcomes.get(stage, {"outcome": "SUCCEEDED", "attempt": 1, "reasons": [], "rows": {}})
        if isinstance(outcome, TaskError):
            raise outcome
        return {"Body": json.dumps({"stage": stage, **outcome})}

    def _start(self, resource: str, arguments: Any, **_: Any) -> Dict[str, Any]:
        self.started.append(arguments)
        error = self.ends[len(self.started) - 1] if len(self.started) <= len(self.ends) else None
        if error:
            raise TaskError("States.TaskFailed", json.dumps({"Status": "FAILED", "Error": error, "Cause": "scripted"}))
        return {"Status": "SUCCEEDED", "Output": {"outcome": "SUCCEEDED"}}


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


# Ranges

RANGE = "range-2025-11-01-2025-11-30-1"
ENDED = {"reasons": [], "first_stage": "ingest", "halves": []}
HALVES = [
    {"run_date": "2025-11-01", "until": "2025-11-15", "run_id": "range-2025-11-01-2025-11-15-1"},
    {"run_date": "2025-11-16", "until": "2025-11-30", "run_id": "range-2025-11-16-2025-11-30-1"},
]
HALVED = {"outcome": "FAILED", "reasons": ["transform failed"], "first_stage": "ingest", "halves": HALVES}


def test_night_is_not_a_range(day: Day) -> None:
    for until in ({}, {"until": "2025-11-30"}):
        assert day.run(**until).output == {"outcome": "SUCCEEDED"}
    assert {job["--until"] for job in day.jobs} == {"none"}
    assert "range" not in day.read


def test_stages_of_a_range_get_its_dates(day: Day) -> None:
    day.outcomes["range"] = {**ENDED, "outcome": "SUCCEEDED"}
    assert day.run_range().output == {"outcome": "SUCCEEDED"}
    assert day.tried == list(STAGES)
    assert {(job["--run_date"], job["--until"], job["--run_id"]) for job in day.jobs} == {("2025-11-01", "2025-11-30", RANGE)}
    assert day.jobs[-1]["--splits"] == "0"


@pytest.mark.parametrize("outcome, error", [("REJECTED", "Daybook.Rejected"), ("FAILED", "Daybook.Failed")])
def test_range_ends_as_its_worst_date(day: Day, outcome: str, error: str) -> None:
    day.outcomes["range"] = {**ENDED, "outcome": outcome, "reasons": ["2025-11-05: it broke"]}
    execution = day.run_range()
    assert (execution.status, execution.error) == ("FAILED", error)
    assert day.tried == list(STAGES)
    if outcome == "FAILED":
        assert json.loads(str(execution.cause)) == {
            "State": "Notify", "Error": "Daybook.DatesFailed", "Cause": "2025-11-05: it broke"
        }  # fmt: skip


def test_range_whose_dates_are_skipped_succeeds(day: Day) -> None:
    day.outcomes["ingest"] = {"outcome": "SKIPPED"}
    day.outcomes["range"] = {**ENDED, "outcome": "SKIPPED"}
    assert day.run_range().output == {"outcome": "SKIPPED"}
    assert day.tried == ["ingest", "notify"]


def test_halves_of_a_failed_range_are_run_in_order(day: Day) -> None:
    day.faults["transform"], day.outcomes["range"] = 4, HALVED
    execution = day.run_range(part_of="b1")
    assert execution.output == {"outcome": "SUCCEEDED"}
    assert [each["Name"] for each in day.started] == [half["run_id"] for half in HALVES]
    assert {each["StateMachineArn"].rpartition(":")[2] for each in day.started} == {"daily"}
    asked = day.started[0]["Input"]
    assert asked.pop("AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID").endswith(RANGE)
    assert asked == {
        "env": "local",
        "run_date": "2025-11-01",
        "until": "2025-11-15",
        "overrides": {"landing": "there"},
        "archive": {"bucket": "archive", "prefix": ""},
        "first_stage": "ingest",
        "part_of": "b1",
        "splits": 1,
    }


def test_halves_count_splits_and_begin_at_the_same_stage(day: Day) -> None:
    day.faults["quality"], day.outcomes["range"] = 4, {**HALVED, "first_stage": "aggregate"}
    day.run_range(splits=3, first_stage="aggregate")
    assert day.jobs[-1]["--splits"] == "3"
    assert {(each["Input"]["splits"], each["Input"]["first_stage"]) for each in day.started} == {(4, "aggregate")}


def test_half_of_one_date_is_its_run(day: Day) -> None:
    half = {"run_date": "2025-11-01", "run_id": "daily-2025-11-01-3"}
    day.faults["transform"], day.outcomes["range"] = 4, {**HALVED, "halves": [half]}
    day.run_range()
    assert (day.started[0]["Name"], day.started[0]["Input"]["until"]) == ("daily-2025-11-01-3", "2025-11-01")


@pytest.mark.parametrize(
    "ends, error",
    [(["Daybook.Failed", None], "Daybook.Failed"), ([None, "Daybook.Rejected"], "Daybook.Rejected")],
)
def test_range_ends_as_its_worst_half(day: Day, ends: List[Optional[str]], error: str) -> None:
    day.faults["transform"], day.outcomes["range"], day.ends = 4, HALVED, ends
    execution = day.run_range()
    assert (execution.status, execution.error) == ("FAILED", error)
    assert len(day.started) == 2
    if error == "Daybook.Failed":
        assert json.loads(str(execution.cause))["Cause"] == f"These halves failed: {HALVES[0]['run_id']}"


def test_unreadable_outcome_fails_the_range(day: Day) -> None:
    day.outcomes["range"] = TaskError("S3.NoSuchKeyException", "no range.json")
    execution = day.run_range()
    assert (execution.error, json.loads(str(execution.cause))["State"]) == ("Daybook.Failed", "ReadRangeOutcome")
    assert day.read.count("range") == 4
