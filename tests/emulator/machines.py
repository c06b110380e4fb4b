"""The deployment's state machines in the emulator, with jobs that are done here, by the real job script or by a script.

The emulator's Step Functions knows no Glue: in the machines' files, which are else as they are, each job's task is an activity
of the job's name, which a thread of the test works on. What waits there is scaled to nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any, Callable

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from daybook.provenance import state_machine_path
from daybook.states import TaskError

from .emulator import REGION, Account

MACHINES = {"daily": "daily", "backfill": "backfill", "catch-up": "catch_up"}
GLUE = "arn:aws:states:::glue:startJobRun.sync"
Job = Callable[[dict[str, Any]], dict[str, Any]]
"""Given what Glue would be (JobName, Arguments), does the job and returns its JobRun, or raises ``TaskError``."""


@contextlib.contextmanager
def deployed(account: Account, env: str, job: Job, *, workers: int = 2) -> Iterator[None]:
    """The machines ``daybook-<env>-…`` in the account, and ``workers`` threads that do their jobs."""
    states = account.client("stepfunctions")
    _without_waits(account)
    activity = states.create_activity(name=f"jobs-{env}")["activityArn"]
    for name, file in MACHINES.items():
        definition = json.loads(state_machine_path(file).read_text(encoding="utf-8"))
        states.create_state_machine(
            name=f"daybook-{env}-{name}",
            definition=json.dumps(_with_activities(definition, activity)),
            roleArn=f"arn:aws:iam::{account.number}:role/machines",
        )
    ended = threading.Event()
    threads = [threading.Thread(target=_work, args=(account, activity, job, ended), daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()


def arn(account: Account, env: str, machine: str) -> str:
    return f"arn:aws:states:{REGION}:{account.number}:stateMachine:daybook-{env}-{machine}"


def _with_activities(node: Any, activity: str) -> Any:
    if isinstance(node, dict):
        return {
            key: activity if key == "Resource" and value == GLUE else _with_activities(value, activity)
            for key, value in node.items()
        }
    return [_with_activities(each, activity) for each in node] if isinstance(node, list) else node


def _work(account: Account, activity: str, job: Job, ended: threading.Event) -> None:
    import boto3

    # A session of its own: boto3's default one is not for several threads.
    states = boto3.session.Session().client("stepfunctions", config=Config(read_timeout=90, retries={"max_attempts": 0}))
    while not ended.is_set():
        try:
            task = states.get_activity_task(activityArn=activity, workerName="test")
        except (BotoCoreError, ClientError):
            return  # The emulator has ended, and the test with it.
        if not task.get("taskToken"):
            continue
        try:
            done = job(json.loads(task["input"]))
        except TaskError as fault:
            states.send_task_failure(taskToken=task["taskToken"], error=fault.error, cause=fault.cause)
        else:
            states.send_task_success(taskToken=task["taskToken"], output=json.dumps(done))


def _without_waits(account: Account) -> None:
    asked = urllib.request.Request(
        f"{account.emulator.endpoint}/_ministack/config",
        data=json.dumps({"stepfunctions._SFN_WAIT_SCALE": 0}).encode(),
        method="POST",
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 (loopback)
        assert re.search(rb"_SFN_WAIT_SCALE", answer.read())
