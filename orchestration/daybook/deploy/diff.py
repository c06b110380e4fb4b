"""What a deployment would change, a resource at a time, and which of it cannot be taken back."""

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
        # Not rows, but what cannot be made again as it was: whoever confirmed a subscription would be asked once more.
        *("AWS::SNS::Topic", "AWS::SNS::Subscription"),
    }
)
"""Types of resources with which something goes that no template brings back."""


@dataclass(frozen=True)
class Change:
    """One resource's change. ``properties`` are those that differ; ``kept`` says that what it was stays behind, in no stack;
    ``is_possible``, that AWS knows only while it is at it whether the resource is replaced."""

    action: Action
    logical_id: str
    kind: str
    properties: tuple[str, ...] = ()
    kept: bool = False
    is_possible: bool = False
    condition: str = ""

    @property
    def holds_data(self) -> bool:
        return self.kind in STATEFUL_TYPES

    @property
    def is_destructive(self) -> bool:
        """Whether something that is there goes away; what may have to go, where data would go with it."""
        return self.action == "delete" or (self.action == "replace" and (self.holds_data or not self.is_possible))

    def describe(self) -> str:
        """The change on one line: sign, logical id, type, properties, and what it means."""
        properties = f": {', '.join(self.properties)}" if self.properties else ""
        return f"{ACTION_SIGNS[self.action]:>3} {self.logical_id} ({self.kind}){properties}{self._describe_effect()}"

    def _describe_effect(self) -> str:
        if self.action == "add":
            return f", if {self.condition}" if self.condition else ""
        if self.action == "import":
            return " - it is there already, and is taken into the stack"
        if self.action == "modify":
            return ""
        said = {"replace": "MAY BE REPLACED" if self.is_possible else "REPLACED", "delete": "DELETED"}[self.action]
        if self.kept:
            return f" - {said}; what it was is kept, outside of the stack"
        return f" - {said}{'; it HOLDS DATA, which goes with it' if self.holds_data else ''}"


def parse_changes(described: Iterable[Mapping[str, Any]]) -> list[Change]:
    """The resources' changes of a change set (``Changes`` in DescribeChangeSet), those that take something away first."""
    changes = [_parse_change(each["ResourceChange"]) for each in described if each.get("Type") == "Resource"]
    return sorted(changes, key=lambda each: (not each.is_destructive, each.logical_id))


def _parse_change(change: Mapping[str, Any]) -> Change:
    replacement = change.get("Replacement", "False")
    action: Action = {"Add": "add", "Remove": "delete", "Import": "import"}.get(change["Action"], "modify")  # type: ignore[assignment]
    if action == "modify" and replacement != "False":
        action = "replace"
    # A property is told once for each thing that it depends on.
    targets = [each["Target"] for each in change.get("Details", [])]
    properties = {each.get("Name") or each.get("Attribute", "") for each in targets} - {""}
    return Change(
        action,
        change["LogicalResourceId"],
        change["ResourceType"],
        tuple(sorted(properties)),
        kept=change.get("PolicyAction", "") in ("Retain", "ReplaceAndRetain"),
        is_possible=replacement == "Conditional",
    )


def list_additions(template: Template) -> list[Change]:
    """What a template makes where it has no stack yet; some of it under a condition of its parameters."""
    return [
        Change("add", name, each["Type"], condition=each.get("Condition", ""))
        for name, each in sorted(template.resources.items())
    ]
