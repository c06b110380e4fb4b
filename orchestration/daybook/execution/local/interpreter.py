"""Execute state machines on this machine, with the state machine files that AWS uses."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional

import asl_local
from asl_local import (
    Execution,
    Heartbeat,
    StateMachine,
    SystemClock,
    TaskError,
    TaskService,
    resume_execution,
    run_execution,
)
from daybook.errors import StateMachineError, UsageError
from daybook.records.archive import current_timestamp
from daybook.records.fingerprint import state_machine_path
from daybook.settings import Settings, daybook_home
from daybook.storage import describe_os_error, storage_write_error

Listener = Callable[[Mapping[str, Any]], None]


def execute(
    settings: Settings,
    machine: str,
    name: str,
    data: Optional[dict[str, Any]],
    services: Mapping[str, TaskService],
    listener: Optional[Listener] = None,
    heartbeat: Optional[Heartbeat] = None,
) -> Execution:
    """Execute a state machine, or redrive an interrupted execution, and return the ended execution.

    Parameters
    ----------
    settings
        The deployment.
    machine, name
        The state machine, and the name of the execution.
    data
        The input; None redrives the execution of this name.
    services
        The services for the tasks, by resource.
    listener
        Called with each event.
    heartbeat
        Called about once a second while the execution waits. If it raises, the execution ends as interrupted.
    """
    start = resume_execution if data is None else functools.partial(run_execution, name=name, input=data)
    with interpreter_errors():
        return start(
            StateMachine.load(state_machine_path(machine)),
            services=services,
            journal=journal_path(settings, name),
            listener=listener,
            clock=_InterruptibleClock(heartbeat) if heartbeat else SystemClock(),
            random=Random(),  # noqa: S311 (waits, not secrets)
        )


def start_execution(arguments: Mapping[str, Any], execute_child: Callable[[], Execution]) -> dict[str, Any]:
    """Execute a child execution and describe it like DescribeExecution, as ``states:startExecution.sync:2`` does.

    An execution that did not succeed is the cause of ``States.TaskFailed``; an aborted one is an interrupt.
    """
    started_at = current_timestamp()
    execution = execute_child()
    if execution.status == "ABORTED":
        raise KeyboardInterrupt
    machine = arguments["StateMachineArn"].rpartition(":")[2]
    description = {
        "ExecutionArn": f"arn:aws:states:local:000000000000:execution:{machine}:{arguments['Name']}",
        "Name": arguments["Name"],
        "Input": arguments["Input"],
        "StartDate": started_at,
        "StopDate": current_timestamp(),
        "StateMachineArn": arguments["StateMachineArn"],
        "Status": execution.status,
    }
    if execution.status == "SUCCEEDED":
        return {**description, "Output": execution.output}
    raise TaskError("States.TaskFailed", json.dumps({**description, "Error": execution.error, "Cause": execution.cause}))


@contextmanager
def interpreter_errors() -> Iterator[None]:
    """Raise errors of the interpreter as ``StateMachineError``, and write errors of a journal as ``StorageError``."""
    try:
        yield
    except asl_local.StateMachineError as error:
        raise StateMachineError(str(error)) from error
    except asl_local.JournalError as error:
        if describe_os_error(error) is None:
            raise
        raise storage_write_error(error.filename, error, "resume the execution") from error


class _InterruptibleClock(SystemClock):
    """A clock that calls a heartbeat every second while it sleeps."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        super().__init__()
        self._heartbeat = heartbeat

    def sleep(self, seconds: float) -> None:
        while seconds > 0:
            self._heartbeat()
            super().sleep(min(seconds, 1.0))
            seconds -= 1.0
        self._heartbeat()


def journal_path(settings: Settings, name: str) -> Path:
    """Return the journal of one of a deployment's executions."""
    return daybook_home() / "executions" / settings.env / f"{name}.jsonl"


def build_input(settings: Settings) -> dict[str, Any]:
    """Return the fields that the inputs of all state machines have in common."""
    return {"env": settings.env, "overrides": settings.overrides, "archive": {"bucket": archive_folder(settings), "prefix": ""}}


def archive_folder(settings: Settings) -> str:
    """Return the archive's folder; raise ``UsageError`` if the archive is not a folder."""
    if "://" in settings.archive:
        raise UsageError(
            f"params/{settings.env}.yaml: archive is {settings.archive}, and runs on this machine need a folder; give --set "
            "archive=FOLDER, or set runs_on: aws."
        )
    return settings.archive
