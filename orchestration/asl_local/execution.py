"""Executions: starting one, resuming one, and how it ended."""

from __future__ import annotations

import json
import re
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Dict, Mapping, Optional, Tuple

from asl_local.clock import Clock, SystemClock
from asl_local.definition import StateMachine
from asl_local.error_handling import TIMEOUT, Failure
from asl_local.errors import StateMachineError
from asl_local.evaluation import Branch, Identity, encode_json
from asl_local.history import Event, History, Journal, Listener
from asl_local.interpreter import ExecutionTimedOut, Interpreter
from asl_local.replay import STATUS_BY_END_EVENT, Progress, require_resumable, restore_execution
from asl_local.tasks import TaskService

_ARN_PREFIX = "arn:aws:states:local:000000000000"
_EXECUTION_NAME = re.compile(r"[0-9A-Za-z_-]{1,80}")


@dataclass(frozen=True)
class Execution:
    """An ended execution.

    Attributes
    ----------
    status : str
        ``SUCCEEDED``, ``FAILED``, ``TIMED_OUT`` or ``ABORTED``.
    output : Any
        The last state's output when it succeeded, otherwise None.
    error, cause : str, optional
        Why it did not succeed.
    redrive_count : int
        How often it has been resumed.
    events : tuple of dict
        Its whole history, in order, as in the journal.
    """

    name: str
    status: str
    output: Any
    error: Optional[str]
    cause: Optional[str]
    redrive_count: int
    events: Tuple[Event, ...]


def run_execution(
    machine: StateMachine,
    *,
    name: str,
    input: Any,  # noqa: A002 - Step Functions' own word for it
    services: Mapping[str, TaskService],
    journal: Path,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
    listener: Optional[Listener] = None,
) -> Execution:
    """Start an execution and return when it has ended.

    Parameters
    ----------
    machine : StateMachine
        What to run.
    name : str
        1 to 80 letters, digits, ``_`` and ``-``.
    input : Any
        The first state's input: JSON, at most 256 KiB.
    services : mapping of Resource ARN to TaskService
        One for every Resource of the machine.
    journal : Path
        Where the history is written, event by event; the file must not exist.
    clock, random : optional
        Time and chance; the system's by default.
    listener : callable, optional
        Gets each event after it is written, and a notice of type ``RetryScheduled`` (``stateName``, ``waitSeconds``,
        ``attempt``, ``error``) before each wait, which is no event. Called from several threads, one at a time.

    Returns
    -------
    Execution
        A failed one too; an interrupt from the keyboard makes it ``ABORTED``.

    Raises
    ------
    StateMachineError
        Before anything is done: name or input do not fit, a service is missing, the journal exists.
    """
    if not _EXECUTION_NAME.fullmatch(name):
        raise StateMachineError(f'the execution name "{name}" is not 1 to 80 letters, digits, "_" and "-"; change it.')
    _require_services(machine, services)
    try:
        text = encode_json(input)
    except (Failure, TypeError, ValueError) as fault:
        raise StateMachineError(f'the input of execution "{name}" is not JSON of at most 256 KiB: {fault}') from fault
    opened = Journal.create(Path(journal))
    try:
        history = History(opened, clock or SystemClock(), listener)
        details = {
            "input": text,
            "stateMachineVersionArn": f"{_ARN_PREFIX}:stateMachine:{machine.name}:{machine.digest}",
        }
        arn = f"{_ARN_PREFIX}:execution:{machine.name}:{name}"
        started = history.record("ExecutionStarted", 0, details, executionArn=arn)
        identity = _identify(machine, name, json.loads(text), started["timestamp"], 0)
        return _run_remaining(machine, identity, services, history, clock, random, 0, Progress())
    finally:
        opened.close()


def resume_execution(
    machine: StateMachine,
    *,
    journal: Path,
    services: Mapping[str, TaskService],
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
    listener: Optional[Listener] = None,
) -> Execution:
    """Go on with an execution that failed, timed out, was aborted, or whose process was killed, and return its end.

    As Step Functions' redrive does: states that were exited are not run again, the one that was not starts again with
    its input and with fresh retries, and the machine's TimeoutSeconds count from now. What a task gave just before a
    kill is used.

    Parameters are those of ``run_execution``; ``journal`` is the execution's own.

    Raises
    ------
    StateMachineError
        Before anything is done: no such journal, it is in use, the execution succeeded, the machine is another one, a
        service is missing.
    """
    _require_services(machine, services)
    opened = Journal.open(Path(journal))
    try:
        past = restore_execution(opened.events, Path(journal))
        require_resumable(past, machine, Path(journal))
        history = History(opened, clock or SystemClock(), listener)
        redrive_count = past.redrive_count + 1
        redriven = history.record("ExecutionRedriven", history.last_id, {"redriveCount": redrive_count})
        identity = _identify(machine, past.name, past.input, past.start_time, redrive_count)
        return _run_remaining(machine, identity, services, history, clock, random, redriven["id"], past.progress)
    finally:
        opened.close()


def _require_services(machine: StateMachine, services: Mapping[str, TaskService]) -> None:
    missing = sorted(machine.resources() - set(services))
    if missing:
        known = ", ".join(sorted(services)) or "none"
        raise StateMachineError(f"{machine.path}: there is no local service for {', '.join(missing)}; known are {known}.")


def _identify(machine: StateMachine, name: str, data: Any, start_time: str, redrive_count: int) -> Identity:
    return Identity(
        id=f"{_ARN_PREFIX}:execution:{machine.name}:{name}",
        name=name,
        input=data,
        start_time=start_time,
        redrive_count=redrive_count,
        machine_id=f"{_ARN_PREFIX}:stateMachine:{machine.name}",
        machine_name=machine.name,
    )


def _run_remaining(
    machine: StateMachine,
    identity: Identity,
    services: Mapping[str, TaskService],
    history: History,
    clock: Optional[Clock],
    random: Optional[Random],
    last_event: int,
    progress: Progress,
) -> Execution:
    """Run what is left of the execution, record how it ended, and return that."""
    chance = random or Random()  # noqa: S311 - jitter and $random, not secrets
    interpreter = Interpreter(machine, identity, services, clock or SystemClock(), chance)
    branch = Branch(history, ChainMap(dict(progress.variables)), last_event)
    output: Any = None
    try:
        output = interpreter.run(branch, progress)
        kind, details = "ExecutionSucceeded", {"output": encode_json(output)}
    except Failure as failure:
        kind, details = "ExecutionFailed", _drop_none(error=failure.error, cause=failure.cause)
    except ExecutionTimedOut:
        cause = f"The execution did not end within its {machine.timeout_seconds} seconds."
        kind, details, branch.last_event = "ExecutionTimedOut", {"error": TIMEOUT, "cause": cause}, history.last_id
    except KeyboardInterrupt:
        kind, details, branch.last_event = (
            "ExecutionAborted",
            {"cause": "Interrupted from the keyboard."},
            history.last_id,
        )
    history.record(kind, branch.last_event, details)
    history.close()
    return Execution(
        name=identity.name,
        status=STATUS_BY_END_EVENT[kind],
        output=output,
        error=details.get("error"),
        cause=details.get("cause"),
        redrive_count=identity.redrive_count,
        events=tuple(history.events),
    )


def _drop_none(**details: Optional[str]) -> Dict[str, str]:
    return {name: value for name, value in details.items() if value is not None}
