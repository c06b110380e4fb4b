"""Test starting and resuming runs on AWS, with an archive in a folder."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import AwsError, DateLockedError, UsageError
from daybook.execution.aws.executions import archive_input
from daybook.execution.aws.runs import reconcile_record, resume_run, start_run
from daybook.execution.run_record import close_run
from daybook.execution.runner import allocate_run
from daybook.records.archive import Archive
from daybook.records.names import RunStart
from daybook.settings import DateRange, Settings, load_settings
from tests.sample_records import run_record

DAY = date(2025, 11, 30)
NIGHT = DateRange(DAY, DAY)
FIRST, SECOND = "daily-2025-11-30-1", "daily-2025-11-30-2"


@pytest.fixture
def settings(home: Path, aws: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("daybook.execution.aws.executions.archive_input", lambda uri: {"bucket": "archive", "prefix": ""})
    found = load_settings("prod").model_copy(update={name: str(home / name) for name in ("landing", "lake", "archive")})
    aws.executions.settings = found
    return found


def begin(settings: Settings) -> RunStart:
    return allocate_run(settings, NIGHT)


def start(settings: Settings, aws: Any) -> str:
    return start_run(aws.executions, NIGHT, lambda: begin(settings))


def inputs(aws: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list that collects the inputs of started executions."""
    found: list[dict[str, Any]] = []
    aws.client.meta.events.register(
        "provide-client-params.sfn.StartExecution", lambda params, **_: found.append(json.loads(params["input"]))
    )
    return found


