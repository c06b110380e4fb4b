"""What a job tells AWS of a run: the message by SNS, the metrics to CloudWatch; and what it asks: the execution's history.

Nothing is told that has not been searched for personal data and archived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daybook.errors import NotificationError
from daybook.execution.aws.executions import EventReader
from daybook.execution.aws.metrics import Datapoint, metrics_namespace
from daybook.records.archive import Record
from daybook.records.notifications import Message, format_body, format_subject

_MAX_DATAPOINTS = 1000
"""PutMetricData takes so many at once, and 1 MB: one is some 300 bytes."""


def send_message(topic_arn: str, message: Record) -> str:
    """Publish a message (``format_subject``, ``format_body``) on a topic; returns SNS's id of it. Raises ``NotificationError``."""
    import boto3

    try:
        client = boto3.client("sns", config=_retry_config())
        # What stands for personal data may be longer than what it stands for.
        fitting = Message(format_subject(message["subject"]), format_body(message["body"].splitlines()))
        sent = client.publish(TopicArn=topic_arn, Subject=fitting.subject, Message=fitting.body)
    except _aws_exceptions() as error:
        raise NotificationError(
            f"The message was not sent by {topic_arn} ({_first_line(error)}); see that the topic is there and that the job's role "
            "may publish on it and use its key."
        ) from error
    return str(sent["MessageId"])


def send_metrics(environment: str, points: Sequence[Datapoint]) -> None:
    """Put a deployment's data points to CloudWatch, in as many calls as it takes. Raises ``NotificationError``."""
    import boto3

    try:
        client = boto3.client("cloudwatch", config=_retry_config())
        for start in range(0, len(points), _MAX_DATAPOINTS):
            batch = [each.to_request() for each in points[start : start + _MAX_DATAPOINTS]]
            client.put_metric_data(Namespace=metrics_namespace(environment), MetricData=batch)
    except _aws_exceptions() as error:
        raise NotificationError(
            f"CloudWatch did not take the run's metrics ({_first_line(error)}); see that the job's role may put them into the "
            f"namespace {metrics_namespace(environment)}."
        ) from error


def read_execution_history(execution_arn: str) -> list[Mapping[str, Any]]:
    """The events of an execution so far, oldest first. Raises ``AwsError``."""
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
