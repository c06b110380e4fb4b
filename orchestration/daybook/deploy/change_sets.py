"""Stacks of CloudFormation and their change sets: asked for, carried out, followed until they end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from daybook.deploy.diff import Change, parse_changes
from daybook.deploy.templates import ADMIN_STACK, Template
from daybook.errors import DeploymentError
from daybook.execution.aws.account import Account, error_code, error_reason, wrap_aws_errors

POLL_SECONDS = 2.0
"""Between two looks at a stack."""
_NONEXISTENT_STATUSES = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
_NO_CHANGES_MESSAGES = ("didn't contain changes", "No updates are to be performed")
_MAX_NEW_ROLE_ATTEMPTS = 15
_CREATING_STATUSES = {"CREATE_PENDING", "CREATE_IN_PROGRESS"}


@dataclass(frozen=True)
class Event:
    """What became of a resource: ``status`` is CloudFormation's, ``reason`` its sentence, if any."""

    logical_id: str
    kind: str
    status: str
    reason: str

    @property
    def is_failure(self) -> bool:
        # What is under way when the first one fails is cancelled, which is no reason.
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()


EventCallback = Callable[[Event], None]


@dataclass(frozen=True)
class StackState:
    """A stack as it is: its status, the parameters it has, its outputs by name."""

    name: str
    status: str
    reason: str
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether it has ever come to be; what failed at its very first is left as an empty shell."""
        return self.status not in (*_NONEXISTENT_STATUSES, "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "")


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be carried out: its ARN, whether it makes the stack, and its changes."""

    arn: str
    stack: str
    creates_stack: bool
    changes: list[Change]


