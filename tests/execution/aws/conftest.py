"""Provide a stubbed Step Functions client, checked against botocore's service description."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Optional

import boto3
import pytest
from botocore.stub import ANY, Stubber

from daybook.execution.aws.account import Account
from daybook.execution.aws.executions import Executions
from daybook.settings import load_settings

Event = dict[str, Any]


class Aws:
    """Step Functions with responses that a test adds in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, env: str = "prod") -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        self.client = boto3.client(
            "stepfunctions",
            region_name="eu-central-1",
            aws_access_key_id="id",
            aws_secret_access_key="key",  # noqa: S106
        )
        self.stubber = Stubber(self.client)
        self.stubber.activate()
        account = Account("123456789012", "eu-central-1", "arn:aws:iam::123456789012:user/ann", "aws")
        monkeypatch.setattr(Account, "client", lambda _, service: self.client)
        self.executions = Executions(load_settings(env), account)

    def history(self, machine: str, name: str, events: list[Event]) -> None:
        """Let the next read of a history return these events. AWS returns the newest first."""
        self.stubber.add_response(
            "get_execution_history",
            {"events": [as_aws(event) for event in reversed(events)]},
            {
                "executionArn": self.executions.arn(machine, name),
                "maxResults": 1000,
                "includeExecutionData": True,
                "reverseOrder": True,
            },
        )

    def described(self, machine: str, name: str, status: str, **more: Any) -> None:
        now = datetime.fromisoformat("2025-12-01T02:00:00+00:00")
        self.stubber.add_response(
            "describe_execution",
            {
                "executionArn": self.executions.arn(machine, name),
                "stateMachineArn": self.executions.machine_arn(machine),
                "name": name,
                "status": status,
                "startDate": now,
                **more,
            },
            {"executionArn": self.executions.arn(machine, name)},
        )

    def started(self, machine: str, name: str, code: Optional[str] = None) -> None:
        """Expect a start of this execution; it fails with ``code`` if given."""
        if code:
            self.stubber.add_client_error("start_execution", code, f"{code}: {name}")
            return
        self.stubber.add_response(
            "start_execution",
            {"executionArn": self.executions.arn(machine, name), "startDate": datetime(2025, 12, 1, 2)},
            {"stateMachineArn": self.executions.machine_arn(machine), "name": name, "input": ANY},
        )

    def running(self, *names: str) -> None:
        """Let the next list of running daily executions return these names."""
        arn = self.executions.machine_arn("daily")
        self.stubber.add_response(
            "list_executions",
            {
                "executions": [
                    {
                        "executionArn": self.executions.arn("daily", name),
                        "stateMachineArn": arn,
                        "name": name,
                        "status": "RUNNING",
                        "startDate": datetime(2025, 12, 1, 2),
                    }
                    for name in names
                ]
            },
            {"stateMachineArn": arn, "statusFilter": "RUNNING"},
        )

    def unknown(self, name: str) -> None:
        """Let the next description of this execution fail."""
        arn = self.executions.arn("daily", name)
        self.stubber.add_client_error(
            "describe_execution", "ExecutionDoesNotExist", name, expected_params={"executionArn": arn}
        )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    found = Aws(monkeypatch)
    yield found
    found.stubber.assert_no_pending_responses()


def as_aws(event: Event) -> Event:
    """Return an event in the form of Step Functions, without the project's additional keys."""
    kept = {key: value for key, value in event.items() if key not in ("executionArn", "next")}
    return {**kept, "timestamp": datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))}
