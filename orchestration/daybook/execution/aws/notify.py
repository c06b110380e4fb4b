"""Send a run's message to SNS and its metrics to CloudWatch, and read its execution's history.

Messages were searched for personal data and archived before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daybook.errors import NotificationError
from daybook.execution.aws.executions import EventReader
from daybook.execution.aws.metrics import Datapoint, metrics_namespace
from daybook.records.models import Notification
from daybook.records.notifications import format_body, format_subject

_MAX_DATAPOINTS = 1000
"""Maximum data points in a call of PutMetricData. Its limit of 1 MB is not reached, since a point has about 300 bytes."""


def send_message(topic_arn: str, message: Notification) -> str:
    """Publish a message on a topic and return its id; raise ``NotificationError`` if that fails."""
    import boto3

    try:
        client = boto3.client("sns", config=_retry_config())
        # Redaction may have made the text longer than SNS allows.
        sent = client.publish(
            TopicArn=topic_arn,
            Subject=format_subject(message.subject),
            Message=format_body(message.body.splitlines()),
        )
    except _aws_exceptions() as error:
        raise NotificationError(
            f"The message could not be sent to {topic_arn} ({_first_line(error)}); check that the topic exists and that the "
            "job's role can publish to it and use its key."
        ) from error
    return str(sent["MessageId"])


def send_metrics(environment: str, points: Sequence[Datapoint]) -> None:
    """Send a deployment's data points to CloudWatch; raise ``NotificationError`` if that fails."""
    import boto3

    try:
        client = boto3.client("cloudwatch", config=_retry_config())
        for start in range(0, len(points), _MAX_DATAPOINTS):
            batch = [each.to_request() for each in points[start : start + _MAX_DATAPOINTS]]
            client.put_metric_data(Namespace=metrics_namespace(environment), MetricData=batch)
    except _aws_exceptions() as error:
        raise NotificationError(
            f"The run's metrics could not be sent to CloudWatch ({_first_line(error)}); check that the job's role can write to "
            f"the namespace {metrics_namespace(environment)}."
        ) from error


def read_execution_history(execution_arn: str) -> list[Mapping[str, Any]]:
    """Return the events of an execution so far, oldest first; raise ``AwsError`` if that fails."""
    import boto3

    return list(EventReader(boto3.client("stepfunctions", config=_retry_config()), execution_arn).read())


def _retry_config() -> Any:
    from botocore.config import Config

    return Config(retries={"mode": "standard", "total_max_attempts": 5})


def _aws_exceptions() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
