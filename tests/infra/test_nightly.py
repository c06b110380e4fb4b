"""``nightly.asl.json`` starts a date once, whoever asks, however late or often; and whoever asks hands it what it reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from daybook.schedule import SLOT
from daybook.states import Execution, FakeClock, StateMachine, TaskError, lint, run_execution

from .templates import INFRA, Template, machine_file, scheduled_input

MACHINE = INFRA.parent / "orchestration" / "nightly.asl.json"
START = "arn:aws:states:::states:startExecution"
INPUT = {"env": "prod", "overrides": {}, "archive": {"bucket": "b", "prefix": ""}, "daily": "arn:daily"}


class StepFunctions:
    """StartExecution: a name is taken once, and starting the same again while it runs is answered with what runs."""

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.started: Dict[str, Any] = {}
        self.calls = 0

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        self.calls += 1
        if self.faults:
            raise TaskError(self.faults.pop(0), "no")
        name = arguments["Name"]
        if self.started.setdefault(name, arguments["Input"]) != arguments["Input"]:
            raise TaskError("StepFunctions.ExecutionAlreadyExistsException", f"Execution Already Exists: '{name}'")
        return {"ExecutionArn": f"arn:{name}", "StartDate": "2025-12-01T02:00:01Z"}


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    asked: List[int] = []

    def run(services: StepFunctions, given: Dict[str, Any]) -> Tuple[Execution, FakeClock]:
        asked.append(1)
        clock = FakeClock()
        execution = run_execution(
            StateMachine.load(MACHINE),
            name=f"delivery-{len(asked)}",
            input=given,
            services={START: services},
            journal=tmp_path / f"{len(asked)}.jsonl",
            clock=clock,
        )
        return execution, clock

    return run


def test_the_machine_keeps_the_projects_rules() -> None:
    assert lint(MACHINE) == []


@pytest.mark.parametrize(
    ("scheduled", "run_date"),
    [
        ("2025-12-01T02:00:00Z", "2025-11-30"),
        ("2024-03-01T02:00:00Z", "2024-02-29"),
        ("2026-01-01T02:00:00Z", "2025-12-31"),
        # The night in which Berlin's clocks go forward, and the one in which they go back.
        ("2025-03-30T02:00:00Z", "2025-03-29"),
        ("2025-10-26T02:00:00Z", "2025-10-25"),
    ],
)
def test_the_schedule_starts_the_day_before_its_moment(ask: Any, scheduled: str, run_date: str) -> None:
    services = StepFunctions()
    execution, _ = ask(services, {**INPUT, "scheduled_time": scheduled})
    assert execution.output == {"run_id": f"daily-{run_date}-1", "started": True}
    (started,) = services.started.values()
    assert {key: started[key] for key in ("env", "run_date", "overrides", "archive")} == {
        "env": "prod",
        "run_date": run_date,
        "overrides": {},
        "archive": {"bucket": "b", "prefix": ""},
    }


def test_a_delivery_that_comes_twice_starts_the_date_once(ask: Any) -> None:
    services = StepFunctions()
    first, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    second, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (first.status, second.status) == ("SUCCEEDED", "SUCCEEDED")
    assert [first.output["started"], second.output["started"]] == [True, False]
    assert list(services.started) == ["daily-2025-11-30-1"]


def test_a_manifest_starts_its_date_and_the_schedule_then_finds_it_started(ask: Any) -> None:
    services = StepFunctions()
    by_manifest, _ = ask(services, {**INPUT, "manifest": "manifests/2025-11-30.json"})
    by_clock, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (by_manifest.output["started"], by_clock.output["started"]) == (True, False)
    assert list(services.started) == ["daily-2025-11-30-1"]


@pytest.mark.parametrize("key", ["manifests/today.json", "manifests/2025-11-30.csv", "manifests/shop-2025-11-30.json"])
def test_a_manifest_without_a_date_fails_with_a_sentence_and_starts_nothing(ask: Any, key: str) -> None:
    services = StepFunctions()
    execution, _ = ask(services, {**INPUT, "manifest": key})
    assert (execution.status, execution.error) == ("FAILED", "Daybook.NoDate")
    assert execution.cause == f"The manifest {key} has no date in its name; call it YYYY-MM-DD.json."
    assert services.started == {}


def test_a_fault_of_the_service_is_tried_again(ask: Any) -> None:
    services = StepFunctions("StepFunctions.ThrottlingException", "StepFunctions.ServiceUnavailableException")
    execution, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert execution.output["started"] is True
    assert services.calls == 3


def test_what_cannot_be_started_fails_and_says_why(ask: Any) -> None:
    services = StepFunctions("StepFunctions.StateMachineDoesNotExistException")
    execution, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (execution.status, execution.error) == ("FAILED", "Daybook.NotStarted")
    assert json.loads(execution.cause or "") == {"Error": "StepFunctions.StateMachineDoesNotExistException", "Cause": "no"}
    assert services.calls == 1


def test_what_the_schedule_hands_over_is_what_the_machine_reads(ask: Any) -> None:
    services = StepFunctions()
    given = scheduled_input(Template("pipeline"), "NightlySchedule", "2025-12-01T02:00:00Z")
    execution, _ = ask(services, given)
    assert execution.output == {"run_id": "daily-2025-11-30-1", "started": True}
    (started,) = services.started.values()
    assert started["archive"] == {"bucket": "daybook-prod-archive", "prefix": ""}
    assert given["daily"] == "arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-daily"


def test_what_a_manifest_hands_over_is_what_the_machine_reads(ask: Any) -> None:
    (target,) = Template("pipeline").of_type("AWS::Events::Rule")["Manifests"]["Targets"]
    text = target["InputTransformer"]["InputTemplate"]
    assert target["InputTransformer"]["InputPathsMap"] == {"key": "$.detail.object.key"}
    # EventBridge puts a text in quotes where the template has none.
    services = StepFunctions()
    execution, _ = ask(services, json.loads(text.replace("<key>", '"manifests/2025-11-30.json"')))
    assert execution.output == {"run_id": "daily-2025-11-30-1", "started": True}


def test_what_the_daily_machine_reads_is_handed_on(ask: Any) -> None:
    services = StepFunctions()
    ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    (started,) = services.started.values()
    assert _needed(machine_file("daily")) <= set(started)


def test_the_catch_up_gets_what_its_machine_reads() -> None:
    assert _needed(machine_file("catch_up")) <= set(scheduled_input(Template("pipeline"), "CatchUpSchedule"))


def test_the_schedule_fires_at_the_slot_of_the_nightly_run_in_utc() -> None:
    nightly = Template("pipeline").resources["NightlySchedule"]["Properties"]
    assert nightly["ScheduleExpression"] == f"cron({SLOT.minute} {SLOT.hour} * * ? *)"
    assert nightly["ScheduleExpressionTimezone"] == "UTC"


def _needed(machine: Any) -> set[str]:
    """The fields of its input that a machine's first state reads without asking whether they are there."""
    text = json.dumps(machine["States"][machine["StartAt"]])
    read = set(re.findall(r"\$states\.input\.(\w+)", text))
    return read - set(re.findall(r"\$exists\(\$states\.input\.(\w+)\)", text))
