"""Test the calls for messages and metrics against botocore's service descriptions, and when the job script makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional

import boto3
import pytest
from botocore.stub import ANY, Stubber

from daybook.errors import NotificationError
from daybook.execution.aws.metrics import RUN_SECONDS, Datapoint
from daybook.execution.aws.notify import read_execution_history, send_message, send_metrics
from daybook.execution.run_record import close_run
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord, Notification, PlannedDate, RunRecord
from daybook.scheduling.backfills import BackfillPlan, start_backfill
from daybook.settings import load_settings, project_root
from tests.sample_records import attempt_record

sys.path.insert(0, str(project_root() / "orchestration"))
import glue_job

TOPIC = "arn:aws:sns:eu-central-1:123456789012:daybook-prod"
EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:daybook-prod-daily:daily-2025-11-30-1"
RUN = "daily-2025-11-30-1"
MESSAGE = Notification(subject="Daybook local: 2025-11-30 REJECTED in validate", body="told\nin two lines")


class Services:
    """Stubbed boto3 clients that return the responses of a test in order."""

    def __init__(self) -> None:
        self._stubs: Dict[str, Stubber] = {}
        self.made: List[str] = []
        make = boto3.client
        for name in ("sns", "cloudwatch", "stepfunctions"):
            self._stubs[name] = Stubber(make(name, "eu-central-1", aws_access_key_id="a", aws_secret_access_key="b"))  # noqa: S106
            self._stubs[name].activate()

    def client(self, name: str, **_: Any) -> Any:
        self.made.append(name)
        return self._stubs[name].client

    def answer(self, service: str, method: str, answer: Dict[str, Any], expected: Optional[Dict[str, Any]] = None) -> None:
        self._stubs[service].add_response(method, answer, expected)

    def refuse(self, service: str, method: str, code: str) -> None:
        self._stubs[service].add_client_error(method, code, "User: job is not authorized\nor so")

    def assert_all_asked(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    found = Services()
    monkeypatch.setattr(boto3, "client", found.client)
    yield found
    found.assert_all_asked()


def points(count: int) -> List[Datapoint]:
    at = datetime(2025, 12, 1, 2, tzinfo=timezone.utc)
    return [Datapoint(RUN_SECONDS, float(number), {"Environment": "prod"}, at) for number in range(count)]


# The calls


def test_message_is_published(services: Services) -> None:
    expected = {"TopicArn": TOPIC, "Subject": MESSAGE.subject, "Message": MESSAGE.body}
    services.answer("sns", "publish", {"MessageId": "m-1"}, expected)
    assert send_message(TOPIC, MESSAGE) == "m-1"


def test_long_message_is_shortened_for_sns(services: Services) -> None:
    grown = Notification(subject="[redacted:customer_name] " * 9, body="line\n" + "[redacted:customer_name] " * 99)
    expected = {"TopicArn": TOPIC, "Subject": grown.subject[:99], "Message": ANY}
    services.answer("sns", "publish", {"MessageId": "m-1"}, expected)
    send_message(TOPIC, grown)


def test_publish_error_names_topic(services: Services) -> None:
    services.refuse("sns", "publish", "AuthorizationError")
    with pytest.raises(NotificationError) as caught:
        send_message(TOPIC, MESSAGE)
    assert str(caught.value).startswith(
        f"The message could not be sent to {TOPIC} (An error occurred (AuthorizationError) when"
    )
    assert "\n" not in str(caught.value)


def test_metrics_are_sent_in_batches(services: Services) -> None:
    sizes: List[int] = []

    class Data:
        """Match any batch and record its size."""

        def __eq__(self, other: object) -> bool:
            assert isinstance(other, list)
            sizes.append(len(other))
            return True

    for _ in range(3):
        services.answer("cloudwatch", "put_metric_data", {}, {"Namespace": "Daybook/prod", "MetricData": Data()})
    send_metrics("prod", points(2001))
    assert sizes == [1000, 1000, 1]


def test_no_metrics_send_nothing(services: Services) -> None:
    send_metrics("prod", [])


def test_metrics_error_is_one_sentence(services: Services) -> None:
    services.refuse("cloudwatch", "put_metric_data", "Throttling")
    with pytest.raises(
        NotificationError, match=r"The run's metrics could not be sent to CloudWatch \(An error occurred \(Throttling\)"
    ):
        send_metrics("prod", points(1))


ASKED = {"executionArn": EXECUTION, "maxResults": 1000, "includeExecutionData": True, "reverseOrder": True}
"""Parameters of a request for a history, newest event first."""


def test_history_is_read_to_last_page(services: Services) -> None:
    event = {"timestamp": datetime(2025, 12, 1, 2, tzinfo=timezone.utc), "type": "PassStateEntered"}
    newest, oldest = {**event, "id": 3}, {**event, "id": 1}
    services.answer("stepfunctions", "get_execution_history", {"events": [newest], "nextToken": "t"}, ASKED)
    services.answer("stepfunctions", "get_execution_history", {"events": [oldest]}, {**ASKED, "nextToken": "t"})
    assert [each["id"] for each in read_execution_history(EXECUTION)] == [1, 3]


# The job script


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(load_settings("local").archive)


def closed(message: Optional[Notification], outcome: str = "REJECTED", **fields: Any) -> AttemptRecord:
    details = {"run_outcome": outcome, "run_reasons": [], **({"message": message} if message else {})}
    return attempt_record("notify", **{"details": details, **fields})


def call(monkeypatch: pytest.MonkeyPatch, archive: Archive, record: AttemptRecord, *more: str) -> Any:
    """Run notify of the job script with a replaced stage that returns ``record`` and closes the run.

    Return its exit code or message (0 for success), and the arguments of the stage.
    """
    seen: Dict[str, Any] = {}

    def run_stage(stage: str, **given: Any) -> AttemptRecord:
        seen.update(given, stage=stage)
        if record.outcome != "FAILED":
            run = {
                "record": "run",
                "run_id": RUN,
                "run_date": "2025-11-30",
                "env": "local",
                "outcome": record.details.run_outcome,
                "started_at": "2025-12-01T02:00:00.000Z",
                "ended_at": "2025-12-01T02:04:00.000Z",
                "seconds": 240.0,
                "stages": [],
            }
            archive.write_run(RunRecord.model_validate(run))
        return record

    monkeypatch.setattr(glue_job, "run_stage", run_stage)
    given = ["--stage", "notify", "--env", "local", "--run_date", "2025-11-30", "--run_id", RUN, "--failure", "null", *more]
    monkeypatch.setattr(sys, "argv", ["glue_job.py", *given])
    try:
        glue_job.main()
    except SystemExit as ended:
        return ended.code, seen
    return 0, seen


@pytest.mark.parametrize(
    ("named", "reported"), [("{plan}", True), ("backfill-2025-11-30-2025-11-30-7", False), ("../x", False)]
)
def test_part_of_needs_planned_run(archive: Archive, monkeypatch: pytest.MonkeyPatch, named: str, reported: bool) -> None:
    day = PlannedDate(run_date=date(2025, 11, 30), run_id=RUN)
    plan = start_backfill(archive, BackfillPlan(day.run_date, day.run_date, (day,)), {})
    _, seen = call(monkeypatch, archive, closed(None), "--part_of", named.format(plan=plan))
    assert seen["part_of"] == (plan if reported else None)


def test_notify_sends_message_then_metrics(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    services.answer("sns", "publish", {"MessageId": "m-1"}, {"TopicArn": TOPIC, "Subject": ANY, "Message": MESSAGE.body})
    services.answer("cloudwatch", "put_metric_data", {}, {"Namespace": "Daybook/local", "MetricData": ANY})
    assert call(monkeypatch, archive, closed(MESSAGE), "--topic_arn", TOPIC)[0] == 0
    assert services.made == ["sns", "cloudwatch"]


def test_run_without_message_sends_metrics(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    services.answer("cloudwatch", "put_metric_data", {}, {"Namespace": "Daybook/local", "MetricData": ANY})
    assert call(monkeypatch, archive, closed(None, "SUCCEEDED"), "--topic_arn", TOPIC)[0] == 0


def test_publish_error_fails_job_before_metrics(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    services.refuse("sns", "publish", "NotFound")
    code, _ = call(monkeypatch, archive, closed(MESSAGE), "--topic_arn", TOPIC)
    assert str(code).startswith(f"NotificationError: The message could not be sent to {TOPIC}")
    assert services.made == ["sns"]


def test_metrics_error_is_a_warning(
    services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answer("sns", "publish", {"MessageId": "m-1"}, None)
    services.refuse("cloudwatch", "put_metric_data", "AccessDenied")
    assert call(monkeypatch, archive, closed(MESSAGE), "--topic_arn", TOPIC)[0] == 0
    assert capsys.readouterr().err.startswith("Warning: The run's metrics could not be sent to CloudWatch")


def test_without_topic_nothing_is_sent(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    local = "arn:aws:states:local:000000000000:execution:daily:daily-2025-11-30-1"
    code, seen = call(monkeypatch, archive, closed(MESSAGE), "--execution_arn", local)
    assert (code, services.made) == (0, [])
    assert (seen["extra"], seen["history"]) == ({"failure": "null", "execution": local}, None)


def test_failed_notify_sends_nothing(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = {"exception": "LakeError", "message": "gold is not there\nat all"}
    record = attempt_record("notify", "FAILED", failure=failure)
    code, _ = call(monkeypatch, archive, record, "--topic_arn", TOPIC)
    assert code == "LakeError: gold is not there"
    assert services.made == []


def test_history_is_read_from_aws(services: Services, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    services.answer("stepfunctions", "get_execution_history", {"events": []}, ASKED)
    _, seen = call(monkeypatch, archive, closed(None, "SKIPPED"), "--execution_arn", EXECUTION)
    assert list(seen["history"]()) == []


def test_summary_sends_message_of_backfill(services: Services, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.scheduling.backfilling import build_plan, run_backfill

    archive = Archive(load_settings("local").archive)
    name = run_backfill(archive, build_plan(1, 2), ["SKIPPED", "FAILED"])
    body = "Daybook local: backfill of 2025-11-01 to 2025-11-02: 1 skipped, 1 failed\n2025-11-02 FAILED: "
    answers = {"TopicArn": TOPIC, "Subject": body.splitlines()[0], "Message": ANY}
    given = ["--errand", "summary", "--env", "local", "--execution", name, "--topic_arn", TOPIC]
    monkeypatch.setattr(sys, "argv", ["glue_job.py", *given])
    services.refuse("sns", "publish", "InternalError")
    with pytest.raises(SystemExit, match="NotificationError: The message could not be sent"):
        glue_job.main()
    # The next attempt finds the backfill closed and sends the message of its record.
    services.answer("sns", "publish", {"MessageId": "m-1"}, answers)
    glue_job.main()


# The cost of a closed run


def test_unreadable_history_gives_estimated_cost(archive: Archive, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive.start_named_run(RUN, {"env": "local"})

    def refused() -> Any:
        raise PermissionError("no")

    run = close_run(archive, load_settings("local"), RUN, "FAILED", ["so"], execution=EXECUTION, history=refused)
    assert run.cost.basis == "estimated"
    assert "its history could not be read (PermissionError)" in caplog.text


def test_history_gives_measured_cost(archive: Archive, home: Path) -> None:
    archive.start_named_run(RUN, {"env": "local"})
    at = "2025-12-01T02:00:00.000Z"
    told = {"output": json.dumps({"ExecutionTime": 3600, "MaxCapacity": 1.0})}
    events = [
        {"type": "TaskStateEntered", "timestamp": at},
        {
            "type": "TaskScheduled",
            "timestamp": at,
            "taskScheduledEventDetails": {"parameters": json.dumps({"Arguments": {"--stage": "ingest"}})},
        },
        {"type": "TaskSucceeded", "timestamp": at, "taskSucceededEventDetails": told},
    ]
    run = close_run(archive, load_settings("local"), RUN, "FAILED", ["so"], execution=EXECUTION, history=lambda: events)
    assert run.cost.basis == "measured"
    assert [each.to_json() for each in run.cost.jobs] == [
        {"stage": "ingest", "attempt": 1, "seconds": 3600, "dpu": "1.0", "amount": "0.44000000", "execution": EXECUTION}
    ]
    assert archive.run(RUN).cost == run.cost


def test_deployment_without_prices_has_no_cost(archive: Archive, home: Path) -> None:
    archive.start_named_run(RUN, {"env": "local"})
    settings = load_settings("local").model_copy(update={"prices": None})
    assert close_run(archive, settings, RUN, "FAILED", ["so"]).cost is None
