"""One business date, run by the deployed state machine, to see that a deployment works.

Here: starting the execution, and waiting for its end. Not here: what the run does; its record is in the archive like any's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any, Callable

from daybook.aws.account import Account, asking, code_of
from daybook.params import Settings
from daybook.stages import run_name

POLL_SECONDS = 5.0
"""Between two looks at an execution."""


@dataclass(frozen=True)
class Ended:
    """How an execution ended: ``status`` is Step Functions' own; ``reason`` is empty where it went well."""

    run_id: str
    status: str
    reason: str


def run_date(account: Account, settings: Settings, day: date, wait: Callable[[str], None]) -> Ended:
    """Run a date by the daily state machine, under the date's next name; ``wait`` is told its state at every look."""
    client = account.client("stepfunctions")
    started: dict[str, Any] = {
        "env": settings.env,
        "run_date": day.isoformat(),
        "overrides": {},
        "archive": {"bucket": settings.archive.split("://")[1], "prefix": ""},
    }
    with asking(f"The date {day} could not be run"):
        run_id, execution = _start(client, arn_of(account, settings.env, "daily"), day, json.dumps(started))
        while True:
            found = client.describe_execution(executionArn=execution)
            if found["status"] not in ("RUNNING", "PENDING_REDRIVE"):
                break
            wait(found["status"])
            time.sleep(POLL_SECONDS)
    reason = ": ".join(filter(None, (found.get("error", ""), " ".join(found.get("cause", "").split()))))
    return Ended(run_id, found["status"], reason)


def _start(client: Any, machine: str, day: date, given: str) -> tuple[str, str]:
    """Start a date under the first of its names that no execution has had; name and ARN."""
    from botocore.exceptions import ClientError

    for number in count(1):
        run_id = run_name(day, number)
        try:
            return run_id, client.start_execution(stateMachineArn=machine, name=run_id, input=given)["executionArn"]
        except ClientError as error:
            if code_of(error) != "ExecutionAlreadyExists":
                raise
    raise AssertionError("names do not run out")


def arn_of(account: Account, env: str, machine: str) -> str:
    """A state machine of a deployment."""
    return f"arn:{account.partition}:states:{account.region}:{account.number}:stateMachine:daybook-{env}-{machine}"
