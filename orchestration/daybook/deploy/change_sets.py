"""Create, execute and follow change sets of CloudFormation stacks."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Callable, Optional

from daybook.deploy.diff import Change, parse_changes
from daybook.deploy.templates import ADMIN_STACK, Template
from daybook.errors import DeploymentError
from daybook.execution.aws.account import Account, error_code, error_reason, wrap_aws_errors

POLL_SECONDS = 2.0
"""Seconds between two polls of a stack."""
_NONEXISTENT_STATUSES = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
_NO_CHANGES_MESSAGES = ("didn't contain changes", "No updates are to be performed")
_MAX_NEW_ROLE_ATTEMPTS = 15
_CREATING_STATUSES = {"CREATE_PENDING", "CREATE_IN_PROGRESS"}


@dataclass(frozen=True)
class Event:
    """A status change of a resource. ``reason`` is CloudFormation's, on one line, or empty."""

    logical_id: str
    kind: str
    status: str
    reason: str

    @property
    def is_failure(self) -> bool:
        # After the first failure, CloudFormation cancels the other changes. These are not the cause.
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()


EventCallback = Callable[[Event], None]


@dataclass(frozen=True)
class StackState:
    """The status of a stack with its parameters and outputs by name. ``status`` is empty if there is no stack."""

    name: str
    status: str
    reason: str
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether the stack was ever created completely. A failed creation leaves an empty stack."""
        return self.status not in (*_NONEXISTENT_STATUSES, "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "")


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed."""

    arn: str
    stack: str
    creates_stack: bool
    changes: list[Change]


