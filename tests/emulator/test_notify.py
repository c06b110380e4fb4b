"""Test message, metrics and cost of a failed run on emulated AWS, with the real job script and a lake in a bucket."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.aws.metrics import METRICS, build_datapoints, metrics_namespace
from daybook.records.archive import Archive
from daybook.records.models import PlannedDate
from daybook.scheduling.backfills import BackfillPlan, start_backfill
from daybook.sources import Calendar
from tests.emulator.emulator import Account, wait_until
from tests.infra.templates import Template
from tests.runs.shop import add_tiny_shop, copy_project, write_tiny_landing

pytestmark = pytest.mark.slow

DAY = "2024-05-01"
RUN = f"daily-{DAY}-1"


class Deployment:
    """A small shop on AWS with tables and records in a bucket, a topic, and a queue subscribed to the topic."""

    def __init__(self, account: Account, place: Path) -> None:
        self.account = account
        self.project = copy_project(place / "project")
        add_tiny_shop(self.project)
        self.home = place / "home"
        self.home.mkdir()
        bucket = account.new_bucket()
        self.overrides = {"lake": f"s3://{bucket}/lake", "archive": f"s3://{bucket}/archive"}
        self.archive = Archive(self.overrides["archive"])
        self.topic = account.client("sns").create_topic(Name="daybook-tiny")["TopicArn"]
        self.queue = account.client("sqs").create_queue(QueueName="people")["QueueUrl"]
        arn = f"arn:aws:sqs:{os.environ['AWS_REGION']}:{account.number}:people"
        account.client("sns").subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn)

    def job(self, *arguments: str, topic: str = "") -> subprocess.CompletedProcess[str]:
        """Run the job script with the arguments of Glue and the default topic."""
        script = str(self.project / "orchestration" / "glue_job.py")
        given = ["--env", "tiny", "--overrides", json.dumps(self.overrides), "--topic_arn", topic or self.topic]
        return subprocess.run(
            [sys.executable, script, *arguments, *given],
            env={**os.environ, "DAYBOOK_PROJECT": str(self.project), "DAYBOOK_HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def stage(self, stage: str, *more: str, **named: str) -> subprocess.CompletedProcess[str]:
        return self.job("--stage", stage, "--run_date", DAY, "--run_id", RUN, *more, **named)

    def execution(self) -> str:
        """Run a trivial state machine to its end and return the execution's ARN."""
        client = self.account.client("stepfunctions")
        states = {"One": {"Type": "Pass", "Next": "Two"}, "Two": {"Type": "Pass", "End": True}}
        definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": "One", "States": states})
        role = f"arn:aws:iam::{self.account.number}:role/daily"
        machine = client.create_state_machine(name="daybook-tiny-daily", definition=definition, roleArn=role)
        arn = str(client.start_execution(stateMachineArn=machine["stateMachineArn"], name=RUN)["executionArn"])
        wait_until(lambda: client.describe_execution(executionArn=arn)["status"] == "SUCCEEDED", "the execution ends")
        return arn

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages in the queue."""
        found: Sequence[Any] = (
            self.account.client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
        )
        return [json.loads(each["Body"]) for each in found]

    def metrics(self) -> dict[str, list[dict[str, str]]]:
        """Return the metrics of Daybook's namespace: dimensions by name."""
        found: dict[str, list[dict[str, str]]] = {}
        for page in (
            self.account.client("cloudwatch").get_paginator("list_metrics").paginate(Namespace=metrics_namespace("tiny"))
        ):
            for each in page["Metrics"]:
                found.setdefault(each["MetricName"], []).append({one["Name"]: one["Value"] for one in each["Dimensions"]})
        return found

    def sum_of(self, name: str, dimensions: dict[str, str]) -> float:
        metric = {
            "Namespace": metrics_namespace("tiny"),
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        }
        now = datetime.now(timezone.utc)
        query = {"Id": "sum", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "Sum"}}
        found = self.account.client("cloudwatch").get_metric_data(
            MetricDataQueries=[query], StartTime=now - timedelta(hours=2), EndTime=now + timedelta(hours=1)
        )
        return float(sum(found["MetricDataResults"][0]["Values"]))


@pytest.fixture
def deployment(aws_account: Account, tmp_path: Path) -> Deployment:
    return Deployment(aws_account, tmp_path)


