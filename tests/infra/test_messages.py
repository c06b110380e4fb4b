"""Test that alarms, budgets and events can publish to the encrypted topic, and that undelivered events are kept."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from tests.infra.policies import allows
from tests.infra.templates import ACCOUNT, REGION, Template, list_exports, statements

KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey")
OWN: Dict[str, Dict[str, str]] = {
    "cloudwatch.amazonaws.com": {"aws:SourceAccount": ACCOUNT},
    "budgets.amazonaws.com": {"aws:SourceAccount": ACCOUNT},
    # EventBridge sends no condition key about the source of an event.
    "events.amazonaws.com": {},
}
"""Condition keys in the requests of each publishing service."""


@pytest.fixture(scope="module")
def foundation() -> Template:
    return Template("foundation")


def key_policy(foundation: Template) -> List[Dict[str, Any]]:
    return list(statements(foundation.resources["Key"]["Properties"]["KeyPolicy"]))


def topic_policy(foundation: Template) -> List[Dict[str, Any]]:
    return list(statements(foundation.resources["TopicPolicy"]["Properties"]["PolicyDocument"]))


@pytest.mark.parametrize("service", OWN)
def test_publishing_services_can_use_key(foundation: Template, service: str) -> None:
    policy = [each for each in key_policy(foundation) if "Service" in each["Principal"]]
    for action in KEY_ACTIONS:
        assert allows(policy, action, "any", OWN[service], service)


@pytest.mark.parametrize("service", OWN)
def test_publishing_services_can_publish(foundation: Template, service: str) -> None:
    topic = list_exports()["daybook-prod-TopicArn"]
    assert allows(topic_policy(foundation), "sns:Publish", topic, OWN[service], service)
    assert not allows(topic_policy(foundation), "sns:Publish", topic, {**OWN[service], "aws:SecureTransport": "false"}, service)


@pytest.mark.parametrize("service", ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"])
def test_other_accounts_cannot_publish(foundation: Template, service: str) -> None:
    policy = [each for each in key_policy(foundation) if "Service" in each["Principal"]]
    other = {"aws:SourceAccount": "999999999999"}
    topic = list_exports()["daybook-prod-TopicArn"]
    assert not any(allows(policy, action, "any", other, service) for action in KEY_ACTIONS)
    assert not allows(topic_policy(foundation), "sns:Publish", topic, other, service)


def test_other_services_cannot_publish(foundation: Template) -> None:
    topic = list_exports()["daybook-prod-TopicArn"]
    assert not allows(topic_policy(foundation), "sns:Publish", topic, {"aws:SourceAccount": ACCOUNT}, "s3.amazonaws.com")


# -- undelivered events ---------------------------------------------------------------------------------------------------


def test_unpublished_event_is_retried_and_kept() -> None:
    watch = Template("watch")
    queue = watch.resources["BadEndsQueue"]["Properties"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue['QueueName']}"
    (target,) = watch.resources["BadEnds"]["Properties"]["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": arn}
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86400}
    assert queue["KmsMasterKeyId"] == list_exports()["daybook-prod-KeyArn"]


@pytest.mark.parametrize(("template", "rule"), [("watch", "bad-ends"), ("pipeline", "manifests")])
def test_only_its_rule_can_send_to_dead_letter_queue(template: str, rule: str) -> None:
    found = Template(template)
    (policy,) = [list(statements(each["PolicyDocument"])) for each in found.of_type("AWS::SQS::QueuePolicy").values()]
    (name,) = [each["QueueName"] for each in found.of_type("AWS::SQS::Queue").values()]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def may_send(source: str, service: str = "events.amazonaws.com") -> bool:
        context = {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{source}"}
        return allows(policy, "sqs:SendMessage", arn, context, service)

    assert may_send(f"daybook-prod-{rule}")
    assert not may_send("daybook-prod-other")
    assert not may_send(f"daybook-prod-{rule}", "sns.amazonaws.com")


def test_dead_letter_raises_alarm() -> None:
    alarm = Template("watch").resources["NotReported"]["Properties"]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("ApproximateNumberOfMessagesVisible", 0)
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": "daybook-prod-bad-ends"}]
