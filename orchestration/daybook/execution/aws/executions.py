"""Start, read and redrive executions of a deployment's state machines on AWS.

The name of an execution is the lock: Step Functions accepts it once. The input contains a unique value, because a second start
with the same name and the same input would succeed.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from daybook.errors import AwsError
from daybook.execution.aws.account import Account, connect, wrap_aws_errors
from daybook.records.archive import format_timestamp
from daybook.records.notifications import execution_url
from daybook.settings import Settings

RUNNING_STATUSES = ("RUNNING", "PENDING_REDRIVE")
REDRIVABLE_STATUSES = ("TIMED_OUT", "ABORTED")
"""Statuses of interrupted executions. A FAILED execution ended in a Fail state, where a redrive would fail again."""
STARTED_BY_KEY = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
"""The input key with the ARN of the parent execution."""
_PAGE_SIZE = 1000


class NameTakenError(AwsError):
    """Report that an execution with this name exists, or existed within 90 days."""


@dataclass(frozen=True)
class ExecutionInfo:
    """An execution as Step Functions describes it. ``started_at`` is in UTC; ``input`` is empty without permission."""

    name: str
    status: str
    started_at: datetime
    input: dict[str, Any]
    error: Optional[str] = None
    cause: Optional[str] = None
    redrivable: bool = False

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING_STATUSES

    def __str__(self) -> str:
        """Return name, owner and start time, in the form of a date's lock on one machine."""
        by = self.input.get("started_by") or str(self.input.get(STARTED_BY_KEY, "")).rsplit(":", 1)[-1]
        since = f"since {self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.name} ({f'started by {by}, ' if by else ''}{since})"


class Executions:
    """The executions of one deployment. Methods raise ``AwsError`` if a request to AWS fails."""

    def __init__(self, settings: Settings, account: Optional[Account] = None) -> None:
        self.settings = settings
        self.env = settings.env
        region = settings.deployment.region if settings.deployment else None
        self._account = account or connect(region, f"daybook --env {settings.env}")
        self._client = self._account.client("stepfunctions")

    def machine_arn(self, machine: str) -> str:
        """Return the ARN of the state machine ``daily``, ``backfill`` or ``catch-up``."""
        return self._account.arn("states", f"stateMachine:daybook-{self.env}-{machine}")

    def arn(self, machine: str, name: str) -> str:
        return f"{self.machine_arn(machine).replace(':stateMachine:', ':execution:')}:{name}"

    def console_link(self, machine: str, name: str) -> str:
        """Return the URL of the execution in the AWS console."""
        return execution_url(self.arn(machine, name))

    def start(self, machine: str, name: str, data: dict[str, Any]) -> None:
        """Start an execution with the input ``data``; raise ``NameTakenError`` if its name was used before."""
        text = json.dumps({**data, "started_by": f"{getpass.getuser()} on {socket.gethostname()}", "start": uuid.uuid4().hex})
        with wrap_aws_errors(f"{name} could not be started"):
            try:
                self._client.start_execution(stateMachineArn=self.machine_arn(machine), name=name, input=text)
            except self._client.exceptions.ExecutionAlreadyExists:
                raise NameTakenError(f"The execution {name} already exists; use another name.") from None
            except self._client.exceptions.StateMachineDoesNotExist:
                raise AwsError(
                    f"There is no state machine daybook-{self.env}-{machine} in account {self._account.number}, "
                    f"{self._account.region}; run `daybook deploy --env {self.env}`, or set AWS_PROFILE and AWS_REGION to its "
                    "account and region."
                ) from None

    def redrive(self, machine: str, name: str) -> None:
        """Redrive an interrupted execution from the state that did not end."""
        with wrap_aws_errors(f"{name} could not be redriven"):
            self._client.redrive_execution(executionArn=self.arn(machine, name), clientToken=uuid.uuid4().hex)

    def find(self, machine: str, name: str) -> Optional[ExecutionInfo]:
        """Return an execution; None if there is none with this name. Step Functions keeps executions for 90 days."""
        with wrap_aws_errors(f"{name} could not be read"):
            try:
                described = self._client.describe_execution(executionArn=self.arn(machine, name))
            except self._client.exceptions.ExecutionDoesNotExist:
                return None
        return ExecutionInfo(
            name,
            described["status"],
            described["startDate"].astimezone(timezone.utc),
            json.loads(described.get("input") or "{}"),
            described.get("error"),
            described.get("cause"),
            described.get("redriveStatus") == "REDRIVABLE",
        )

    def list_running(self, machine: str) -> list[str]:
        """Return the names of running executions."""
        with wrap_aws_errors(f"the executions of daybook-{self.env}-{machine} could not be listed"):
            try:
                pages = self._client.get_paginator("list_executions").paginate(
                    stateMachineArn=self.machine_arn(machine), statusFilter="RUNNING"
                )
                return sorted(each["name"] for page in pages for each in page["executions"])
            except self._client.exceptions.StateMachineDoesNotExist:
                return []

    def executions_of_run(self, run_id: str) -> list[ExecutionInfo]:
        """Return the executions of a run, oldest first: the first one, and one for each resume in a new execution."""
        found = [self.find("daily", run_id)]
        number = 1
        while True:
            resumed = self.find("daily", f"{run_id}-resumed-{number}")
            if resumed is None:
                return [each for each in found if each is not None]
            found.append(resumed)
            number += 1

    def events(self, machine: str, name: str) -> EventReader:
        """Return a reader for the events of an execution."""
        return EventReader(self._client, self.arn(machine, name))


class EventReader:
    """Read the growing history of one execution."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._seen = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the events since the last call, in order and in the form of local histories.

        AWS returns the newest first, so pages are read until a known event.
        """
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        with wrap_aws_errors(f"the history of {self._arn.rsplit(':', 1)[1]} could not be read"):
            while True:
                try:
                    page = self._client.get_execution_history(
                        executionArn=self._arn, maxResults=_PAGE_SIZE, includeExecutionData=True, reverseOrder=True, **token
                    )
                except self._client.exceptions.ExecutionDoesNotExist:
                    break  # it starts in a moment, or the start is not visible yet (eventual consistency)
                found += [event for event in page["events"] if event["id"] > self._seen]
                if not page.get("nextToken") or page["events"][-1]["id"] <= self._seen + 1:
                    break
                token = {"nextToken": page["nextToken"]}
        found.sort(key=lambda event: int(event["id"]))
        self._seen = found[-1]["id"] if found else self._seen
        return [normalize_event(event, self._arn) for event in found]


def normalize_event(event: dict[str, Any], arn: str) -> dict[str, Any]:
    """Return an event of AWS in the form of local histories: timestamp as text, execution ARN in the first event."""
    moment = event["timestamp"]
    normalized = {**event, "timestamp": moment if isinstance(moment, str) else format_timestamp(moment.timestamp())}
    normalized.setdefault("previousEventId", 0)
    return {**normalized, "executionArn": arn} if event["type"] == "ExecutionStarted" else normalized


def build_input(settings: Settings) -> dict[str, Any]:
    """Return the fields that the inputs of all state machines have in common."""
    return {"env": settings.env, "overrides": settings.overrides, "archive": archive_input(settings.archive)}


def archive_input(uri: str) -> dict[str, str]:
    """Return the archive's bucket and prefix for a state machine's input."""
    matched = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not matched:
        raise AwsError(f"The archive {uri} is not in a bucket, so AWS cannot read it; set `archive` to an s3:// URI.")
    prefix = matched[2].strip("/")
    return {"bucket": matched[1], "prefix": f"{prefix}/" if prefix else ""}