class Stacks:
    """The CloudFormation stacks of a deployment."""

    def __init__(self, account: Account, env: str) -> None:
        self.account, self.env = account, env
        self._client = account.client("cloudformation")
        self._role = f"arn:{account.partition}:iam::{account.number}:role/resources-daybook-{env}"

    def describe_stack(self, template: Template) -> StackState:
        """Return the state of a template's stack.

        Raises
        ------
        DeploymentError
            An operation on the stack is in progress, or the stack needs manual repair.
        """
        from botocore.exceptions import ClientError

        stack = template.stack_name(self.env)
        with wrap_aws_errors(f"The stack {stack} could not be read"):
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
            raise DeploymentError(f"The stack {stack} is changing ({state.status}); wait until it has ended, then try again.")
        if state.status in ("UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"):
            raise DeploymentError(
                f"The stack {stack} has the status {state.status} ({state.reason or 'no reason given'}); continue the rollback "
                "or delete the stack in CloudFormation, then try again."
            )
        return state

    def read_deployed_template(self, template: Template) -> str:
        """Return the template text of a template's stack."""
        with wrap_aws_errors(f"The template of {template.stack_name(self.env)} could not be read"):
            found = self._client.get_template(StackName=template.stack_name(self.env), TemplateStage="Original")
        return str(found["TemplateBody"])

    def create_change_set(self, template: Template, parameters: list[dict[str, Any]], state: StackState) -> Optional[ChangeSet]:
        """Create the change set of a template; return None if it changes nothing.

        An empty stack that a failed creation left is deleted first.
        """
        if state.status and not state.exists and state.status not in _NONEXISTENT_STATUSES:
            self.delete(template)
        creates = not state.exists
        with wrap_aws_errors(f"The changes of {state.name} could not be computed"):
            arn = self._request_change_set(
                StackName=state.name,
                ChangeSetName=f"daybook-{uuid.uuid4().hex[:12]}",
                ChangeSetType="CREATE" if creates else "UPDATE",
                TemplateBody=template.text,
                Parameters=parameters,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                # Resources that survived the deletion of an earlier stack (logs, buckets) are imported by name.
                **({"ImportExistingResources": True} if creates else {}),
                **self._role_arguments(template),
            )
            found = self._wait_for_change_set(state.name, arn)
        if found["Status"] != "FAILED":
            return ChangeSet(arn, state.name, creates, parse_changes(found["Changes"]))
        self.delete_change_set(ChangeSet(arn, state.name, creates, []), template)
        reason = " ".join(found.get("StatusReason", "no reason given").split()).rstrip(".")
        if any(each in reason for each in _NO_CHANGES_MESSAGES):
            return None
        raise DeploymentError(f"The changes of {state.name} could not be computed: {reason}.")

    def delete_change_set(self, change_set: ChangeSet, template: Template) -> None:
        """Delete a change set, and the empty stack that CloudFormation created for it."""
        with wrap_aws_errors(f"The change set of {change_set.stack} could not be deleted"):
            self._client.delete_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn)
            if change_set.creates_stack:
                self._client.delete_stack(StackName=change_set.stack, **self._role_arguments(template))

    def execute_change_set(self, change_set: ChangeSet, watch: EventCallback) -> None:
        """Execute a change set and pass every event to ``watch``.

        Raises
        ------
        DeploymentError
            The stack has not changed; the message names the first resource that failed.
        """
        after = self._newest_event_id(change_set.stack)
        with wrap_aws_errors(f"The changes of {change_set.stack} could not be made"):
            # A rollback also deletes what the change set created, or the next attempt would find these names taken.
            retained = {"RetainExceptOnCreate": True} if change_set.creates_stack else {}
            self._client.execute_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn, **retained)
        self._follow(change_set.stack, change_set.stack, after, watch, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self, template: Template, watch: EventCallback = lambda event: None) -> None:
        """Delete a stack and pass every event to ``watch``; raise ``DeploymentError`` if that fails."""
        stack = template.stack_name(self.env)
        after = self._newest_event_id(stack)
        with wrap_aws_errors(f"The stack {stack} could not be deleted"):
            # A deleted stack is found by its ARN only.
            arn = self._client.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
            self._client.delete_stack(StackName=stack, **self._role_arguments(template))
        self._follow(stack, arn, after, watch, ("DELETE_COMPLETE",))

    def _role_arguments(self, template: Template) -> dict[str, str]:
        return {} if template.name == ADMIN_STACK else {"RoleARN": self._role}

    def _request_change_set(self, **request: Any) -> str:
        """Request a change set and return its ARN. A new role cannot be assumed for some seconds, so this retries."""
        from botocore.exceptions import ClientError

        attempts = 1
        while True:
            try:
                return str(self._client.create_change_set(**request)["Id"])
            except ClientError as error:
                if attempts == _MAX_NEW_ROLE_ATTEMPTS or "cannot be assumed" not in error_reason(error):
                    raise
            attempts += 1
            time.sleep(POLL_SECONDS)

    def _wait_for_change_set(self, stack: str, arn: str) -> dict[str, Any]:
        """Return the description of a change set with all its changes, once it is complete."""
        pages = self._client.get_paginator("describe_change_set")
        while True:
            found: dict[str, Any] = pages.paginate(StackName=stack, ChangeSetName=arn).build_full_result()
            if found["Status"] not in _CREATING_STATUSES:
                return found
            time.sleep(POLL_SECONDS)

    def _follow(self, stack: str, arn: str, after: str, watch: EventCallback, good: tuple[str, ...]) -> None:
        failures: list[Event] = []
        while True:
            with wrap_aws_errors(f"The events of {stack} could not be read; the operation on the stack continues"):
                status = self._client.describe_stacks(StackName=arn)["Stacks"][0]["StackStatus"]
                # Events are read after the status, so that none of an ended stack is missed.
                for each in self._read_events(arn, after):
                    after = each["EventId"]
                    reason = " ".join(each.get("ResourceStatusReason", "").split())
                    event = Event(each["LogicalResourceId"], each["ResourceType"], each["ResourceStatus"], reason)
                    watch(event)
                    failures += [event] if event.is_failure and event.logical_id != stack else []
            if not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(POLL_SECONDS)
        if status not in good:
            reasons = [f"{each.logical_id} ({each.kind}) failed: {each.reason.rstrip('.')}" for each in failures]
            what = reasons[0] if reasons else "no resource failed"
            raise DeploymentError(f"{stack} ended with {status}: {what}; correct the cause, then try again.")

    def _newest_event_id(self, stack: str) -> str:
        with wrap_aws_errors(f"The events of {stack} could not be read"):
            newest = self._client.describe_stack_events(StackName=stack)["StackEvents"][:1]
        return "".join(event["EventId"] for event in newest)

    def _read_events(self, stack: str, after: str) -> list[dict[str, Any]]:
        """Return the events after the one with the id ``after``, oldest first. AWS returns the newest first, in pages."""
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=stack)
        events = (event for page in pages for event in page["StackEvents"])
        return list(takewhile(lambda event: event["EventId"] != after, events))[::-1]
