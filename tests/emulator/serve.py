"""Serves the emulator of AWS on loopback; a program of its own, run by a Python that has it, which Daybook's has not.

    python serve.py FOLDER      (it writes its port into FOLDER/port once it listens)

Nothing of Daybook is imported. The emulator is ministack as it is, but for this:

- the clock of its schedules and alarms can be moved, by the seconds in FOLDER/ahead, and schedules are looked at often, for no
  test can wait until two in the morning; and it puts the moment where a schedule's input says <aws.scheduler.scheduled-time>,
  as AWS does;
- its CloudFormation makes composite alarms and Glue's security configurations too, by its own services, which have them;
- its alarms know what absence means to them, and expressions over metrics (``alarms``);
- where it holds callers to their policies, it knows the condition cloudformation:RoleArn, and takes plain http on loopback for
  the encrypted connection that policies ask for;
- waits of state machines, between tries too, take no time.
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
"""Seconds between two looks at the schedules."""


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

    scheduler.time = SimpleNamespace(time=now, sleep=lambda _: time.sleep(POLL_SECONDS))
    invoke = eventbridge._invoke_target

    def invoke_at(target: dict[str, Any], event: dict[str, Any], *more: Any) -> Any:
        if event.get("Source") == "aws.scheduler" and "Input" in target:
            moment = datetime.fromtimestamp(event["Time"], timezone.utc).strftime("%Y-%m-%dT%H:%M:00Z")
            target = {**target, "Input": target["Input"].replace("<aws.scheduler.scheduled-time>", moment)}
        return invoke(target, event, *more)

    eventbridge._invoke_target = invoke_at

    alarms.teach(cloudwatch, provisioners, now)
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
    """How CloudFormation makes, changes and removes the types of resources that the emulator knows in its services only."""
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
