"""All questions about a deployment, in the order in which their answers help.

Here: what they are asked of. Not here: the questions, printing (the command).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from daybook.aws.account import Account
from daybook.aws.doctor import ground, holdings, registered, works
from daybook.aws.doctor.checks import Check, Patient
from daybook.aws.doctor.ground import Clock
from daybook.aws.templates import Template, read_templates, values_of
from daybook.params import Settings


def _now() -> datetime:
    return datetime.now(timezone.utc)


def examine(account: Account, settings: Settings, now: Clock = _now) -> Iterator[Check]:
    """Ask everything, an answer at a time: AWS is slow to answer all of it. Raises ``ParamsError`` where params do not fit."""
    templates = read_templates()
    values = values_of(settings, {})
    for template in templates:
        values.update(_parameters(account, template, settings.env))
    patient = Patient(account, settings, {each.name: each for each in templates}, values)
    yield from ground.look(patient, now)
    yield from holdings.look(patient)
    yield from registered.look(patient)
    yield from works.look(patient, now)


def _parameters(account: Account, template: Template, env: str) -> dict[str, str]:
    """What a stack was given; nothing where it cannot be asked, which its own question tells."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        (found,) = account.client("cloudformation").describe_stacks(StackName=template.stack_of(env))["Stacks"]
    except (ClientError, BotoCoreError):
        return {}
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])}
