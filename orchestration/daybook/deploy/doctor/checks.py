"""Run one check and turn errors of AWS into its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable, Literal, Optional

from daybook.deploy.templates import Template
from daybook.execution.aws.account import ACCESS_DENIED_CODES, NOT_FOUND_CODES, Account, error_code, error_reason
from daybook.settings import Settings

CheckState = Literal["ok", "warning", "failed", "refused"]


@dataclass(frozen=True)
class Check:
    """The result of a check. ``remedy`` is empty if nothing is to be done."""

    name: str
    state: CheckState
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class CheckContext:
    """The deployment to check. ``values`` are the template parameters of the existing stacks."""

    account: Account
    settings: Settings
    templates: Mapping[str, Template]
    values: Mapping[str, str]

    @property
    def env(self) -> str:
        return self.settings.env

    @property
    def deploy_command(self) -> str:
        """The remedy that restores the state of the checkout."""
        return f"run `daybook deploy --env {self.env}`"

    def resource_names(self, template: str, kind: str, key: str) -> dict[str, str]:
        """Return the names of resources of a type by logical id. ``key`` is the property that holds the name."""
        found = {}
        for logical_id, each in self.templates[template].resources.items():
            if each["Type"] == kind:
                name = each["Properties"][key]
                found[logical_id] = (name["Sub"] if isinstance(name, dict) else name).replace("${Environment}", self.env)
        return found


def run_check(name: str, remedy: str, check: Callable[[], Check]) -> Check:
    """Run a check; return missing permissions and resources as results too."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return check()
    except ClientError as error:
        code = error_code(error)
        if code in ACCESS_DENIED_CODES:
            message = f"no permission for {error.operation_name}"
            return Check(name, "refused", message, "retry with other credentials, or ignore")
        if code in NOT_FOUND_CODES:
            return Check(name, "failed", "does not exist", remedy)
        return Check(name, "failed", f"could not be checked: {error_reason(error)}", remedy)
    except BotoCoreError as error:
        return Check(name, "failed", f"could not be checked: {' '.join(str(error).split())}", "check the network")


def build_check(name: str, good: str, problems: Iterable[Optional[str]], remedy: str, state: CheckState = "failed") -> Check:
    """Return a check with ``state`` and all ``problems``, or with ``ok`` and the message ``good`` if there are none."""
    found = [each for each in problems if each]
    return Check(name, state, "; ".join(found), remedy) if found else Check(name, "ok", good)
