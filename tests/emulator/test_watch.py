"""Test schedules, manifests, bad ends and alarms of deployed stacks, up to the received message.

Jobs are not emulated, so an execution of the daily machine fails at the first job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Callable

import pytest

from daybook.execution.aws.metrics import (
    FRESHNESS_HOURS,
    QUARANTINE_SHARE,
    RUN_SECONDS,
    RUNS,
    TIMES_USUAL,
    Datapoint,
    Metric,
    metrics_namespace,
)
from tests.emulator.deployments import ENV, Deployment
from tests.emulator.emulator import wait_until

pytestmark = pytest.mark.slow

WaitForMessage = Callable[..., dict[str, Any]]


@pytest.fixture
def wait_for_message(shared: Deployment) -> Iterator[WaitForMessage]:
    """Return a function that waits for a message containing a word, as a subscriber receives it."""
    sqs, sns = shared.client("sqs"), shared.client("sns")
    queue = sqs.create_queue(QueueName="reader")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = shared.arn("sns", f"daybook-{ENV}")
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    read: list[dict[str, Any]] = []

    def call(word: str, seconds: float = 60) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
            for each in got:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
            read.extend(json.loads(each["Body"]) for each in got)
            return [each for each in read if word in each["Message"]]

        return wait_until(look, f"a message about {word}; there are {[each['Message'] for each in read]}", seconds)[0]

    yield call
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=queue)


def execution(shared: Deployment, machine: str, name: str) -> dict[str, Any]:
    """Wait for an execution by its name."""
    client = shared.client("stepfunctions")

    def look() -> list[dict[str, Any]]:
        arn = shared.arn("states", f"stateMachine:daybook-{ENV}-{machine}")
        return [each for each in client.list_executions(stateMachineArn=arn)["executions"] if name in each["name"]]

    (found,) = wait_until(look, f"an execution {name} of {machine}")
    return dict(client.describe_execution(executionArn=found["executionArn"]))


def put(shared: Deployment, metric: Metric, value: float, *, ahead: timedelta = timedelta(), **dimensions: str) -> None:
    """Send a metric like a run does. ``ahead`` is the offset of the alarms' clock."""
    point = Datapoint(metric, value, {"Environment": ENV, **dimensions}, datetime.now(timezone.utc) + ahead)
    shared.client("cloudwatch").put_metric_data(Namespace=metrics_namespace(ENV), MetricData=[point.to_request()])


def alarm(shared: Deployment, name: str) -> str:
    """Return an alarm's state."""
    found = shared.client("cloudwatch").describe_alarms(
        AlarmNames=[f"daybook-{ENV}-{name}"], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    (state,) = [each["StateValue"] for each in (*found["MetricAlarms"], *found["CompositeAlarms"])]
    return str(state)


def seconds_until(hour: int) -> tuple[float, date]:
    """Return the seconds to just after the next ``hour`` UTC, and its date."""
    now = datetime.now(timezone.utc)
    due = datetime.combine(now.date(), time(hour), timezone.utc)
    due = due if due > now else due + timedelta(days=1)
    return (due - now).total_seconds() + 1, due.date()


def test_schedule_starts_previous_day_at_two(shared: Deployment) -> None:
    ahead, day = seconds_until(2)
    name = f"daily-{day - timedelta(days=1)}-1"
    try:
        shared.account.emulator.advance_clock(ahead)
        found = execution(shared, "daily", name)
    finally:
        shared.account.emulator.advance_clock(0)
    given = json.loads(found["input"])
    assert (given["env"], given["run_date"]) == (ENV, str(day - timedelta(days=1)))
    assert given["archive"] == {"bucket": shared.bucket("archive"), "prefix": ""}
    starters = shared.client("stepfunctions").list_executions(
        stateMachineArn=shared.arn("states", f"stateMachine:daybook-{ENV}-nightly")
    )["executions"]
    assert [each["status"] for each in starters] == ["SUCCEEDED"]


def test_manifest_starts_its_date_once(shared: Deployment) -> None:
    for _ in range(2):
        shared.client("s3").put_object(Bucket=shared.bucket("landing"), Key="manifests/2025-11-30.json", Body=b"{}")
    found = execution(shared, "daily", "daily-2025-11-30-1")
    assert json.loads(found["input"])["run_date"] == "2025-11-30"


def test_failed_run_is_reported_by_name(shared: Deployment, wait_for_message: WaitForMessage) -> None:
    code, out, _ = shared.deploy("--smoke", "2025-11-28")
    assert code == 1
    assert "daily-2025-11-28-1 ended FAILED: " in out
    message = wait_for_message("daily-2025-11-28-1")["Message"]
    assert message.strip('"').startswith(f"Daybook {ENV}: daily-2025-11-28-1 ended FAILED, and could not send its own message.")
    assert "console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states:" in message


def test_part_of_input_does_not_suppress_message(shared: Deployment, wait_for_message: WaitForMessage) -> None:
    client, machine = shared.client("stepfunctions"), shared.arn("states", f"stateMachine:daybook-{ENV}-daily")
    given = {"env": ENV, "overrides": {}, "archive": {"bucket": shared.bucket("archive"), "prefix": ""}}
    given = {**given, "run_date": "2025-11-20", "part_of": "backfill-2025-11-01-2025-11-30-1"}
    client.start_execution(stateMachineArn=machine, name="daily-2025-11-20-1", input=json.dumps(given))
    assert "could not send its own message" in wait_for_message("daily-2025-11-20-1")["Message"]


def test_second_smoke_run_gets_next_name(shared: Deployment) -> None:
    for number in (1, 2):
        _, out, _ = shared.deploy("--smoke", "2025-11-27")
        assert f"daily-2025-11-27-{number} ended FAILED" in out


@pytest.mark.parametrize(
    ("name", "metric", "good", "bad", "dimensions"),
    [
        ("promise-broken", FRESHNESS_HOURS, 3.0, 24.5, {}),
        ("quarantine-full", QUARANTINE_SHARE, 1.0, 2.5, {}),
        ("run-rejected", RUNS, 0.0, 1.0, {"Outcome": "REJECTED"}),
        ("run-slow", TIMES_USUAL, 1.1, 3.1, {}),
    ],
)
def test_metric_over_threshold_raises_alarm_and_message(
    shared: Deployment,
    wait_for_message: WaitForMessage,
    name: str,
    metric: Metric,
    good: float,
    bad: float,
    dimensions: dict[str, str],
) -> None:
    put(shared, metric, good, **dimensions)
    assert alarm(shared, name) == "OK"
    put(shared, metric, bad, **dimensions)
    assert alarm(shared, name) == "ALARM"
    assert alarm(shared, "attention") == "ALARM"
    message = json.loads(wait_for_message(f"daybook-{ENV}-attention")["Message"])
    assert (message["AlarmName"], message["NewStateValue"]) == (f"daybook-{ENV}-attention", "ALARM")
    for each in ("promise-broken", "quarantine-full", "run-rejected", "run-slow", "not-fresh"):
        shared.client("cloudwatch").set_alarm_state(AlarmName=f"daybook-{ENV}-{each}", StateValue="OK", StateReason="mended")
    assert alarm(shared, "attention") == "OK"


def put_count(shared: Deployment, namespace: str, name: str, **dimensions: str) -> None:
    """Send the count 1 for a metric of an AWS service."""
    pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    datum = {"MetricName": name, "Value": 1.0, "Dimensions": pairs, "Timestamp": datetime.now(timezone.utc)}
    shared.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])


