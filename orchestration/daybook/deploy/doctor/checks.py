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


class ProblemError(Exception):
    """Report what a check found. An empty ``remedy`` stands for that of the check."""

    def __init__(self, message: str, remedy: str = "", state: CheckState = "failed") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.state = state


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

    def run(
        self, name: str, check: Callable[..., str], *arguments: object, remedy: str = "", unreadable: CheckState = "failed"
    ) -> Check:
        """Run a check of this deployment, see ``run_check``. By default the remedy is to deploy again."""
        return run_check(name, remedy or self.deploy_command, lambda: check(self, *arguments), unreadable)


def run_check(name: str, remedy: str, check: Callable[[], str], unreadable: CheckState = "failed") -> Check:
    """Run a check, and return errors of AWS as results too.

    Parameters
    ----------
    name, remedy : str
        Those of the result.
    check : callable
        Returns the message of a good result; raises ``ProblemError`` for another one.
    unreadable : CheckState
        The result if AWS does not return what the check needs.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return Check(name, "ok", check())
    except ProblemError as problem:
        return Check(name, problem.state, str(problem), problem.remedy or remedy)
    except ClientError as error:
        if error_code(error) in ACCESS_DENIED_CODES:
            message = f"no permission for {error.operation_name}"
            return Check(name, "refused", message, "retry with other credentials, or ignore")
        missing = error_code(error) in NOT_FOUND_CODES or "does not exist" in error_reason(error)
        message = "does not exist" if missing else f"could not be checked: {error_reason(error)}"
        return Check(name, unreadable, message, remedy)
    except BotoCoreError as error:
        return Check(name, unreadable, f"could not be checked: {' '.join(str(error).split())}", "check the network")


def require_none(problems: Iterable[Optional[str]], remedy: str = "", state: CheckState = "failed") -> None:
    """Raise ``ProblemError`` with all problems, if there are any."""
    found = [each for each in problems if each]
    if found:
        raise ProblemError("; ".join(found), remedy, state)
