"""What the stacks are given: from params, the command line and the templates themselves, held to what a template allows."""

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


def given_to(template: Template, values: dict[str, str], kept: tuple[str, ...] = ()) -> dict[str, object]:
    """By name, what a parameter is given; True where it stays as it was."""
    found = build_parameters(template, values, kept)
    return {each["ParameterKey"]: each.get("ParameterValue", each.get("UsePreviousValue")) for each in found}


def a_template(**declared: object) -> Template:
    return Template("some", "", {"It": {"Type": "String", **declared}}, {})


def test_a_stack_comes_after_those_whose_exports_it_uses() -> None:
    made: set[str] = set()
    for template in read_templates():
        used = set(re.findall(r"ImportValue[^\n]*?daybook-\$\{Environment\}-(\w+)", template.text))
        assert used <= made, template.name
        made |= set(re.findall(r"Export: \{Name: !Sub \"daybook-\$\{Environment\}-(\w+)\"\}", template.text))
    assert made
    assert [each.name for each in read_templates()] == list(STACKS)


def test_every_parameter_without_a_default_is_said_by_params_or_asked_for_once() -> None:
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


def test_places_of_params_name_the_buckets() -> None:
    settings = load_settings("prod").model_copy(update={"landing": "s3://files/from/the/shop"})
    found = load_parameter_values(settings, {})
    assert (found["LakeBucket"], found["ArchiveBucket"], found["LandingBucket"]) == (
        "daybook-prod-lake",
        "daybook-prod-archive",
        "files",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lake": "s3://shop/lake"}, "key 'lake' is s3://shop/lake, and a deployment on AWS has it a whole bucket"),
        ({"landing": "somewhere"}, "and a deployment on AWS has it in a bucket, s3://NAME"),
        ({"runs_on": "laptop"}, "params/prod.yaml: key 'runs_on' is laptop, and a deployment on AWS needs runs_on: aws"),
        ({"pii_key": "secretsmanager://another"}, "the deployment makes secretsmanager://daybook-prod-pii-key"),
    ],
)
def test_places_that_the_templates_do_not_make_are_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(said)):
        load_parameter_values(load_settings("prod").model_copy(update=changes), {})


def test_what_the_command_line_gives_is_stronger_than_params_and_the_template() -> None:
    values = load_parameter_values(load_settings("prod"), {"CodeBucket": "other-code", "LatencyHours": "30"})
    assert values["CodeBucket"] == "other-code"
    assert given_to(read_template("watch"), values)["LatencyHours"] == "30"


def test_nothing_is_late_where_nothing_is_started_by_the_clock() -> None:
    values = load_parameter_values(load_settings("prod"), {})
    assert given_to(read_template("watch"), values)["Nightly"] == "ENABLED"
    assert "Nightly" not in values


def test_a_bare_off_of_yaml_is_off(project) -> None:
    project.replace("params/prod.yaml", "  parameters:", "  parameters:\n    ObjectLock: off\n    Schedules: DISABLED\n   ")
    project.replace("params/prod.yaml", "    # of the templates", "# of the templates")
    values = load_parameter_values(load_settings("prod"), {})
    assert (values["ObjectLock"], values["Schedules"], values["Nightly"]) == ("off", "DISABLED", "DISABLED")


def test_what_nobody_gives_is_as_the_template_says_even_if_it_was_otherwise() -> None:
    assert given_to(a_template(Default="on"), {}, kept=("It",)) == {"It": "on"}


def test_what_has_no_default_stays_as_it_was() -> None:
    assert given_to(a_template(), {}, kept=("It",)) == {"It": True}


def test_what_nobody_ever_gave_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"infra/some.yaml needs It \(Who is told\); .* give --parameter It=VALUE\."):
        build_parameters(a_template(Description="Who is told."), {})


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        ({"AllowedValues": [0.0625, 1]}, "2", "It is '2'; it can be 0.0625, 1."),
        ({"AllowedPattern": "[a-z]+"}, "A", r"It is 'A', which is not [a-z]+; change it."),
        ({"AllowedPattern": "[a-z]+", "ConstraintDescription": "small letters"}, "A", "which is not small letters"),
        ({"Type": "Number", "MinValue": 2, "MaxValue": 40}, "41", "It is '41'; it should be a number from 2 up to 40."),
        ({"Type": "Number", "MinValue": 1}, "0", "it should be a number from 1."),
        ({"Type": "Number"}, "many", "it should be a number."),
    ],
)
def test_a_value_that_a_template_does_not_allow_is_refused_before_anything_starts(
    declared: dict[str, object], value: str, said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        build_parameters(a_template(**declared), {"It": value})


def test_a_hyphen_in_the_name_of_a_deployment_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"Environment is 'prod-eu', which is not up to 20 small letters and digits, .* prod-eu"
    ):
        build_parameters(read_template("deployer"), {"Environment": "prod-eu"})


def test_a_parameter_that_no_template_has_is_refused() -> None:
    require_known_parameters(["Dpu", "AlertEmail"], read_templates())
    with pytest.raises(UsageError, match="has a parameter 'DPU'; there are: AccessLogBucket, "):
        require_known_parameters(["DPU"], read_templates())
