"""Evaluate the templates of ``infra/`` with parameters, like CloudFormation.

Only the features that the templates use are supported; others raise ``KeyError``.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"
NAMES = ("deployer", "foundation", "catalogue", "pipeline", "watch")
ACCOUNT, REGION = "123456789012", "eu-central-1"
PSEUDO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::NoValue": None}
PARAMETERS = {
    "LakeBucket": "daybook-prod-lake",
    "ArchiveBucket": "daybook-prod-archive",
    "LandingBucket": "daybook-prod-landing",
    "CodeBucket": "daybook-prod-code",
    "AccessLogBucket": "daybook-prod-access-logs",
    "AlertEmail": "data@shop.example",
    "DeployerPrincipal": f"arn:aws:iam::{ACCOUNT}:role/ci",
    "CodePrefix": "releases/0123abcd/",
    "BundleUri": "s3://daybook-prod-code/bundles/daybook-0123.zip",
}
"""Values of parameters without a default."""
ARNS = {
    "AWS::StepFunctions::StateMachine": "arn:aws:states:{region}:{account}:stateMachine:{StateMachineName}",
    "AWS::SNS::Topic": "arn:aws:sns:{region}:{account}:{TopicName}",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:{region}:{account}:secret:{Name}-a1B2c3",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::{account}:policy/{ManagedPolicyName}",
    "AWS::IAM::Role": "arn:aws:iam::{account}:role/{RoleName}",
    "AWS::S3::Bucket": "arn:aws:s3:::{BucketName}",
    "AWS::SQS::Queue": "arn:aws:sqs:{region}:{account}:{QueueName}",
    "AWS::KMS::Key": "arn:aws:kms:{region}:{account}:key/0a1b2c3d",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{LogGroupName}:*",
    "AWS::Events::Rule": "arn:aws:events:{region}:{account}:rule/{Name}",
}
REF_IS_ARN = ("AWS::StepFunctions::StateMachine", "AWS::SNS::Topic", "AWS::SecretsManager::Secret", "AWS::IAM::ManagedPolicy")


class _Loader(yaml.SafeLoader):
    """Load YAML and convert CloudFormation's short forms into long ones."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> Dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _long_form)


def read_template(name: str) -> Dict[str, Any]:
    """Read a template without evaluating it."""
    return dict(yaml.load((INFRA / f"{name}.yaml").read_text(encoding="utf-8"), Loader=_Loader))  # noqa: S506 (a SafeLoader)