def test_start_uses_run_name_and_input(settings: Settings, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(aws, monkeypatch)
    aws.running()
    aws.started("daily", FIRST)
    assert start(settings, aws) == FIRST
    (asked,) = given
    assert {key: asked[key] for key in ("env", "run_date", "archive", "first_stage")} == {
        "env": "prod",
        "run_date": "2025-11-30",
        "archive": {"bucket": "archive", "prefix": ""},
        "first_stage": "ingest",
    }
    assert asked["overrides"] == {}


def test_starts_have_unique_input(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(aws, monkeypatch)
    for _ in range(2):
        aws.started("daily", FIRST)
        aws.executions.start("daily", FIRST, {})
    assert given[0]["start"] != given[1]["start"]


def test_running_date_is_locked_with_owner_and_start(settings: Settings, aws: Any) -> None:
    aws.running(FIRST)
    nightly = {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:eu-central-1:1:execution:nightly:2025-12-01"}
    aws.described("daily", FIRST, "RUNNING", input=json.dumps(nightly))
    with pytest.raises(DateLockedError, match=rf"{FIRST} \(started by 2025-12-01, since 2025-12-01 02:00:00 UTC\); wait"):
        start(settings, aws)
    assert Archive(settings.archive).run_ids() == []


def test_name_taken_outside_archive_uses_next_name(settings: Settings, aws: Any) -> None:
    aws.running()
    aws.started("daily", FIRST, "ExecutionAlreadyExists")
    aws.running()
    aws.running()
    # The run with the taken name is closed with the end of its execution.
    aws.described("daily", FIRST, "FAILED", error="States.Runtime", cause="no role")
    aws.unknown(f"{FIRST}-resumed-1")
    aws.history("daily", FIRST, [])
    aws.started("daily", SECOND)
    assert start(settings, aws) == SECOND
    first = Archive(settings.archive).run(FIRST)
    assert (first.outcome, first.reasons) == ("FAILED", ["the run ended as FAILED: States.Runtime"])


def test_concurrent_start_names_first_owner(settings: Settings, aws: Any) -> None:
    aws.running()
    aws.started("daily", FIRST, "ExecutionAlreadyExists")
    aws.running(FIRST)
    aws.described("daily", FIRST, "RUNNING", input=json.dumps({"started_by": "ann on desk"}))
    with pytest.raises(DateLockedError, match="started by ann on desk"):
        start(settings, aws)


def test_failed_start_closes_record(settings: Settings, aws: Any) -> None:
    aws.running()
    aws.started("daily", FIRST, "AccessDeniedException")
    with pytest.raises(AwsError, match=f"{FIRST} could not be started: AccessDeniedException"):
        start(settings, aws)
    assert Archive(settings.archive).run(FIRST).outcome == "FAILED"


@pytest.fixture
def failed(settings: Settings) -> str:
    archive = Archive(settings.archive)
    begin(settings)
    close_run(archive, settings, FIRST, "FAILED", ["it broke"])
    return FIRST


def test_interrupted_execution_is_redriven(settings: Settings, aws: Any, failed: str) -> None:
    aws.running()
    aws.described("daily", failed, "TIMED_OUT", redriveStatus="REDRIVABLE")
    aws.unknown(f"{failed}-resumed-1")
    aws.stubber.add_response("redrive_execution", {"redriveDate": 0})
    assert resume_run(aws.executions, failed) == (failed, 1, True)


@pytest.mark.parametrize(
    "status", [{"status": "FAILED", "redriveStatus": "REDRIVABLE"}, {"status": "ABORTED", "redriveStatus": "NOT_REDRIVABLE"}]
)
def test_failed_run_resumes_in_new_execution(
    settings: Settings, aws: Any, failed: str, status: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(aws, monkeypatch)
    aws.running()
    aws.described("daily", failed, input=json.dumps({"first_stage": "validate", "part_of": "b", "started_by": "x"}), **status)
    aws.unknown(f"{failed}-resumed-1")
    aws.started("daily", f"{failed}-resumed-1")
    assert resume_run(aws.executions, failed) == (f"{failed}-resumed-1", 1, False)
    assert (given[0]["first_stage"], given[0]["run_id"], given[0]["part_of"]) == ("validate", failed, "b")
    assert given[0]["started_by"] != "x"


def test_succeeded_run_cannot_be_resumed(settings: Settings, aws: Any) -> None:
    begin(settings)
    close_run(Archive(settings.archive), settings, FIRST, "SUCCEEDED", [])
    aws.running()
    aws.described("daily", FIRST, "SUCCEEDED")
    aws.unknown(f"{FIRST}-resumed-1")
    with pytest.raises(UsageError, match="has ended as SUCCEEDED"):
        resume_run(aws.executions, FIRST)


def test_open_record_gets_state_of_execution(aws: Any) -> None:
    record = run_record(FIRST, "RUNNING", state="running")
    aws.described("daily", FIRST, "RUNNING", input="{}")
    aws.unknown(f"{FIRST}-resumed-1")
    assert reconcile_record(aws.executions, record).outcome == "RUNNING"
    aws.described("daily", FIRST, "ABORTED")
    aws.unknown(f"{FIRST}-resumed-1")
    lost = reconcile_record(aws.executions, record)
    assert (lost.state, lost.outcome) == ("lost", "FAILED")
    assert "ABORTED" in lost.reasons[0]


@pytest.mark.parametrize(
    ("uri", "told"),
    [("s3://b", {"bucket": "b", "prefix": ""}), ("s3://b/a/c/", {"bucket": "b", "prefix": "a/c/"})],
)
def test_archive_input_has_bucket_and_prefix(uri: str, told: dict[str, str]) -> None:
    assert archive_input(uri) == told


# Ranges

RANGE = DateRange(date(2025, 11, 29), date(2025, 12, 1))
NAME = "range-2025-11-29-2025-12-01-1"


def start_range(settings: Settings, aws: Any) -> str:
    return start_run(aws.executions, RANGE, lambda: allocate_run(settings, RANGE))


def test_range_is_started_with_its_dates(settings: Settings, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(aws, monkeypatch)
    aws.running("daily-2025-11-28-1", "range-2025-12-02-2025-12-04-1", "by-hand")
    aws.started("daily", NAME)
    assert start_range(settings, aws) == NAME
    assert (given[0]["run_date"], given[0]["until"]) == ("2025-11-29", "2025-12-01")
    assert Archive(settings.archive).run_ids() == ["daily-2025-11-29-2", "daily-2025-11-30-2", "daily-2025-12-01-2"]


@pytest.mark.parametrize("running", ["daily-2025-11-30-1", "daily-2025-12-01-3-resumed-2", "range-2025-12-01-2025-12-31-1"])
def test_running_date_keeps_a_range_from_starting(settings: Settings, aws: Any, running: str) -> None:
    aws.running(running)
    aws.described("daily", running, "RUNNING")
    with pytest.raises(DateLockedError, match=rf"is being run by {running} "):
        start_range(settings, aws)
    assert Archive(settings.archive).range_ids() == []


def test_running_range_keeps_a_date_from_starting(settings: Settings, aws: Any) -> None:
    aws.running(NAME)
    aws.described("daily", NAME, "RUNNING")
    with pytest.raises(DateLockedError, match=rf"2025-11-30 is being run by {NAME} "):
        start(settings, aws)


def test_lost_range_is_closed_by_the_next_run_of_a_date(settings: Settings, aws: Any) -> None:
    aws.running()
    aws.started("daily", NAME)
    start_range(settings, aws)
    aws.running()
    aws.described("daily", NAME, "FAILED", error="States.Runtime", cause="no role")
    aws.unknown(f"{NAME}-resumed-1")
    aws.history("daily", NAME, [])
    aws.started("daily", "daily-2025-11-30-3")
    assert start(settings, aws) == "daily-2025-11-30-3"
    for name in (NAME, "daily-2025-11-29-2", "daily-2025-12-01-2"):
        assert Archive(settings.archive).run(name).outcome == "FAILED"


def test_resumed_range_keeps_its_dates(settings: Settings, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(aws, monkeypatch)
    archive = Archive(settings.archive)
    allocate_run(settings, RANGE)
    close_run(archive, settings, NAME, "FAILED", ["it broke"])
    aws.running()
    asked = {"run_date": "2025-11-29", "until": "2025-12-01", "splits": 2, "part_of": "b1"}
    aws.described("daily", NAME, "FAILED", input=json.dumps(asked))
    aws.unknown(f"{NAME}-resumed-1")
    aws.started("daily", f"{NAME}-resumed-1")
    assert resume_run(aws.executions, NAME) == (f"{NAME}-resumed-1", 1, False)
    assert {key: given[0][key] for key in (*asked, "run_id", "first_stage")} == {
        **asked, "run_id": NAME, "first_stage": "ingest"
    }  # fmt: skip