def test_failed_run_sends_message_metrics_and_cost(deployment: Deployment) -> None:
    write_tiny_landing(deployment.home, DAY, ["7.00"])
    file = deployment.home / "landing" / f"{DAY}.csv"
    # An incomplete gzip file may be complete at the next attempt, so the job fails and is retried.
    file.write_bytes(gzip.compress(file.read_bytes())[:-8])
    failed = deployment.stage("ingest")
    assert failed.returncode == 1
    execution = deployment.execution()
    job_run = json.dumps({"ErrorMessage": failed.stderr.strip().splitlines()[-1], "Id": "jr_0123456789abcdef"})
    caught = json.dumps({"State": "Ingest", "Error": "States.TaskFailed", "Cause": job_run})

    notify = deployment.stage("notify", "--failure", caught, "--execution_arn", execution)

    assert notify.returncode == 0, notify.stderr
    assert "CloudWatch" not in notify.stderr and "an estimate" not in notify.stderr
    (heard,) = deployment.messages()
    assert heard["Subject"] == f"Daybook tiny: {DAY} FAILED in ingest"
    lines = heard["Message"].splitlines()
    assert lines[0] == f"Corner shop, {DAY}: FAILED in ingest"
    assert lines[1].startswith("ingest failed in cell 4 (attempt 1): LandingError: ")
    assert lines[2].startswith("Cell 4 begins: landing = ingest.read_landing(stage)")
    assert f"  daybook resume {RUN} --env tiny" in heard["Message"]
    assert f"#/v2/executions/details/{execution}" in heard["Message"]
    assert "the job's log (stream jr_0123456789abcdef): https://eu-central-1.console.aws.amazon.com/" in heard["Message"]
    record = deployment.archive.run(RUN)
    assert heard["Message"] == record.stages[-1].details.message.body

    told = build_datapoints(record, Calendar())
    known = deployment.metrics()
    assert set(known) == {each.metric.name for each in told} <= {metric.name for metric in METRICS}
    for each in told:
        assert each.dimensions in known[each.metric.name]
        assert deployment.sum_of(each.metric.name, each.dimensions) == pytest.approx(each.value)
    assert deployment.sum_of("Runs", {"Environment": "tiny", "Outcome": "FAILED"}) == 1
    assert deployment.sum_of("StageFailed", {"Environment": "tiny", "Stage": "ingest"}) == 1
    assert "FreshnessHours" not in known

    cost = record.cost
    assert (cost.basis, cost.jobs, cost.transitions.count) == ("measured", [], 2)
    assert cost.reads.count > 0 and cost.writes.count > 0


def test_unsendable_message_fails_job_with_record(deployment: Deployment) -> None:
    caught = json.dumps({"State": "Ingest", "Error": "States.Timeout", "Cause": ""})
    gone = f"arn:aws:sns:eu-central-1:{deployment.account.number}:nobody"
    ended = deployment.stage("notify", "--failure", caught, topic=gone)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        f"NotificationError: The message could not be sent to {gone} (An error occurred (NotFound"
    )
    assert deployment.archive.run(RUN).outcome == "FAILED"
    assert deployment.metrics() == {}


def test_backfill_date_sends_metrics_but_no_message(deployment: Deployment) -> None:
    caught = json.dumps({"State": "Ingest", "Error": "States.Timeout", "Cause": ""})
    day = PlannedDate(run_date=date.fromisoformat(DAY), run_id=RUN)
    part_of = start_backfill(deployment.archive, BackfillPlan(day.run_date, day.run_date, (day,)), {})
    ended = deployment.stage("notify", "--failure", caught, "--part_of", part_of, "--execution_arn", "none")
    assert ended.returncode == 0, ended.stderr
    assert deployment.messages() == []
    assert deployment.sum_of("Runs", {"Environment": "tiny", "Outcome": "FAILED"}) == 1


def test_unplanned_part_of_sends_message(deployment: Deployment) -> None:
    caught = json.dumps({"State": "Ingest", "Error": "States.Timeout", "Cause": ""})
    named = "backfill-2024-05-01-2024-05-02-1"
    ended = deployment.stage("notify", "--failure", caught, "--part_of", named, "--execution_arn", "none")
    assert ended.returncode == 0, ended.stderr
    (message,) = deployment.messages()
    assert DAY in message["Message"]


@pytest.mark.parametrize(
    ("machine", "status", "error", "told"),
    [
        # Reported by the message of the run or backfill.
        ("daily", "FAILED", {"error": "Daybook.Failed"}, False),
        ("daily", "FAILED", {"error": "Daybook.Rejected"}, False),
        ("backfill", "FAILED", {"error": "Daybook.DatesFailed"}, False),
        # Nobody has message it.
        ("daily", "FAILED", {"error": "Daybook.NotifyFailed"}, True),
        ("backfill", "FAILED", {"error": "Daybook.SummaryFailed"}, True),
        ("nightly", "FAILED", {"error": "Daybook.NotStarted"}, True),
        ("daily", "FAILED", {"error": "States.Runtime"}, True),
        ("daily", "TIMED_OUT", {"error": "States.Timeout"}, True),
        ("daily", "ABORTED", {"error": None}, True),
        ("daily", "ABORTED", {}, True),
        # An event without an error.
        ("daily", "FAILED", {}, True),
        ("daily", "SUCCEEDED", {}, False),
    ],
)
def test_bad_ends_rule_matches_unreported_ends(
    aws_account: Account, machine: str, status: str, error: dict[str, Any], told: bool
) -> None:
    pattern = Template("watch").resources["BadEnds"]["Properties"]["EventPattern"]
    arn = f"arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-{machine}"
    given = json.dumps({"env": "prod", "run_date": DAY})

    def matches(text: str) -> bool:
        event = {
            "id": "1",
            "account": "123456789012",
            "time": "2025-12-01T02:00:00Z",
            "region": "eu-central-1",
            "resources": [],
            "source": "aws.states",
            "detail-type": "Step Functions Execution Status Change",
            "detail": {"stateMachineArn": arn, "status": status, "input": text, **error},
        }
        client = aws_account.client("events")
        return bool(client.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))["Result"])

    assert matches(given) is told
    # The caller's input does not suppress the report.
    assert matches(json.dumps({"part_of": "backfill-1", "run_date": DAY})) is told