class Template:
    """A template evaluated for parameters. ``resources`` are those whose condition holds, by logical id."""

    def __init__(self, name: str, **parameters: Any) -> None:
        self.raw = read_template(name)
        declared = self.raw.get("Parameters", {})
        assert set(parameters) <= set(declared), "unknown parameters"
        self.parameters = {key: parameters.get(key, each.get("Default", PARAMETERS.get(key))) for key, each in declared.items()}
        self._functions: Dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": lambda name: self.value(self.raw["Conditions"][name]),
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": lambda argument: self.value(argument[0]).join(self.value(argument[1])),
            "Fn::Split": lambda argument: self.value(argument[1]).split(self.value(argument[0])),
            "Fn::Select": lambda argument: self.value(argument[1])[int(argument[0])],
            "Fn::ImportValue": lambda argument: list_exports(self.parameters["Environment"])[self.value(argument)],
            "Fn::If": lambda argument: self.value(
                argument[1] if self.value(self.raw["Conditions"][argument[0]]) else argument[2]
            ),
            "Fn::Equals": lambda argument: self.value(argument[0]) == self.value(argument[1]),
            "Fn::Not": lambda argument: not self.value(argument[0]),
        }
        self.resources = {key: self.value(each) for key, each in self.raw["Resources"].items() if self._is_there(each)}

    def of_type(self, kind: str) -> Dict[str, Dict[str, Any]]:
        """Return the properties of all resources of a type, by logical id."""
        return {key: each["Properties"] for key, each in self.resources.items() if each["Type"] == kind}

    def outputs(self) -> Dict[str, Any]:
        return {
            self.value(each["Export"]["Name"]): self.value(each["Value"])
            for each in self.raw.get("Outputs", {}).values()
            if "Export" in each
        }

    def value(self, raw: Any) -> Any:
        """Evaluate the functions in a value; items without a value are dropped."""
        if isinstance(raw, list):
            return [each for each in (self.value(each) for each in raw) if each is not None]
        if not isinstance(raw, dict):
            return raw
        if len(raw) == 1:
            ((name, argument),) = raw.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._functions[name](argument)
        found = {key: self.value(each) for key, each in raw.items()}
        return {key: each for key, each in found.items() if each is not None}

    def _is_there(self, resource: Dict[str, Any]) -> bool:
        return "Condition" not in resource or bool(self.value(self.raw["Conditions"][resource["Condition"]]))

    def _ref(self, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        resource = self.raw["Resources"][name]
        if resource["Type"] in REF_IS_ARN:
            return self._arn(name)
        names = {key: each for key, each in resource["Properties"].items() if key in ("Name", "BucketName", "QueueName")}
        return self.value(next(iter(names.values()))) if names else name

    def _get_att(self, argument: Any) -> Any:
        name, attribute = argument
        assert attribute == "Arn", argument
        return self._arn(name)

    def _arn(self, name: str) -> str:
        resource = self.raw["Resources"][name]
        names = {key: self.value(each) for key, each in resource["Properties"].items() if key.endswith("Name")}
        return ARNS[resource["Type"]].format(region=REGION, account=ACCOUNT, **names)

    def _sub(self, argument: Any) -> str:
        text, more = (argument, {}) if isinstance(argument, str) else argument

        def replace(found: re.Match[str]) -> str:
            name = found[1]
            if name in more:
                return str(self.value(more[name]))
            return str(self._get_att(name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", replace, text)


@functools.cache
def list_exports(environment: str = "prod") -> Dict[str, Any]:
    """Return the exports of foundation.yaml in a deployment."""
    return Template("foundation", **deployment_parameters(environment, "foundation")).outputs()


def deployment_parameters(environment: str, name: str) -> Dict[str, str]:
    """Return a template's parameters in another deployment: its own name and buckets."""
    found = {key: value.replace("prod", environment) for key, value in PARAMETERS.items() if "daybook-prod" in value}
    declared = read_template(name)["Parameters"]
    return {key: value for key, value in {"Environment": environment, **found}.items() if key in declared}


def statements(policy: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Yield a policy's statements with actions and resources as lists."""
    for each in policy["Statement"]:
        yield {**each, **{key: _as_list(each[key]) for key in ("Action", "Resource") if key in each}}


def role_statements(template: Template, logical_id: str) -> Iterator[Dict[str, Any]]:
    """Yield all statements of a role, from its own policies and from managed policies of the template."""
    role = template.resources[logical_id]["Properties"]
    for policy in role.get("Policies", []):
        yield from statements(policy["PolicyDocument"])
    managed = template.of_type("AWS::IAM::ManagedPolicy").values()
    for arn in role.get("ManagedPolicyArns", []):
        (found,) = [each for each in managed if arn.endswith(f"policy/{each['ManagedPolicyName']}")]
        yield from statements(found["PolicyDocument"])


def load_machine(name: str) -> Any:
    """Load a state machine of ``orchestration/``."""
    return json.loads((INFRA.parent / "orchestration" / f"{name}.asl.json").read_text(encoding="utf-8"))


def list_tasks(machine: Any) -> Iterator[Dict[str, Any]]:
    """Yield the tasks of a state machine, including those inside maps."""
    for state in machine["States"].values():
        if state["Type"] == "Task":
            yield state
        if "ItemProcessor" in state:
            yield from list_tasks(state["ItemProcessor"])


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def scheduled_input(template: Template, schedule: str, scheduled_time: Optional[str] = None) -> Any:
    """Return the input that EventBridge Scheduler passes to its target."""
    text = template.resources[schedule]["Properties"]["Target"]["Input"]
    return json.loads(text.replace("<aws.scheduler.scheduled-time>", scheduled_time or ""))
