"""Test that ``nightly.asl.json`` starts a date once, and that schedules and manifests pass its input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from asl_local import Execution, FakeClock, StateMachine, TaskError, lint_file, run_execution
from daybook.records.archive import Archive
from daybook.scheduling.due import RUN_TIME
from daybook.settings import load_settings
from tests.infra.policies import matches
from tests.infra.templates import INFRA, Template, load_machine, scheduled_input

MACHINE = INFRA.parent / "orchestration" / "nightly.asl.json"
LIST = "arn:aws:states:::aws-sdk:s3:listObjectsV2"
START = "arn:aws:states:::states:startExecution"
MANIFEST = {"manifest": "manifests/2025-11-30.json", "landed_at": "2025-12-01T01:00:00Z"}
INPUT = {"env": "prod", "overrides": {}, "archive": {"bucket": "b", "prefix": ""}, "daily": "arn:daily"}


class StepFunctions:
    """StartExecution: a name is accepted once; the same start again returns the running execution."""

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


class Runs:
    """ListObjectsV2 of an archive with runs of some dates."""

    def __init__(self, *dates: str) -> None:
        self.dates = dates
        self.fault: Optional[str] = None
        self.asked: List[Any] = []

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        self.asked.append(arguments)
        if self.fault:
            raise TaskError(self.fault, "no")
        keys = [f"run_date={each}/daily-{each}-1/run.json" for each in self.dates]
        found = [{"Key": key} for key in keys if key.startswith(arguments["Prefix"])]
        return {"KeyCount": len(found), **({"Contents": found} if found else {})}


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    asked: List[int] = []

    def run(services: StepFunctions, given: Dict[str, Any], runs: Optional[Runs] = None) -> Tuple[Execution, FakeClock]:
        asked.append(1)
        clock = FakeClock()
        execution = run_execution(
            StateMachine.load(MACHINE),
            name=f"delivery-{len(asked)}",
            input=given,
            services={START: services, LIST: runs or Runs()},
            journal=tmp_path / f"{len(asked)}.jsonl",
            clock=clock,
        )
        return execution, clock

    return run


def test_nightly_machine_passes_lint() -> None:
    assert lint_file(MACHINE) == []


@pytest.mark.parametrize(
    ("scheduled", "run_date"),
    [
        ("2025-12-01T02:00:00Z", "2025-11-30"),
        ("2024-03-01T02:00:00Z", "2024-02-29"),
        ("2026-01-01T02:00:00Z", "2025-12-31"),
        # The nights of the clock changes in Berlin.
        ("2025-03-30T02:00:00Z", "2025-03-29"),
        ("2025-10-26T02:00:00Z", "2025-10-25"),
    ],
)
def test_schedule_starts_previous_day(ask: Any, scheduled: str, run_date: str) -> None:
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


def test_repeated_delivery_starts_date_once(ask: Any) -> None:
    services = StepFunctions()
    first, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    second, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (first.status, second.status) == ("SUCCEEDED", "SUCCEEDED")
    assert [first.output["started"], second.output["started"]] == [True, False]
    assert list(services.started) == ["daily-2025-11-30-1"]


def test_schedule_skips_date_started_by_manifest(ask: Any) -> None:
    services = StepFunctions()
    by_manifest, _ = ask(services, {**INPUT, **MANIFEST})
    by_clock, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (by_manifest.output["started"], by_clock.output["started"]) == (True, False)
    assert list(services.started) == ["daily-2025-11-30-1"]


KEYS = [
    ("manifests/2025-11-30.json", True),
    ("manifests/2024-02-29.json", True),
    ("manifests/2000-02-29.json", True),
    ("manifests/today.json", False),
    ("manifests/2025-11-30.csv", False),
    ("manifests/2025-11-30.json.json", False),
    ("manifests/shop-2025-11-30.json", False),
    ("manifests/shop/2025-11-30.json", False),
    ("other/manifests/2025-11-30.json", False),
    ("manifests/2025-11-30.json\n", False),
    ("manifests/\u0662\u0660\u0662\u0665-11-30.json", False),
    ("manifests/2025-11-3\uff10.json", False),
    # Invalid dates.
    ("manifests/2025-02-29.json", False),
    ("manifests/1900-02-29.json", False),
    ("manifests/2025-00-10.json", False),
    ("manifests/2025-13-10.json", False),
    ("manifests/2025-11-31.json", False),
    ("manifests/2025-11-00.json", False),
    ("manifests/0000-11-30.json", False),
]
"""Keys of objects in landing, and whether they contain a business date."""


@pytest.mark.parametrize(("key", "named"), KEYS)
def test_manifest_without_valid_date_starts_nothing(ask: Any, key: str, named: bool) -> None:
    services = StepFunctions()
    execution, _ = ask(services, {**INPUT, **MANIFEST, "manifest": key})
    if named:
        assert list(services.started) == [f"daily-{key[10:20]}-1"]
        return
    assert (execution.status, execution.error) == ("FAILED", "Daybook.NoDate")
    assert execution.cause == f"The manifest {key} names no business date; call it manifests/YYYY-MM-DD.json."
    assert services.started == {}


def manifest_event(key: str) -> Dict[str, Any]:
    """Return S3's event about an object of the landing bucket."""
    detail = {"bucket": {"name": "daybook-prod-landing"}, "object": {"key": key}}
    return {"source": "aws.s3", "detail-type": "Object Created", "time": "2025-12-01T01:00:00Z", "detail": detail}