@pytest.mark.parametrize("end", ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"])
def test_failed_execution_raises_alarm_unless_rejected(deployed: Deployment, end: str) -> None:
    assert alarm(deployed, "run-failed") == "OK"
    put_count(deployed, "AWS/States", end, StateMachineArn=deployed.arn("states", f"stateMachine:daybook-{ENV}-backfill"))
    assert alarm(deployed, "run-failed") == "OK"
    put_count(deployed, "AWS/States", end, StateMachineArn=deployed.arn("states", f"stateMachine:daybook-{ENV}-daily"))
    assert alarm(deployed, "run-failed") == "ALARM"
    assert alarm(deployed, "attention") == "ALARM"
    put(deployed, RUNS, 1.0, Outcome="REJECTED")
    assert (alarm(deployed, "run-failed"), alarm(deployed, "run-rejected")) == ("OK", "ALARM")


def test_long_run_and_undelivered_start_raise_alarms(deployed: Deployment) -> None:
    put(deployed, RUN_SECONDS, 59 * 60.0)
    assert (alarm(deployed, "run-long"), alarm(deployed, "attention")) == ("OK", "OK")
    put(deployed, RUN_SECONDS, 61 * 60.0)
    assert (alarm(deployed, "run-long"), alarm(deployed, "attention")) == ("ALARM", "ALARM")
    put_count(deployed, "AWS/SQS", "ApproximateNumberOfMessagesVisible", QueueName=f"daybook-{ENV}-undelivered")
    assert alarm(deployed, "not-delivered") == "ALARM"


def test_missing_night_raises_alarm(shared: Deployment, wait_for_message: WaitForMessage) -> None:
    # Later than all metrics of other tests.
    first, second = timedelta(hours=30), timedelta(hours=57)
    try:
        shared.account.emulator.advance_clock(first.total_seconds())
        put(shared, FRESHNESS_HOURS, 3.0, ahead=first)
        assert alarm(shared, "not-fresh") == "OK"
        shared.account.emulator.advance_clock(second.total_seconds())
        put(shared, QUARANTINE_SHARE, 1.0, ahead=second)  # The emulator evaluates alarms when a metric arrives.
        assert alarm(shared, "not-fresh") == "ALARM"
        message = json.loads(wait_for_message(f"daybook-{ENV}-not-fresh")["Message"])
    finally:
        shared.account.emulator.advance_clock(0)
    assert (message["AlarmName"], message["NewStateValue"]) == (f"daybook-{ENV}-attention", "ALARM")
