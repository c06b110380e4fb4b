"""Start and resume executions."""

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
        The last state's output if the execution succeeded, otherwise None.
    error, cause : str, optional
        The reason if it did not succeed.
    redrive_count : int
        The number of times it has been resumed.
    events : tuple of dict
        The events of the journal, in order.
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
    """Run an execution to its end.

    Parameters
    ----------
    machine : StateMachine
        The machine to run.
    name : str
        1 to 80 letters, digits, ``_`` and ``-``.
    input : Any
        The first state's input: JSON, at most 256 KiB.
    services : mapping of Resource ARN to TaskService
        One service for every Resource of the machine.
    journal : Path
        The file for the history; it must not exist.
    clock, random : optional
        The time and the random source; the system's by default.
    listener : callable, optional
        Called with each event after it is written. Before each retry it is called with a notice of type ``RetryScheduled``
        (``stateName``, ``waitSeconds``, ``attempt``, ``error``), which the history does not contain. Calls come from
        several threads, one at a time.

    Returns
    -------
    Execution
        Its status tells whether it succeeded. ``KeyboardInterrupt`` sets the status ``ABORTED``.

    Raises
    ------
    StateMachineError
        The name or input is invalid, a service is missing or the journal exists. Nothing has been started.
    """
    if not _EXECUTION_NAME.fullmatch(name):
        raise StateMachineError(f'the execution name "{name}" is invalid; use 1 to 80 letters, digits, "_" and "-".')
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
    """Resume an execution that failed, timed out, was aborted or was killed, and run it to its end.

    This follows the redrive of Step Functions. Exited states do not run again. The state that was not exited starts again
    with its input and all its retries. TimeoutSeconds of the machine starts again. A task result that was recorded before
    a kill is used.

    The parameters are those of ``run_execution``; ``journal`` is the execution's journal.

    Raises
    ------
    StateMachineError
        The journal is missing or in use, the execution succeeded, the machine differs or a service is missing. Nothing
        has been started.
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
        raise StateMachineError(
            f"{machine.path}: there is no local service for {', '.join(missing)}; the local services are {known}."
        )


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
    """Run the remaining states, record the end and return the ended execution."""
    source = random or Random()  # noqa: S311 - jitter and $random, not secrets
    interpreter = Interpreter(machine, identity, services, clock or SystemClock(), source)
    branch = Branch(history, ChainMap(dict(progress.variables)), last_event)
    output: Any = None
    try:
        output = interpreter.run(branch, progress)
        kind, details = "ExecutionSucceeded", {"output": encode_json(output)}
    except Failure as failure:
        kind, details = "ExecutionFailed", _drop_none(error=failure.error, cause=failure.cause)
    except ExecutionTimedOut:
        cause = f"The execution did not end within {machine.timeout_seconds} seconds."
        kind, details, branch.last_event = "ExecutionTimedOut", {"error": TIMEOUT, "cause": cause}, history.last_id
    except KeyboardInterrupt:
        cause = "Interrupted from the keyboard."
        kind, details, branch.last_event = "ExecutionAborted", {"cause": cause}, history.last_id
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