def test_rule_matches_manifests_of_dates() -> None:
    pattern = Template("pipeline").of_type("AWS::Events::Rule")["Manifests"]["EventPattern"]
    assert [key for key, named in KEYS if named and not matches(pattern, manifest_event(key))] == []
    for key in ("manifests/", "manifests/today.json", "manifests/2025-11-30.csv", "orders/2025-11-30.json"):
        assert not matches(pattern, manifest_event(key))
    other = manifest_event("manifests/2025-11-30.json")
    other["detail"]["bucket"]["name"] = "daybook-prodeu-landing"
    assert not matches(pattern, other)


@pytest.mark.parametrize(
    ("landed_at", "started"),
    [("2025-11-29T23:59:59Z", False), ("2025-11-30T00:00:00Z", True), ("2026-11-30T00:00:00Z", True)],
)
def test_manifest_of_future_date_starts_nothing(ask: Any, landed_at: str, started: bool) -> None:
    services = StepFunctions()
    execution, _ = ask(services, {**INPUT, **MANIFEST, "landed_at": landed_at})
    assert bool(services.started) is started
    if not started:
        assert (execution.status, execution.error) == ("FAILED", "Daybook.FutureDate")
        assert execution.cause.startswith("The manifest manifests/2025-11-30.json came on 2025-11-29, before its date; ")


@pytest.mark.parametrize("given", [MANIFEST, {"scheduled_time": "2025-12-01T02:00:00Z"}])
def test_date_with_run_is_not_started_again(ask: Any, given: Dict[str, str]) -> None:
    # Step Functions forgets names after 90 days.
    services, runs = StepFunctions(), Runs("2025-11-30")
    execution, _ = ask(services, {**INPUT, "archive": {"bucket": "b", "prefix": ""}, **given}, runs)
    assert (execution.status, execution.output["started"], services.started) == ("SUCCEEDED", False, {})
    assert runs.asked == [{"Bucket": "b", "Prefix": "run_date=2025-11-30/", "MaxKeys": 1}]


def test_runs_are_found_in_archive(ask: Any, home: Path) -> None:
    archive = Archive(load_settings("local").archive)
    archive.start_named_run("daily-2025-11-30-1", {})
    services, runs = StepFunctions(), Runs()
    ask(services, {**INPUT, **MANIFEST}, runs)
    assert f"{archive.folder('daily-2025-11-30-1')}/started.json".startswith(runs.asked[0]["Prefix"])


def test_unreadable_archive_starts_nothing(ask: Any) -> None:
    services, runs = StepFunctions(), Runs()
    runs.fault = "S3.S3Exception"
    execution, _ = ask(services, {**INPUT, **MANIFEST}, runs)
    assert (execution.status, execution.error, services.started) == ("FAILED", "Daybook.NotStarted", {})
    assert len(runs.asked) == 4


def test_service_error_is_retried(ask: Any) -> None:
    services = StepFunctions("StepFunctions.ThrottlingException", "StepFunctions.ServiceUnavailableException")
    execution, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert execution.output["started"] is True
    assert services.calls == 3


def test_failed_start_has_cause(ask: Any) -> None:
    services = StepFunctions("StepFunctions.StateMachineDoesNotExistException")
    execution, _ = ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    assert (execution.status, execution.error) == ("FAILED", "Daybook.NotStarted")
    assert json.loads(execution.cause or "") == {"Error": "StepFunctions.StateMachineDoesNotExistException", "Cause": "no"}
    assert services.calls == 1


def test_schedule_input_fits_nightly_machine(ask: Any) -> None:
    services = StepFunctions()
    given = scheduled_input(Template("pipeline"), "NightlySchedule", "2025-12-01T02:00:00Z")
    execution, _ = ask(services, given)
    assert execution.output == {"run_id": "daily-2025-11-30-1", "started": True}
    (started,) = services.started.values()
    assert started["archive"] == {"bucket": "daybook-prod-archive", "prefix": ""}
    assert given["daily"] == "arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-daily"


def test_manifest_input_fits_nightly_machine(ask: Any) -> None:
    (target,) = Template("pipeline").of_type("AWS::Events::Rule")["Manifests"]["Targets"]
    text = target["InputTransformer"]["InputTemplate"]
    assert target["InputTransformer"]["InputPathsMap"] == {"key": "$.detail.object.key", "time": "$.time"}
    # EventBridge adds quotes to texts in a template.
    services = StepFunctions()
    text = text.replace("<key>", '"manifests/2025-11-30.json"').replace("<time>", '"2025-12-01T01:00:00Z"')
    execution, _ = ask(services, json.loads(text))
    assert execution.output == {"run_id": "daily-2025-11-30-1", "started": True}


def test_nightly_machine_passes_input_of_daily_machine(ask: Any) -> None:
    services = StepFunctions()
    ask(services, {**INPUT, "scheduled_time": "2025-12-01T02:00:00Z"})
    (started,) = services.started.values()
    assert _needed(load_machine("daily")) <= set(started)


def test_schedule_input_fits_catch_up_machine() -> None:
    assert _needed(load_machine("catch_up")) <= set(scheduled_input(Template("pipeline"), "CatchUpSchedule"))


def test_schedule_time_is_that_of_nightly_run_in_utc() -> None:
    nightly = Template("pipeline").resources["NightlySchedule"]["Properties"]
    assert nightly["ScheduleExpression"] == f"cron({RUN_TIME.minute} {RUN_TIME.hour} * * ? *)"
    assert nightly["ScheduleExpressionTimezone"] == "UTC"


def _needed(machine: Any) -> set[str]:
    """Return the input fields that a machine's first state requires."""
    text = json.dumps(machine["States"][machine["StartAt"]])
    read = set(re.findall(r"\$states\.input\.(\w+)", text))
    return read - set(re.findall(r"\$exists\(\$states\.input\.(\w+)\)", text))
