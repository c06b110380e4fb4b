"""What a change set says, in words: which of it goes for good, and where data would go with it."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.deploy.diff import Change, list_additions, parse_changes
from daybook.deploy.templates import read_template


def described(action: str, kind: str, name: str = "It", **more: Any) -> dict[str, Any]:
    """A resource's change as DescribeChangeSet gives it."""
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
            "-/+ It (AWS::SQS::Queue): QueueName - MAY BE REPLACED; it HOLDS DATA, which goes with it",
            True,
        ),
        (
            described("Modify", "AWS::S3::Bucket", Replacement="True", PolicyAction="ReplaceAndRetain"),
            "-/+ It (AWS::S3::Bucket) - REPLACED; what it was is kept, outside of the stack",
            True,
        ),
        (
            described("Modify", "AWS::CloudWatch::Alarm", Replacement="Conditional", Details=[detail("Threshold")]),
            "-/+ It (AWS::CloudWatch::Alarm): Threshold - MAY BE REPLACED",
            False,
        ),
        (
            described("Remove", "AWS::KMS::Key", PolicyAction="Delete"),
            "  - It (AWS::KMS::Key) - DELETED; it HOLDS DATA, which goes with it",
            True,
        ),
        (
            described("Remove", "AWS::S3::Bucket", PolicyAction="Retain"),
            "  - It (AWS::S3::Bucket) - DELETED; what it was is kept, outside of the stack",
            True,
        ),
        (described("Remove", "AWS::IAM::Role"), "  - It (AWS::IAM::Role) - DELETED", True),
        (
            described("Import", "AWS::Logs::LogGroup"),
            "  = It (AWS::Logs::LogGroup) - it is there already, and is taken into the stack",
            False,
        ),
    ],
)
def test_a_change_says_what_happens_to_what_is_there(given: dict[str, Any], line: str, dangerous: bool) -> None:
    (change,) = parse_changes([given])
    assert (change.describe(), change.is_destructive) == (line, dangerous)


def test_tags_alone_are_named_by_where_they_are() -> None:
    tags = {"Target": {"Attribute": "Tags", "RequiresRecreation": "Never"}}
    (change,) = parse_changes([described("Modify", "AWS::SNS::Topic", Replacement="False", Details=[tags])])
    assert change.properties == ("Tags",)


def test_what_takes_something_away_comes_first() -> None:
    given = [described("Add", "AWS::Glue::Job", "A"), described("Remove", "AWS::Glue::Job", "Z"), {"Type": "Hook"}]
    assert [each.logical_id for each in parse_changes(given)] == ["Z", "A"]


def test_a_stack_that_is_not_there_is_told_by_its_template_conditions_too() -> None:
    found = {each.logical_id: each for each in list_additions(read_template("foundation"))}
    assert found["ByHttps"] == Change("add", "ByHttps", "AWS::SNS::Subscription", condition="ToldByHttps")
    assert found["ByHttps"].describe() == "  + ByHttps (AWS::SNS::Subscription), if ToldByHttps"
    assert found["Lake"].condition == ""
