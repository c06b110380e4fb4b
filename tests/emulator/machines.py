"""Deploy the state machines to the emulator with jobs that run in the test process.

The emulator's Step Functions supports neither Glue jobs nor S3's GetObject. Both are replaced by an activity, for which threads
of the test do the work. Wait times are zero.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any, Callable

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from asl_local import TaskError
from daybook.records.fingerprint import state_machine_path
from tests.emulator.emulator import REGION, Account

MACHINES = {"daily": "daily", "backfill": "backfill", "catch-up": "catch_up"}
GLUE = "arn:aws:states:::glue:startJobRun.sync"
_LOCAL_RESOURCES = (GLUE, "arn:aws:states:::aws-sdk:s3:getObject")
Job = Callable[[dict[str, Any]], dict[str, Any]]
"""Runs a job with the arguments of Glue (JobName, Arguments) and returns its JobRun, or raises ``TaskError``."""


@contextlib.contextmanager
def deploy_machines(account: Account, env: str, job: Job, *, workers: int = 2) -> Iterator[None]:
    """Create the machines ``daybook-<env>-…`` and ``workers`` threads that run their jobs."""
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
    threads = [threading.Thread(target=_run_worker, args=(account, activity, job, ended), daemon=True) for _ in range(workers)]
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
            key: activity if key == "Resource" and value in _LOCAL_RESOURCES else _with_activities(value, activity)
            for key, value in node.items()
        }
    return [_with_activities(each, activity) for each in node] if isinstance(node, list) else node


def _run_worker(account: Account, activity: str, job: Job, ended: threading.Event) -> None:
    import boto3

    # boto3's default session is not thread-safe.
    states = boto3.session.Session().client("stepfunctions", config=Config(read_timeout=90, retries={"max_attempts": 0}))
    s3 = boto3.session.Session().client("s3")
    while not ended.is_set():
        try:
            task = states.get_activity_task(activityArn=activity, workerName="test")
        except (BotoCoreError, ClientError):
            return  # the emulator and the test have ended
        if not task.get("taskToken"):
            continue
        try:
            arguments = json.loads(task["input"])
            result = _get_object(s3, arguments) if "Key" in arguments else job(arguments)
        except TaskError as fault:
            states.send_task_failure(taskToken=task["taskToken"], error=fault.error, cause=fault.cause)
        else:
            states.send_task_success(taskToken=task["taskToken"], output=json.dumps(result))


def _get_object(s3: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"Body": s3.get_object(**arguments)["Body"].read().decode()}
    except s3.exceptions.NoSuchKey as fault:
        raise TaskError("S3.NoSuchKeyException", str(fault)) from fault


def _without_waits(account: Account) -> None:
    connection = http.client.HTTPConnection(account.emulator.endpoint.partition("://")[2], timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/_ministack/config", json.dumps({"stepfunctions._SFN_WAIT_SCALE": 0}))
        assert b"_SFN_WAIT_SCALE" in connection.getresponse().read()
