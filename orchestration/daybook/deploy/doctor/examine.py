"""Run all checks of a deployment, basic ones first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from daybook.deploy.doctor import catalogue, data_stores, environment, services
from daybook.deploy.doctor.checks import Check, CheckContext
from daybook.deploy.doctor.environment import Clock
from daybook.deploy.templates import Template, load_parameter_values, read_templates
from daybook.execution.aws.account import Account
from daybook.settings import Settings


def _now() -> datetime:
    return datetime.now(timezone.utc)


def run_checks(account: Account, settings: Settings, now: Clock = _now) -> Iterator[Check]:
    """Run all checks and yield each result as it arrives.

    Raises
    ------
    ParamsError
        The settings do not match the templates.
    """
    templates = read_templates()
    values = load_parameter_values(settings, {})
    for template in templates:
        values.update(_read_stack_parameters(account, template, settings.env))
    context = CheckContext(account, settings, {each.name: each for each in templates}, values)
    yield from environment.check_environment(context, now)
    yield from data_stores.check_data_stores(context)
    yield from catalogue.check_catalogue(context)
    yield from services.check_services(context, now)


def _read_stack_parameters(account: Account, template: Template, env: str) -> dict[str, str]:
    """Return the parameters of a stack; none if it cannot be read, which the check of the stack reports."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        (found,) = account.client("cloudformation").describe_stacks(StackName=template.stack_name(env))["Stacks"]
    except (ClientError, BotoCoreError):
        return {}
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])}
