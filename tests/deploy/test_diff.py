"""Test the description of change sets: which resources are lost, and which with data."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.deploy.diff import Change, list_additions, parse_changes
from daybook.deploy.templates import read_template


def described(action: str, kind: str, name: str = "It", **more: Any) -> dict[str, Any]:
    """Return a resource's change in the form of DescribeChangeSet."""
    change = {"Action": action, "LogicalResourceId": name, "ResourceType": kind, "Scope": [], "Details": [], **more}
    return {"Type": "Resource", "ResourceChange": change}


def detail(name: str) -> dict[str, Any]:
    return {"Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": "Never"}}


@pytest.mark.parametrize(
    ("given", "line", "dangerous"),
    [
        (described("Add", "AWS::Glue::Job"), "  + It (AWS::Glue::Job)", False),
        (
            described("Modify", "AWS::Glue::Job", Replacement="False", Details=[detail("Timeout"), detail("Command")] * 2),
            "  ~ It (AWS::Glue::Job): Command, Timeout",
            False,
        ),
        (
            described(
                "Modify", "AWS::Glue::Job", Replacement="True", Details=[detail("Name")], PolicyAction="ReplaceAndDelete"
            ),
            "-/+ It (AWS::Glue::Job): Name - REPLACED",
            True,
        ),
        (
            described("Modify", "AWS::SQS::Queue", Replacement="Conditional", Details=[detail("QueueName")]),
            "-/+ It (AWS::SQS::Queue): QueueName - MAY BE REPLACED, and ITS DATA IS LOST",
            True,
        ),
        (
            described("Modify", "AWS::S3::Bucket", Replacement="True", PolicyAction="ReplaceAndRetain"),
            "-/+ It (AWS::S3::Bucket) - REPLACED; the old resource is kept outside the stack",
            True,
        ),
        (
            described("Modify", "AWS::CloudWatch::Alarm", Replacement="Conditional", Details=[detail("Threshold")]),
            "-/+ It (AWS::CloudWatch::Alarm): Threshold - MAY BE REPLACED",
            False,
        ),
        (
            described("Remove", "AWS::KMS::Key", PolicyAction="Delete"),
            "  - It (AWS::KMS::Key) - DELETED, and ITS DATA IS LOST",
            True,
        ),
        (
            described("Remove", "AWS::S3::Bucket", PolicyAction="Retain"),
            "  - It (AWS::S3::Bucket) - DELETED; the old resource is kept outside the stack",
            True,
        ),
        (described("Remove", "AWS::IAM::Role"), "  - It (AWS::IAM::Role) - DELETED", True),
        (
            described("Import", "AWS::Logs::LogGroup"),
            "  = It (AWS::Logs::LogGroup) - exists already and is imported into the stack",
            False,
        ),
    ],
)
def test_change_describes_effect_on_resource(given: dict[str, Any], line: str, dangerous: bool) -> None:
    (change,) = parse_changes([given])
    assert (change.describe(), change.is_destructive) == (line, dangerous)


def test_changed_tags_are_listed_as_property() -> None:
    tags = {"Target": {"Attribute": "Tags", "RequiresRecreation": "Never"}}
    (change,) = parse_changes([described("Modify", "AWS::SNS::Topic", Replacement="False", Details=[tags])])
    assert change.properties == ("Tags",)


def test_destructive_changes_come_first() -> None:
    given = [described("Add", "AWS::Glue::Job", "A"), described("Remove", "AWS::Glue::Job", "Z"), {"Type": "Hook"}]
    assert [each.logical_id for each in parse_changes(given)] == ["Z", "A"]


def test_new_stack_lists_resources_with_conditions() -> None:
    found = {each.logical_id: each for each in list_additions(read_template("foundation"))}
    assert found["ByHttps"] == Change("add", "ByHttps", "AWS::SNS::Subscription", condition="ToldByHttps")
    assert found["ByHttps"].describe() == "  + ByHttps (AWS::SNS::Subscription), if ToldByHttps"
    assert found["Lake"].condition == ""
