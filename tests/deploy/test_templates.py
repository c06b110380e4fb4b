"""Test the parameters of stacks: from params, the command line and the templates, and their validation."""

from __future__ import annotations

import re

import pytest

from daybook.deploy.templates import (
    STACKS,
    Template,
    build_parameters,
    load_parameter_values,
    read_template,
    read_templates,
    require_known_parameters,
)
from daybook.errors import ParamsError, UsageError
from daybook.settings import load_settings


def parameters_of(template: Template, values: dict[str, str], previous: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the parameter values by name; True for a kept previous value."""
    found = build_parameters(template, values, previous)
    return {each["ParameterKey"]: each.get("ParameterValue", each.get("UsePreviousValue")) for each in found}


def make_template(**declared: object) -> Template:
    return Template("some", "", {"It": {"Type": "String", **declared}}, {})


def test_stacks_follow_those_whose_exports_they_use() -> None:
    made: set[str] = set()
    for template in read_templates():
        used = set(re.findall(r"ImportValue[^\n]*?daybook-\$\{Environment\}-(\w+)", template.text))
        assert used <= made, template.name
        made |= set(re.findall(r"Export: \{Name: !Sub \"daybook-\$\{Environment\}-(\w+)\"\}", template.text))
    assert made
    assert [each.name for each in read_templates()] == list(STACKS)


def test_only_two_parameters_have_no_value() -> None:
    values = {
        **load_parameter_values(load_settings("prod"), {}),
        "CodePrefix": "releases/0123/",
        "BundleUri": "s3://code/b.zip",
    }
    missing = {
        name
        for template in read_templates()
        for name, declared in template.parameters.items()
        if "Default" not in declared and name not in values
    }
    assert missing == {"AlertEmail", "DeployerPrincipal"}


def test_settings_name_the_buckets() -> None:
    settings = load_settings("prod").model_copy(update={"landing": "s3://files/from/the/shop"})
    found = load_parameter_values(settings, {})
    assert (found["LakeBucket"], found["ArchiveBucket"], found["LandingBucket"]) == (
        "daybook-prod-lake",
        "daybook-prod-archive",
        "files",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lake": "s3://shop/lake"}, "key 'lake' is s3://shop/lake; set it to s3://BUCKET without a prefix"),
        ({"landing": "somewhere"}, "set it to s3://BUCKET or s3://BUCKET/PREFIX for a deployment on AWS"),
        ({"runs_on": "laptop"}, "params/prod.yaml: key 'runs_on' is laptop; set runs_on: aws"),
        (
            {"pii_key": "secretsmanager://another"},
            "set it to secretsmanager://daybook-prod-pii-key, which the deployment creates",
        ),
    ],
)
def test_settings_unlike_templates_are_rejected(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        load_parameter_values(load_settings("prod").model_copy(update=changes), {})


def test_command_line_overrides_params_and_template() -> None:
    values = load_parameter_values(load_settings("prod"), {"CodeBucket": "other-code", "LatencyHours": "30"})
    assert values["CodeBucket"] == "other-code"
    assert parameters_of(read_template("watch"), values)["LatencyHours"] == "30"


def test_nightly_follows_schedules() -> None:
    values = load_parameter_values(load_settings("prod"), {})
    assert parameters_of(read_template("watch"), values)["Nightly"] == "ENABLED"
    assert "Nightly" not in values


def test_yaml_boolean_is_on_or_off(project) -> None:
    project.replace("params/prod.yaml", "  parameters:", "  parameters:\n    ObjectLock: off\n    Schedules: DISABLED\n   ")
    project.replace("params/prod.yaml", "    # of the templates", "# of the templates")
    values = load_parameter_values(load_settings("prod"), {})
    assert (values["ObjectLock"], values["Schedules"], values["Nightly"]) == ("off", "DISABLED", "DISABLED")


def test_default_overrides_previous_value() -> None:
    assert parameters_of(make_template(Default="on"), {}, previous=("It",)) == {"It": "on"}


def test_previous_value_is_kept_without_default() -> None:
    assert parameters_of(make_template(), {}, previous=("It",)) == {"It": True}


def test_missing_parameter_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"infra/some.yaml needs the parameter It \(The address for messages\); .* give --parameter It=VALUE\."
    ):
        build_parameters(make_template(Description="The address for messages."), {})


@pytest.mark.parametrize(
    ("declared", "value", "message"),
    [
        ({"AllowedValues": [0.0625, 1]}, "2", "It is '2'; set it to one of 0.0625, 1."),
        ({"AllowedPattern": "[a-z]+"}, "A", r"It is 'A'; set it to [a-z]+."),
        ({"AllowedPattern": "[a-z]+", "ConstraintDescription": "small letters"}, "A", "set it to small letters."),
        ({"Type": "Number", "MinValue": 2, "MaxValue": 40}, "41", "It is '41'; set it to a number from 2 up to 40."),
        ({"Type": "Number", "MinValue": 1}, "0", "set it to a number from 1."),
        ({"Type": "Number"}, "many", "set it to a number."),
    ],
)
def test_disallowed_value_is_rejected(declared: dict[str, object], value: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build_parameters(make_template(**declared), {"It": value})


def test_deployment_name_with_hyphen_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"Environment is 'prod-eu'; set it to up to 20 lower-case letters and digits"):
        build_parameters(read_template("deployer"), {"Environment": "prod-eu"})


def test_unknown_parameter_is_rejected() -> None:
    require_known_parameters(["Dpu", "AlertEmail"], read_templates())
    with pytest.raises(UsageError, match="has the parameter 'DPU'; use one of AccessLogBucket, "):
        require_known_parameters(["DPU"], read_templates())
