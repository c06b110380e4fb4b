"""The templates of ``infra/`` as they are deployed: their order, what each is given, what each would make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import yaml

from daybook.errors import ParamsError, UsageError
from daybook.settings import Settings, project_root

STACKS = ("deployer", "foundation", "catalogue", "pipeline", "watch")
"""In the order in which they are made: each needs what those before it export."""
ADMIN_STACK = "deployer"
"""The stack that only an administrator changes; all others are made by the role that it makes."""
RETAINED_STACKS = ("deployer", "foundation")
"""The stacks that outlive the others: who may deploy, and what holds data."""


# libyaml's loader where PyYAML was built with it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CloudFormationLoader(_SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's short forms; what they come to is CloudFormation's business."""


def _construct_long_form(loader: Any, suffix: str, node: yaml.Node) -> Any:
    return {suffix: _construct_plain(loader, node)}


def _construct_plain(loader: Any, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


_CloudFormationLoader.add_multi_constructor("!", _construct_long_form)


@dataclass(frozen=True)
class Template:
    """A template: ``name`` is its file's; ``parameters`` and ``resources`` are its sections, by name and logical id."""

    name: str
    text: str
    parameters: dict[str, dict[str, Any]]
    resources: dict[str, dict[str, Any]]

    def stack_name(self, env: str) -> str:
        """The name of its stack in a deployment."""
        return f"daybook-{env}-{self.name}"


def read_template(name: str) -> Template:
    """A template of ``infra/`` by its name; ``UsageError`` where a checkout has none."""
    path = project_root() / "infra" / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"{path} is not there; deploy from a checkout.")
    text = path.read_text(encoding="utf-8")
    parsed = yaml.load(text, Loader=_CloudFormationLoader)  # noqa: S506 (a SafeLoader)
    return Template(name, text, parsed["Parameters"], parsed["Resources"])


def read_templates() -> list[Template]:
    """All of them, in their order."""
    return [read_template(name) for name in STACKS]


def load_parameter_values(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """What the templates' parameters are in a deployment: what its places say, ``deployment.parameters`` in its params file,
    and on top what the command line gave; all but a release's (``CodePrefix``, ``BundleUri``).

    Raises ``ParamsError`` where params do not fit what the templates make.
    """
    where = f"params/{settings.env}.yaml"
    if settings.runs_on != "aws":
        # It also decides which settings an execution may override (``params.ON_AWS``).
        raise ParamsError(f"{where}: key 'runs_on' is {settings.runs_on}, and a deployment on AWS needs runs_on: aws; add it.")
    values = {"Environment": settings.env}
    for key, parameter in (("lake", "LakeBucket"), ("archive", "ArchiveBucket"), ("landing", "LandingBucket")):
        place = getattr(settings, key)
        found = re.fullmatch(r"s3://([^/]+)(/.*)?", place)
        if not found or (found[2] and key != "landing"):
            wanted = "a whole bucket, s3://NAME" if key != "landing" else "in a bucket, s3://NAME"
            raise ParamsError(f"{where}: key {key!r} is {place}, and a deployment on AWS has it {wanted}; change it.")
        values[parameter] = found[1]
    secret = f"secretsmanager://daybook-{settings.env}-pii-key"
    if settings.pii_key != secret:
        raise ParamsError(f"{where}: key 'pii_key' is {settings.pii_key}, and the deployment makes {secret}; write that.")
    if settings.deployment:
        values.update({key: _format_value(value) for key, value in settings.deployment.parameters.items()})
    if "Nightly" not in values and "Schedules" in values:
        # Where nothing is started by the clock, nothing is late.
        values["Nightly"] = values["Schedules"]
    return {**values, **given}


def require_known_parameters(values: Iterable[str], templates: Iterable[Template]) -> None:
    """Refuse a parameter that no template has."""
    known = sorted({name for each in templates for name in each.parameters})
    for name in values:
        if name not in known:
            raise UsageError(f"No template in infra/ has a parameter {name!r}; there are: {', '.join(known)}.")


def build_parameters(template: Template, values: Mapping[str, str], kept: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A template's parameters as CloudFormation takes them. Those that nobody gives are as the template says, or as they were
    (``kept``, the ones that the stack has) where it says nothing.

    Raises ``UsageError`` where one is missing, or is not what the template allows.
    """
    found: list[dict[str, Any]] = []
    for name, declared in template.parameters.items():
        if name in values:
            _require_allowed(name, values[name], declared)
            found.append({"ParameterKey": name, "ParameterValue": values[name]})
        elif "Default" in declared:
            found.append({"ParameterKey": name, "ParameterValue": _format_value(declared["Default"])})
        elif name in kept:
            found.append({"ParameterKey": name, "UsePreviousValue": True})
        else:
            raise UsageError(
                f"infra/{template.name}.yaml needs {name} ({_format_description(declared)}); write it under `deployment.parameters` in "
                f"params/, or give --parameter {name}=VALUE."
            )
    return found


def _require_allowed(name: str, value: str, declared: Mapping[str, Any]) -> None:
    allowed = [_format_value(each) for each in declared.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise UsageError(f"{name} is {value!r}; it can be {', '.join(allowed)}.")
    pattern = declared.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        raise UsageError(f"{name} is {value!r}, which is not {declared.get('ConstraintDescription', pattern)}; change it.")
    if declared["Type"] == "Number":
        number = _parse_number(value)
        low, high = declared.get("MinValue"), declared.get("MaxValue")
        if number is None or (low is not None and number < low) or (high is not None and number > high):
            limits = [f"from {low}" if low is not None else "", f"up to {high}" if high is not None else ""]
            raise UsageError(f"{name} is {value!r}; it should be {' '.join(['a number', *filter(None, limits)])}.")


def _parse_number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _format_value(value: Any) -> str:
    """A value as CloudFormation takes it; YAML reads a bare on and off as true and false."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _format_description(declared: Mapping[str, Any]) -> str:
    return " ".join(str(declared.get("Description", "")).split()).rstrip(".")
