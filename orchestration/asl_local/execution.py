"""Start and resume executions."""

from __future__ import annotations

import re
from collections import ChainMap
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Dict, Mapping, Optional

from asl_local.clock import Clock, SystemClock
from asl_local.definition import StateMachine
from asl_local.error_handling import TIMEOUT, Failure
from asl_local.errors import StateMachineError
from asl_local.history import History, Listener
from asl_local.interpreter import Branch, ExecutionTimedOut, Interpreter, encode_json
from asl_local.replay import Execution, read_execution, require_resumable
from asl_local.tasks import TaskService

_ARN_PREFIX = "arn:aws:states:local:000000000000"
_EXECUTION_NAME = re.compile(r"[0-9A-Za-z_-]{1,80}")


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
    clock = clock or SystemClock()
    with closing(History.create(journal, clock, listener)) as history:
        machine_arn = f"{_ARN_PREFIX}:stateMachine:{machine.name}"
        details = {"input": text, "stateMachineVersionArn": f"{machine_arn}:{machine.digest}"}
        history.record("ExecutionStarted", 0, details, executionArn=f"{_ARN_PREFIX}:execution:{machine.name}:{name}")
        return _run_rest(machine, services, history, journal, clock, random)


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
    clock = clock or SystemClock()
    with closing(History.open(journal, clock, listener)) as history:
        past = read_execution(history.events, journal)
        require_resumable(past, machine, journal)
        history.record("ExecutionRedriven", history.last_id, {"redriveCount": past.redrive_count + 1})
        return _run_rest(machine, services, history, journal, clock, random)


def _require_services(machine: StateMachine, services: Mapping[str, TaskService]) -> None:
    missing = sorted(machine.resources() - set(services))
    if missing:
        known = ", ".join(sorted(services)) or "none"
        raise StateMachineError(
            f"{machine.path}: there is no local service for {', '.join(missing)}; the local services are {known}."
        )


def _run_rest(
    machine: StateMachine,
    services: Mapping[str, TaskService],
    history: History,
    journal: Path,
    clock: Clock,
    random: Optional[Random],
) -> Execution:
    """Run the states that ``history`` does not have, record the end and return the ended execution."""
    recorded = read_execution(history.events, journal)
    source = random or Random()  # noqa: S311 - jitter, not secrets
    # As on AWS, the first state has no previous event.
    branch = Branch(history, ChainMap(), history.last_id if recorded.redrive_count else 0)
    details: Dict[str, Optional[str]]
    try:
        output = Interpreter(machine, recorded, services, clock, source).run(branch)
        kind, details = "ExecutionSucceeded", {"output": encode_json(output)}
    except Failure as failure:
        kind, details = "ExecutionFailed", {"error": failure.error, "cause": failure.cause}
    except ExecutionTimedOut:
        cause = f"The execution did not end within {machine.definition.timeout_seconds} seconds."
        kind, details, branch.last_event = "ExecutionTimedOut", {"error": TIMEOUT, "cause": cause}, history.last_id
    except KeyboardInterrupt:
        cause = "Interrupted from the keyboard."
        kind, details, branch.last_event = "ExecutionAborted", {"cause": cause}, history.last_id
    branch.record(kind, {key: text for key, text in details.items() if text is not None})
    return read_execution(history.events, journal)
