"""Rebuild the progress of an execution from its history."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from asl_local.definition import StateMachine
from asl_local.errors import StateMachineError
from asl_local.history import STATUS_BY_END_EVENT, Event, get_event_details


@dataclass
class MapProgress:
    """The iterations of one attempt at a Map state. Iterations that have not started have no entry."""

    length: int
    iterations: Dict[int, Progress] = field(default_factory=dict)
    succeeded: bool = False


@dataclass
class Visit:
    """A state that was entered and has not been exited. ``result`` is its task's result as JSON text."""

    name: str
    input: Any
    event_id: int
    entered_time: str
    result: Optional[str] = None
    map: Optional[MapProgress] = None
    retry_count: int = 0


@dataclass
class Exit:
    """The last exited state, while the next one has not been entered."""

    output: Any
    next: Optional[str]


@dataclass
class Progress:
    """The progress of the whole execution or of one Map iteration."""

    variables: Dict[str, Any] = field(default_factory=dict)
    visit: Optional[Visit] = None
    exit: Optional[Exit] = None
    succeeded: bool = False

    @property
    def output(self) -> Any:
        """The output of the last exited state, None if there is none."""
        return self.exit.output if self.exit is not None else None


@dataclass
class Execution:
    """An execution as recorded in its history.

    Attributes
    ----------
    status : str
        ``SUCCEEDED``, ``FAILED``, ``TIMED_OUT`` or ``ABORTED``; ``RUNNING`` before the end.
    output : Any
        The last state's output if the execution succeeded, otherwise None.
    error, cause : str, optional
        The reason if it did not succeed.
    redrive_count : int
        The number of times it has been resumed.
    events : sequence of dict
        The events of the journal, in order.
    """

    arn: str
    name: str
    machine: str
    digest: str
    input: Any
    start_time: str
    redrive_count: int
    progress: Progress
    status: str
    output: Any
    error: Optional[str]
    cause: Optional[str]
    events: Sequence[Event]


def read_execution(events: Sequence[Event], journal: Path) -> Execution:
    """Rebuild an execution from ``events``; raise ``StateMachineError`` if they have no start."""
    if not events or events[0]["type"] != "ExecutionStarted" or "executionArn" not in events[0]:
        raise StateMachineError(
            f"{journal}: the journal has no ExecutionStarted event; delete it and start the execution again."
        )
    started, last = get_event_details(events[0]), get_event_details(events[-1])
    arn = events[0]["executionArn"]
    status = STATUS_BY_END_EVENT.get(events[-1]["type"], "RUNNING")
    top = Progress()
    # The branch after each event. Events of parallel iterations are interleaved, and linked by previousEventId.
    paths: Dict[int, List[Progress]] = {0: [top]}
    for event in events:
        paths[event["id"]] = _apply_event(event, paths[event["previousEventId"]], top)
    return Execution(
        arn=arn,
        name=arn.rsplit(":", 1)[1],
        machine=arn.rsplit(":", 2)[1],
        digest=str(started["stateMachineVersionArn"]).rsplit(":", 1)[1],
        input=json.loads(started["input"]),
        start_time=events[0]["timestamp"],
        redrive_count=sum(event["type"] == "ExecutionRedriven" for event in events),
        progress=top,
        status=status,
        output=json.loads(last["output"]) if status == "SUCCEEDED" else None,
        error=last.get("error"),
        cause=last.get("cause"),
        events=events,
    )


def require_resumable(past: Execution, machine: StateMachine, journal: Path) -> None:
    """Raise ``StateMachineError`` if the execution succeeded or ``machine`` has another definition."""
    if past.status == "SUCCEEDED":
        raise StateMachineError(
            f'{journal}: the execution "{past.name}" succeeded and cannot be resumed; start a new execution.'
        )
    if past.machine != machine.name or past.digest != machine.digest:
        raise StateMachineError(
            f'{journal}: the execution "{past.name}" was started with a definition of "{past.machine}" that differs from '
            f"{machine.path}; restore that definition or start a new execution."
        )


def _apply_event(event: Event, path: List[Progress], top: Progress) -> List[Progress]:
    """Apply ``event`` to the last branch of ``path`` and return the path after it.

    A path is the list of nested branches: the execution, then an iteration of a Map state in it, and so on.
    """
    kind, details, branch = event["type"], get_event_details(event), path[-1]
    if kind == "ExecutionRedriven":
        return [top]
    if kind.endswith("StateEntered"):
        branch.visit = Visit(details["name"], json.loads(details["input"]), event["id"], event["timestamp"])
        branch.exit = None
    elif kind.endswith("StateExited"):
        branch.visit = None
        branch.exit = Exit(json.loads(details["output"]), event["next"])
        branch.variables.update((name, json.loads(text)) for name, text in details.get("assignedVariables", {}).items())
    elif kind.startswith("MapIteration"):
        return _apply_iteration_event(kind, details, path)
    elif branch.visit is not None:
        _apply_state_event(branch.visit, kind, details)
    return path


def _apply_state_event(visit: Visit, kind: str, details: Dict[str, Any]) -> None:
    if kind == "TaskSucceeded":
        visit.result = details["output"]
    elif kind in ("TaskScheduled", "EvaluationFailed", "ExecutionFailed"):
        visit.result = None  # the result could not be used, so a redrive runs the task again
    elif kind == "MapStateStarted":
        visit.map = MapProgress(details["length"])
    elif kind == "MapStateSucceeded" and visit.map is not None:
        visit.map.succeeded = True


def _apply_iteration_event(kind: str, details: Dict[str, Any], path: List[Progress]) -> List[Progress]:
    if kind == "MapIterationStarted":
        visit = path[-1].visit
        if visit is None or visit.map is None:
            raise StateMachineError("the journal has an iteration outside a Map state; restore the journal from a copy.")
        return [*path, visit.map.iterations.setdefault(details["index"], Progress())]
    if kind == "MapIterationSucceeded":
        path[-1].succeeded = True
    elif path[-1].visit is not None:
        path[-1].visit.result = None
    return path[:-1]
