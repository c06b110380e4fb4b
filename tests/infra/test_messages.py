"""Alarms, budgets and events reach the encrypted topic, and an event that does not is kept and reported."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from .policies import allows
from .templates import ACCOUNT, Template, exports, statements

KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey")
OWN: Dict[str, Dict[str, str]] = {
    "cloudwatch.amazonaws.com": {"aws:SourceAccount": ACCOUNT},
    "budgets.amazonaws.com": {"aws:SourceAccount": ACCOUNT},
    # EventBridge sends no condition key of where an event comes from.
    "events.amazonaws.com": {},
}
"""By service that publishes, the condition keys that its requests carry."""


@pytest.fixture(scope="module")
def foundation() -> Template:
    return Template("foundation")


def key_policy(foundation: Template) -> List[Dict[str, Any]]:
    return list(statements(foundation.resources["Key"]["Properties"]["KeyPolicy"]))


def topic_policy(foundation: Template) -> List[Dict[str, Any]]:
    return list(statements(foundation.resources["TopicPolicy"]["Properties"]["PolicyDocument"]))


@pytest.mark.parametrize("service", OWN)
def test_each_publishing_service_may_use_the_key(foundation: Template, service: str) -> None:
    policy = [each for each in key_policy(foundation) if "Service" in each["Principal"]]
    for action in KEY_ACTIONS:
        assert allows(policy, action, "any", OWN[service], service)


@pytest.mark.parametrize("service", OWN)
def test_each_publishing_service_may_publish(foundation: Template, service: str) -> None:
    topic = exports()["daybook-prod-TopicArn"]
    assert allows(topic_policy(foundation), "sns:Publish", topic, OWN[service], service)
    assert not allows(topic_policy(foundation), "sns:Publish", topic, {**OWN[service], "aws:SecureTransport": "false"}, service)


@pytest.mark.parametrize("service", ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"])
def test_alarms_of_other_accounts_are_refused(foundation: Template, service: str) -> None:
    policy = [each for each in key_policy(foundation) if "Service" in each["Principal"]]
    other = {"aws:SourceAccount": "999999999999"}
    topic = exports()["daybook-prod-TopicArn"]
    assert not any(allows(policy, action, "any", other, service) for action in KEY_ACTIONS)
    assert not allows(topic_policy(foundation), "sns:Publish", topic, other, service)


def test_no_other_service_may_publish(foundation: Template) -> None:
    topic = exports()["daybook-prod-TopicArn"]
    assert not allows(topic_policy(foundation), "sns:Publish", topic, {"aws:SourceAccount": ACCOUNT}, "s3.amazonaws.com")
