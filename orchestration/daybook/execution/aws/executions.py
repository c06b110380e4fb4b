"""Executions of a deployment's state machines on AWS: starting one under its name, looking at it, going on with it, its
events.

An execution's name is taken once; that is the lock. Whoever starts one is in its input, so that no two starts are the same to
Step Functions, which would tell both that they are the one.
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

RUNNING = ("RUNNING", "PENDING_REDRIVE")
REDRIVABLE_STATUSES = ("TIMED_OUT", "ABORTED")
"""How an execution ends that was cut off; one that FAILED has ended in a Fail state, where a redrive would only fail again."""
STARTED_BY_KEY = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
"""The key of an input by which a state machine that starts another says so."""
_PAGE_SIZE = 1000


class NameTakenError(AwsError):
    """There is, or was within 90 days, an execution of this name."""


@dataclass(frozen=True)
class ExecutionInfo:
    """An execution as Step Functions describes it: moments are UTC, ``input`` is empty where nobody may read it."""

    name: str
    status: str
    started_at: datetime
    input: dict[str, Any]
    error: Optional[str] = None
    cause: Optional[str] = None
    redrivable: bool = False

    @property
    def running(self) -> bool:
        return self.status in RUNNING

    def __str__(self) -> str:
        """Which, whose, since when: as the lock of a date on one machine says it."""
        by = self.input.get("started_by") or str(self.input.get(STARTED_BY_KEY, "")).rsplit(":", 1)[-1]
        since = f"since {self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.name} ({f'started by {by}, ' if by else ''}{since})"


class Executions:
    """The executions of one deployment. Raises ``AwsError`` where AWS cannot be asked or refuses."""

    def __init__(self, settings: Settings, account: Optional[Account] = None) -> None:
        self.env = settings.env
        region = settings.deployment.region if settings.deployment else None
        self._account = account or connect(region, f"daybook --env {settings.env}")
        self._client = self._account.client("stepfunctions")

    def machine_arn(self, machine: str) -> str:
        """The ARN of a state machine: daily, backfill, catch-up."""
        return self._account.arn("states", f"stateMachine:daybook-{self.env}-{machine}")

    def arn(self, machine: str, name: str) -> str:
        return f"{self.machine_arn(machine).replace(':stateMachine:', ':execution:')}:{name}"

    def console_link(self, machine: str, name: str) -> str:
        """Where AWS shows the execution to people."""
        return execution_url(self.arn(machine, name))

    def start(self, machine: str, name: str, given: dict[str, Any]) -> None:
        """Start an execution; ``NameTakenError`` where its name is taken, whoever has it and whatever became of it."""
        asked = {**given, "started_by": f"{getpass.getuser()} on {socket.gethostname()}", "start": uuid.uuid4().hex}
        with wrap_aws_errors(f"{name} could not be started"):
            try:
                self._client.start_execution(stateMachineArn=self.machine_arn(machine), name=name, input=json.dumps(asked))
            except self._client.exceptions.ExecutionAlreadyExists:
                raise NameTakenError(f"There is an execution {name} already; a name is taken once.") from None
            except self._client.exceptions.StateMachineDoesNotExist:
                raise AwsError(
                    f"There is no state machine daybook-{self.env}-{machine} in account {self._account.number}, "
                    f"{self._account.region}; deploy infra/ there, or set AWS_PROFILE and AWS_REGION to where it is."
                ) from None

    def redrive(self, machine: str, name: str) -> None:
        """Go on with an execution that was cut off, in the state that did not end."""
        with wrap_aws_errors(f"{name} could not be redriven"):
            self._client.redrive_execution(executionArn=self.arn(machine, name), clientToken=uuid.uuid4().hex)

    def find(self, machine: str, name: str) -> Optional[ExecutionInfo]:
        """What became of an execution; None where there is none of this name (Step Functions forgets after 90 days)."""
        with wrap_aws_errors(f"{name} could not be looked at"):
            try:
                told = self._client.describe_execution(executionArn=self.arn(machine, name))
            except self._client.exceptions.ExecutionDoesNotExist:
                return None
        return ExecutionInfo(
            name,
            told["status"],
            told["startDate"].astimezone(timezone.utc),
            json.loads(told.get("input") or "{}"),
            told.get("error"),
            told.get("cause"),
            told.get("redriveStatus") == "REDRIVABLE",
        )

    def running(self, machine: str, prefix: str) -> list[str]:
        """The names of executions under way that begin with ``prefix``."""
        with wrap_aws_errors(f"the executions of daybook-{self.env}-{machine} could not be listed"):
            try:
                pages = self._client.get_paginator("list_executions").paginate(
                    stateMachineArn=self.machine_arn(machine), statusFilter="RUNNING"
                )
                return sorted(each["name"] for page in pages for each in page["executions"] if each["name"].startswith(prefix))
            except self._client.exceptions.StateMachineDoesNotExist:
                return []

    def executions_of_run(self, run_id: str) -> list[ExecutionInfo]:
        """The executions of a run, oldest first: its own, and one for each time that it went on in another."""
        found = [self.find("daily", run_id)]
        number = 1
        while True:
            resumed = self.find("daily", f"{run_id}-resumed-{number}")
            if resumed is None:
                return [each for each in found if each is not None]
            found.append(resumed)
            number += 1

    def events(self, machine: str, name: str) -> EventReader:
        """The events of an execution, to be read on as there are more."""
        return EventReader(self._client, self.arn(machine, name))


class EventReader:
    """The history of one execution as it grows: each reading gives the events since the one before it."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._seen = 0

    def read(self) -> list[dict[str, Any]]:
        """The events that have come, in order, as this project's own histories hold them.

        The newest come first, page by page, until one that is known: what has been read is not asked for again.
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
                    break  # It is to be started in a moment, or was, and not every reader knows of it yet.
                found += [event for event in page["events"] if event["id"] > self._seen]
                if not page.get("nextToken") or page["events"][-1]["id"] <= self._seen + 1:
                    break
                token = {"nextToken": page["nextToken"]}
        found.sort(key=lambda event: int(event["id"]))
        self._seen = found[-1]["id"] if found else self._seen
        return [normalize_event(event, self._arn) for event in found]


def normalize_event(event: dict[str, Any], arn: str) -> dict[str, Any]:
    """An event as this project's histories hold it: AWS's, its moment as text, and with the execution's name in the first."""
    told = event["timestamp"]
    own = {**event, "timestamp": told if isinstance(told, str) else format_timestamp(told.timestamp())}
    own.setdefault("previousEventId", 0)
    return {**own, "executionArn": arn} if event["type"] == "ExecutionStarted" else own


def archive_input(uri: str) -> dict[str, str]:
    """The archive as a state machine's input has it."""
    matched = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not matched:
        raise AwsError(f"{uri} is no bucket, where a state machine on AWS could read; give an s3:// URI.")
    prefix = matched[2].strip("/")
    return {"bucket": matched[1], "prefix": f"{prefix}/" if prefix else ""}