class Stacks:
    """The stacks of a deployment in an account."""

    def __init__(self, account: Account, env: str) -> None:
        self.account, self.env = account, env
        self._client = account.client("cloudformation")
        self._role = f"arn:{account.partition}:iam::{account.number}:role/resources-daybook-{env}"

    def describe_stack(self, template: Template) -> StackState:
        """How a template's stack is; its status is empty where there is none.

        Raises ``DeploymentError`` where somebody changes it at this moment, or it is stuck.
        """
        from botocore.exceptions import ClientError

        stack = template.stack_name(self.env)
        with wrap_aws_errors(f"The stack {stack} could not be looked at"):
            try:
                (found,) = self._client.describe_stacks(StackName=stack)["Stacks"]
            except ClientError as error:
                if error_code(error) == "ValidationError" and "does not exist" in error_reason(error):
                    return StackState(stack, "", "")
                raise
        state = StackState(
            stack,
            found["StackStatus"],
            found.get("StackStatusReason", ""),
            {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])},
            {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
        )
        if state.status.endswith("_IN_PROGRESS") and state.status not in _NONEXISTENT_STATUSES:
            raise DeploymentError(f"The stack {stack} is being changed ({state.status}); wait until that has ended.")
        if state.status in ("UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"):
            raise DeploymentError(
                f"The stack {stack} is stuck in {state.status} ({state.reason or 'no reason is given'}); mend it in "
                "CloudFormation (continue the rollback, or delete it), then run it again."
            )
        return state

    def read_deployed_template(self, template: Template) -> str:
        """The text that a stack was made from."""
        with wrap_aws_errors(f"The template of {template.stack_name(self.env)} could not be read"):
            found = self._client.get_template(StackName=template.stack_name(self.env), TemplateStage="Original")
        return str(found["TemplateBody"])

    def create_change_set(self, template: Template, parameters: list[dict[str, Any]], state: StackState) -> Optional[ChangeSet]:
        """Have CloudFormation work out what a template changes; None where that is nothing.

        A stack that failed to come to be is an empty shell, which is removed first.
        """
        if state.status and not state.exists and state.status not in _NONEXISTENT_STATUSES:
            self.delete(template)
        creates = not state.exists
        with wrap_aws_errors(f"The changes of {state.name} could not be worked out"):
            asked = self._request_change_set(
                StackName=state.name,
                ChangeSetName=f"daybook-{uuid.uuid4().hex[:12]}",
                ChangeSetType="CREATE" if creates else "UPDATE",
                TemplateBody=template.text,
                Parameters=parameters,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                # What outlived a stack that was destroyed (logs, buckets) is taken into the new one, by its name.
                **({"ImportExistingResources": True} if creates else {}),
                **self._role_arguments(template),
            )
            found = self._wait_for_change_set(state.name, asked["Id"])
        if found["Status"] != "FAILED":
            return ChangeSet(asked["Id"], state.name, creates, parse_changes(found["Changes"]))
        self.withdraw(ChangeSet(asked["Id"], state.name, creates, []), template)
        reason = " ".join(found.get("StatusReason", "no reason is given").split()).rstrip(".")
        if any(each in reason for each in _NO_CHANGES_MESSAGES):
            return None
        raise DeploymentError(f"The changes of {state.name} could not be worked out: {reason}.")

    def withdraw(self, change_set: ChangeSet, template: Template) -> None:
        """Remove a change set that is not carried out, and the empty shell of a stack that was to hold it."""
        with wrap_aws_errors(f"The change set of {change_set.stack} could not be removed"):
            self._client.delete_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn)
            if change_set.creates_stack:
                self._client.delete_stack(StackName=change_set.stack, **self._role_arguments(template, "RoleARN"))

    def carry_out(self, change_set: ChangeSet, watch: EventCallback) -> None:
        """Carry a change set out, telling every event as it comes; ``DeploymentError`` names what failed first."""
        seen = self._seen(change_set.stack)
        with wrap_aws_errors(f"The changes of {change_set.stack} could not be carried out"):
            # What was made before something failed goes with it, or the next attempt would find its names taken.
            retained = {"RetainExceptOnCreate": True} if change_set.creates_stack else {}
            self._client.execute_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn, **retained)
        self._follow(change_set.stack, change_set.stack, seen, watch, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self, template: Template, watch: EventCallback = lambda event: None) -> None:
        """Delete a stack, telling every event as it comes; ``DeploymentError`` names what could not be deleted."""
        stack = template.stack_name(self.env)
        seen = self._seen(stack)
        with wrap_aws_errors(f"The stack {stack} could not be deleted"):
            # Once it is gone, a stack is known by its ARN alone.
            arn = self._client.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
            self._client.delete_stack(StackName=stack, **self._role_arguments(template, "RoleARN"))
        self._follow(stack, arn, seen, watch, ("DELETE_COMPLETE",))

    def _role_arguments(self, template: Template, key: str = "RoleARN") -> dict[str, str]:
        return {} if template.name == ADMIN_STACK else {key: self._role}

    def _request_change_set(self, **request: Any) -> dict[str, Any]:
        """Ask for a change set. A role that was made a moment ago cannot be taken everywhere yet, for some seconds."""
        from botocore.exceptions import ClientError

        for left in reversed(range(_MAX_NEW_ROLE_ATTEMPTS)):
            try:
                return dict(self._client.create_change_set(**request))
            except ClientError as error:
                if not left or "cannot be assumed" not in error_reason(error):
                    raise
            time.sleep(POLL_SECONDS)
        raise AssertionError("a last try ends")

    def _wait_for_change_set(self, stack: str, arn: str) -> dict[str, Any]:
        """A change set when it has been worked out, with all its changes, which come in pages."""
        while True:
            found: dict[str, Any] = self._client.describe_change_set(StackName=stack, ChangeSetName=arn)
            if found["Status"] not in _CREATING_STATUSES:
                break
            time.sleep(POLL_SECONDS)
        token = found.get("NextToken")
        while token:
            page = self._client.describe_change_set(StackName=stack, ChangeSetName=arn, NextToken=token)
            found["Changes"] += page["Changes"]
            token = page.get("NextToken")
        return found

    def _follow(self, stack: str, arn: str, seen: set[str], watch: EventCallback, good: tuple[str, ...]) -> None:
        first: Optional[Event] = None
        while True:
            with wrap_aws_errors(f"The stack {stack} could not be followed, and goes on without being watched"):
                status = self._client.describe_stacks(StackName=arn)["Stacks"][0]["StackStatus"]
                # Events are read after the status, so that of an ended stack none is missed.
                for event in self._read_new_events(arn, seen):
                    watch(event)
                    first = first or (event if event.is_failure and event.logical_id != stack else None)
            if not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(POLL_SECONDS)
        if status not in good:
            what = f"{first.logical_id} ({first.kind}) failed: {first.reason.rstrip('.')}" if first else "no resource says why"
            raise DeploymentError(f"{stack} ended {status}: {what}; mend that, then run it again.")

    def _seen(self, stack: str) -> set[str]:
        from botocore.exceptions import ClientError

        with wrap_aws_errors(f"The events of {stack} could not be read"):
            try:
                return {each["EventId"] for each in self._read_event_pages(stack)}
            except ClientError as error:
                if "does not exist" in error_reason(error):
                    return set()
                raise

    def _read_new_events(self, arn: str, seen: set[str]) -> list[Event]:
        """The events that nobody has seen yet, the oldest first; they come newest first, in pages."""
        found = []
        for each in self._read_event_pages(arn):
            if each["EventId"] in seen:
                break
            seen.add(each["EventId"])
            reason = " ".join(each.get("ResourceStatusReason", "").split())
            found.append(Event(each["LogicalResourceId"], each["ResourceType"], each["ResourceStatus"], reason))
        return found[::-1]

    def _read_event_pages(self, stack: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack):
            yield from page["StackEvents"]
