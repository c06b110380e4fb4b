"""What a question to AWS comes to: good, doubtful, bad, or not for these credentials to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Literal, Optional

from daybook.deploy.templates import Template
from daybook.execution.aws.account import ACCESS_DENIED_CODES, NOT_FOUND_CODES, Account, error_code, error_reason
from daybook.settings import Settings

CheckState = Literal["ok", "warning", "failed", "refused"]


@dataclass(frozen=True)
class Check:
    """An answer: what was looked at, how it is, and what to do about it (empty where nothing is)."""

    name: str
    state: CheckState
    said: str
    remedy: str = ""


@dataclass(frozen=True)
class CheckContext:
    """What is looked at: a deployment in an account. ``values`` are the templates' parameters, as the stacks have them."""

    account: Account
    settings: Settings
    templates: Mapping[str, Template]
    values: Mapping[str, str]

    @property
    def env(self) -> str:
        return self.settings.env

    @property
    def deploy_command(self) -> str:
        """The command that brings things to what the checkout says."""
        return f"run `daybook deploy --env {self.env}`"

    def named(self, template: str, kind: str, key: str) -> dict[str, str]:
        """By logical id, what resources of a type are called in this deployment: what the template says under ``key``."""
        found = {}
        for logical_id, each in self.templates[template].resources.items():
            if each["Type"] == kind:
                name = each["Properties"][key]
                found[logical_id] = (name["Sub"] if isinstance(name, dict) else name).replace("${Environment}", self.env)
        return found


def run_check(name: str, remedy: str, question: Callable[[], Check]) -> Check:
    """Ask, and let what AWS refuses or does not have be an answer too."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return question()
    except ClientError as error:
        code = error_code(error)
        if code in ACCESS_DENIED_CODES:
            return Check(
                name, "refused", f"these credentials may not ask ({error.operation_name})", "ask with others, or let it be"
            )
        if code in NOT_FOUND_CODES:
            return Check(name, "failed", "is not there", remedy)
        return Check(name, "failed", f"could not be asked: {error_reason(error)}", remedy)
    except BotoCoreError as error:
        return Check(name, "failed", f"could not be asked: {' '.join(str(error).split())}", "look to the network")


def build_check(name: str, good: str, wrong: Iterable[Optional[str]], remedy: str, state: CheckState = "failed") -> Check:
    """Good, where nothing is wrong; else all that is."""
    found = [each for each in wrong if each]
    return Check(name, state, "; ".join(found), remedy) if found else Check(name, "ok", good)


def is_not_found(error: Any) -> bool:
    """Whether AWS says that there is no such thing."""
    return error_code(error) in NOT_FOUND_CODES
