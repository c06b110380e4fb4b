"""All questions about a deployment, in the order in which their answers help."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from daybook.deploy.doctor import catalogue, data_stores, environment, services
from daybook.deploy.doctor.checks import Check, Patient
from daybook.deploy.doctor.environment import Clock
from daybook.deploy.templates import Template, read_templates, values_of
from daybook.execution.aws.account import Account
from daybook.settings import Settings


def _now() -> datetime:
    return datetime.now(timezone.utc)


def examine(account: Account, settings: Settings, now: Clock = _now) -> Iterator[Check]:
    """Ask everything, an answer at a time: AWS is slow to answer all of it. Raises ``ParamsError`` where params do not fit."""
    templates = read_templates()
    values = values_of(settings, {})
    for template in templates:
        values.update(_parameters(account, template, settings.env))
    patient = Patient(account, settings, {each.name: each for each in templates}, values)
    yield from environment.look(patient, now)
    yield from data_stores.look(patient)
    yield from catalogue.look(patient)
    yield from services.look(patient, now)


def _parameters(account: Account, template: Template, env: str) -> dict[str, str]:
    """What a stack was given; nothing where it cannot be asked, which its own question tells."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        (found,) = account.client("cloudformation").describe_stacks(StackName=template.stack_of(env))["Stacks"]
    except (ClientError, BotoCoreError):
        return {}
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])}
