"""Read the CloudFormation templates of ``infra/`` and build their parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import yaml

from daybook.errors import ParamsError, UsageError
from daybook.settings import Settings, project_root

STACKS = ("deployer", "foundation", "catalogue", "pipeline", "watch")
"""All stacks in the order of creation. Each uses exports of those before it."""
ADMIN_STACK = "deployer"
"""The stack that only an administrator can change. It contains the role that creates the other stacks."""
RETAINED_STACKS = ("deployer", "foundation")
"""The stacks that `daybook destroy` keeps: the deployer's role and the resources that hold data."""


# The loader of libyaml if PyYAML was built with it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CloudFormationLoader(_SafeLoader):  # type: ignore[misc]
    """Load YAML with the short forms of CloudFormation, such as ``!Sub``, as dicts."""


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
    """A template. ``name`` is its file name without suffix; ``resources`` are by logical id."""

    name: str
    text: str
    parameters: dict[str, dict[str, Any]]
    resources: dict[str, dict[str, Any]]

    def stack_name(self, env: str) -> str:
        """Return the name of its stack in the deployment ``env``."""
        return f"daybook-{env}-{self.name}"


def read_template(name: str) -> Template:
    """Read a template of ``infra/``; raise ``UsageError`` if it does not exist."""
    path = project_root() / "infra" / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"{path} does not exist; deploy from a checkout.")
    text = path.read_text(encoding="utf-8")
    parsed = yaml.load(text, Loader=_CloudFormationLoader)  # noqa: S506 (a SafeLoader)
    return Template(name, text, parsed["Parameters"], parsed["Resources"])


def read_templates() -> list[Template]:
    """Read all templates in the order of creation."""
    return [read_template(name) for name in STACKS]


def load_parameter_values(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the templates' parameters, except for those of a release (``CodePrefix``, ``BundleUri``).

    Parameters
    ----------
    settings : Settings
        Its URIs name the buckets; ``deployment.parameters`` override them.
    given : mapping of str to str
        Values from the command line, which override all others.

    Raises
    ------
    ParamsError
        The settings do not match what the templates create.
    """
    where = f"params/{settings.env}.yaml"
    if settings.runs_on != "aws":
        raise ParamsError(f"{where}: key 'runs_on' is {settings.runs_on}; set runs_on: aws for a deployment on AWS.")
    values = {"Environment": settings.env}
    for key, parameter in (("lake", "LakeBucket"), ("archive", "ArchiveBucket"), ("landing", "LandingBucket")):
        uri = getattr(settings, key)
        found = re.fullmatch(r"s3://([^/]+)(/.*)?", uri)
        if not found or (found[2] and key != "landing"):
            expected = "s3://BUCKET without a prefix" if key != "landing" else "s3://BUCKET or s3://BUCKET/PREFIX"
            raise ParamsError(f"{where}: key {key!r} is {uri}; set it to {expected} for a deployment on AWS.")
        values[parameter] = found[1]
    secret = f"secretsmanager://daybook-{settings.env}-pii-key"
    if settings.pii_key != secret:
        raise ParamsError(f"{where}: key 'pii_key' is {settings.pii_key}; set it to {secret}, which the deployment creates.")
    if settings.deployment:
        values.update({key: _format_value(value) for key, value in settings.deployment.parameters.items()})
    if "Nightly" not in values and "Schedules" in values:
        # Without schedules, no run can be late.
        values["Nightly"] = values["Schedules"]
    return {**values, **given}


def require_known_parameters(values: Iterable[str], templates: Iterable[Template]) -> None:
    """Raise ``UsageError`` for a parameter that no template has."""
    known = sorted({name for each in templates for name in each.parameters})
    for name in values:
        if name not in known:
            raise UsageError(f"No template in infra/ has the parameter {name!r}; use one of {', '.join(known)}.")


def build_parameters(template: Template, values: Mapping[str, str], previous: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the parameters of a template in the form of CloudFormation's API.

    A parameter without a value gets the template's default. If it has no default and is in ``previous``, the parameters of
    the existing stack, it keeps its value.

    Raises
    ------
    UsageError
        A parameter is missing or its value is not allowed.
    """
    found: list[dict[str, Any]] = []
    for name, declared in template.parameters.items():
        if name in values:
            _require_allowed(name, values[name], declared)
            found.append({"ParameterKey": name, "ParameterValue": values[name]})
        elif "Default" in declared:
            found.append({"ParameterKey": name, "ParameterValue": _format_value(declared["Default"])})
        elif name in previous:
            found.append({"ParameterKey": name, "UsePreviousValue": True})
        else:
            raise UsageError(
                f"infra/{template.name}.yaml needs the parameter {name} ({_format_description(declared)}); set it under "
                f"`deployment.parameters` in params/, or give --parameter {name}=VALUE."
            )
    return found


def _require_allowed(name: str, value: str, declared: Mapping[str, Any]) -> None:
    allowed = [_format_value(each) for each in declared.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise UsageError(f"The parameter {name} is {value!r}; set it to one of {', '.join(allowed)}.")
    pattern = declared.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        raise UsageError(f"The parameter {name} is {value!r}; set it to {declared.get('ConstraintDescription', pattern)}.")
    if declared["Type"] == "Number":
        number = _parse_number(value)
        low, high = declared.get("MinValue"), declared.get("MaxValue")
        if number is None or (low is not None and number < low) or (high is not None and number > high):
            limits = [f"from {low}" if low is not None else "", f"up to {high}" if high is not None else ""]
            raise UsageError(f"The parameter {name} is {value!r}; set it to {' '.join(['a number', *filter(None, limits)])}.")


def _parse_number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _format_value(value: Any) -> str:
    """Return a value as text. YAML reads a bare ``on`` or ``off`` as a boolean."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _format_description(declared: Mapping[str, Any]) -> str:
    return " ".join(str(declared.get("Description", "")).split()).rstrip(".")
