"""Describe the resource changes of a change set and mark those that lose data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from daybook.deploy.templates import Template

Action = Literal["add", "modify", "replace", "delete", "import"]
ACTION_SIGNS: Mapping[Action, str] = {"add": "+", "modify": "~", "replace": "-/+", "delete": "-", "import": "="}

STATEFUL_TYPES = frozenset(
    {
        *("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::SQS::Queue"),
        # A new subscription must be confirmed again by its receiver.
        *("AWS::SNS::Topic", "AWS::SNS::Subscription"),
    }
)
"""Resource types with state that a template cannot restore."""


@dataclass(frozen=True)
class Change:
    """The change of one resource.

    Attributes
    ----------
    properties : tuple of str
        The changed properties.
    is_retained : bool
        The old resource is kept outside the stack.
    is_possible : bool
        AWS determines only during the update whether it replaces the resource.
    condition : str
        The condition of the template under which a new resource is created.
    """

    action: Action
    logical_id: str
    kind: str
    properties: tuple[str, ...] = ()
    is_retained: bool = False
    is_possible: bool = False
    condition: str = ""

    @property
    def holds_data(self) -> bool:
        return self.kind in STATEFUL_TYPES

    @property
    def is_destructive(self) -> bool:
        """Whether the change removes a resource, or may replace one that holds data."""
        return self.action == "delete" or (self.action == "replace" and (self.holds_data or not self.is_possible))

    def describe(self) -> str:
        """Return the change on one line: sign, logical id, type, properties, effect."""
        properties = f": {', '.join(self.properties)}" if self.properties else ""
        return f"{ACTION_SIGNS[self.action]:>3} {self.logical_id} ({self.kind}){properties}{self._describe_effect()}"

    def _describe_effect(self) -> str:
        if self.action == "add":
            return f", if {self.condition}" if self.condition else ""
        if self.action == "import":
            return " - exists already and is imported into the stack"
        if self.action == "modify":
            return ""
        effect = {"replace": "MAY BE REPLACED" if self.is_possible else "REPLACED", "delete": "DELETED"}[self.action]
        if self.is_retained:
            return f" - {effect}; the old resource is kept outside the stack"
        return f" - {effect}{', and ITS DATA IS LOST' if self.holds_data else ''}"


def parse_changes(described: Iterable[Mapping[str, Any]]) -> list[Change]:
    """Return the resource changes in ``Changes`` of DescribeChangeSet, destructive ones first."""
    changes = [_parse_change(each["ResourceChange"]) for each in described if each.get("Type") == "Resource"]
    return sorted(changes, key=lambda each: (not each.is_destructive, each.logical_id))


def _parse_change(change: Mapping[str, Any]) -> Change:
    replacement = change.get("Replacement", "False")
    action: Action = {"Add": "add", "Remove": "delete", "Import": "import"}.get(change["Action"], "modify")  # type: ignore[assignment]
    if action == "modify" and replacement != "False":
        action = "replace"
    # AWS lists a property once for each of its dependencies.
    targets = [each["Target"] for each in change.get("Details", [])]
    properties = {each.get("Name") or each.get("Attribute", "") for each in targets} - {""}
    return Change(
        action,
        change["LogicalResourceId"],
        change["ResourceType"],
        tuple(sorted(properties)),
        is_retained=change.get("PolicyAction", "") in ("Retain", "ReplaceAndRetain"),
        is_possible=replacement == "Conditional",
    )


def list_additions(template: Template) -> list[Change]:
    """Return the resources of a template as additions, for a stack that does not exist yet."""
    return [
        Change("add", name, each["Type"], condition=each.get("Condition", ""))
        for name, each in sorted(template.resources.items())
    ]
