"""Serve the AWS emulator on loopback. It runs in the emulator's Python environment and does not import Daybook.

    python serve.py FOLDER      (it writes its port to FOLDER/port)

The emulator is ministack with these changes:

- The clock of schedules and alarms is ahead by the seconds in FOLDER/ahead. Schedules are polled often; FOLDER/polls grows by
  a byte with each poll. In a schedule's input, <aws.scheduler.scheduled-time> is replaced, as on AWS.
- CloudFormation also creates composite alarms and security configurations of Glue.
- Alarms treat missing data and evaluate metric expressions (``alarms``).
- Policies can use the condition cloudformation:RoleArn, and http on loopback counts as an encrypted connection.
- Waits and retries of state machines take no time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alarms

POLL_SECONDS = 0.2
"""Seconds between two polls of the schedules."""


def main(folder: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    os.environ.update(GATEWAY_PORT=str(port), MINISTACK_HOST="127.0.0.1")

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import cloudwatch, eventbridge, scheduler, stepfunctions
    from ministack.services.cloudformation import provisioners

    def now() -> float:
        ahead = folder / "ahead"
        return time.time() + (float(ahead.read_text()) if ahead.exists() else 0)

    def wait_for_poll(_: float) -> None:
        with (folder / "polls").open("ab") as polls:
            polls.write(b".")
        time.sleep(POLL_SECONDS)

    scheduler.time = SimpleNamespace(time=now, sleep=wait_for_poll)
    invoke = eventbridge._invoke_target

    def invoke_at(target: dict[str, Any], event: dict[str, Any], *more: Any) -> Any:
        if event.get("Source") == "aws.scheduler" and "Input" in target:
            moment = datetime.fromtimestamp(event["Time"], timezone.utc).strftime("%Y-%m-%dT%H:%M:00Z")
            target = {**target, "Input": target["Input"].replace("<aws.scheduler.scheduled-time>", moment)}
        return invoke(target, event, *more)

    eventbridge._invoke_target = invoke_at

    alarms.patch_alarms(cloudwatch, provisioners, now)
    stepfunctions._SFN_WAIT_SCALE = 0.0
    provisioners._RESOURCE_HANDLERS.update(handlers())
    context = iam_actions.request_tag_context

    def context_with_role(service: str, action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        role = {"cloudformation:RoleArn": params["RoleARN"][0]} if service == "cloudformation" and "RoleARN" in params else {}
        return {**context(service, action, body, params), **role}

    iam_actions.request_tag_context = context_with_role
    resolve = iam_evaluator._resolve_condition_key

    def resolve_as_encrypted(key: str, asked: Any) -> Any:
        return {"aws:securetransport": "true", "s3:tlsversion": "1.3"}.get(key.lower()) or resolve(key, asked)

    iam_evaluator._resolve_condition_key = resolve_as_encrypted

    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").replace(folder / "port")

    async def serving() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await serve(app, config, shutdown_trigger=ended.wait)

    asyncio.run(serving())


def handlers() -> dict[str, dict[str, Any]]:
    """Return CloudFormation handlers for resource types that only the emulator's services support."""
    from ministack.services import cloudwatch, glue
    from ministack.services.cloudformation.provisioners import _glue_call

    def create_configuration(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        _glue_call(glue._create_security_configuration, properties, "AWS::Glue::SecurityConfiguration", "create")
        return properties["Name"], {}

    def delete_configuration(name: str, properties: dict[str, Any]) -> None:
        glue._delete_security_configuration({"Name": name})

    def put_alarm(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        status, _, body = cloudwatch._put_composite_alarm({}, properties, False, True)
        if status >= 400:
            raise ValueError(f"AWS::CloudWatch::CompositeAlarm: {body!r}")
        return properties["AlarmName"], {}

    def change_alarm(name: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return put_alarm("", new, stack)

    def delete_alarm(name: str, properties: dict[str, Any]) -> None:
        cloudwatch._delete_alarms({}, {"AlarmNames": [name]}, False, True)

    return {
        "AWS::Glue::SecurityConfiguration": {"create": create_configuration, "delete": delete_configuration},
        "AWS::CloudWatch::CompositeAlarm": {"create": put_alarm, "update": change_alarm, "delete": delete_alarm},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
