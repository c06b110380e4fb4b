"""How far an execution had come, rebuilt from its history."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from asl_local.definition import StateMachine
from asl_local.errors import StateMachineError
from asl_local.history import Event, get_event_details

STATUS_BY_END_EVENT = {
    "ExecutionSucceeded": "SUCCEEDED",
    "ExecutionFailed": "FAILED",
    "ExecutionTimedOut": "TIMED_OUT",
    "ExecutionAborted": "ABORTED",
}
"""The status that each last event of a history stands for."""


@dataclass
class TaskResult:
    """What a task or a Map state gave, when that is all of it that was done."""

    output: Any


@dataclass
class MapProgress:
    """The iterations of one attempt at a Map state; those that never started have no entry."""

    length: int
    iterations: Dict[int, Progress] = field(default_factory=dict)
    succeeded: bool = False


@dataclass
class Visit:
    """A state that was entered and not exited."""

    name: str
    input: Any
    event_id: int
    entered_time: str
    result: Optional[TaskResult] = None
    map: Optional[MapProgress] = None
    retry_count: int = 0


@dataclass
class Exit:
    """The state exited last, when the next one has not been entered."""

    output: Any
    next: Optional[str]


@dataclass
class Progress:
    """A place in a workflow: of the whole execution, or of one iteration of a Map state."""

    variables: Dict[str, Any] = field(default_factory=dict)
    visit: Optional[Visit] = None
    exit: Optional[Exit] = None
    succeeded: bool = False

    @property
    def output(self) -> Any:
        """What the last state handed on, None while there is none."""
        return self.exit.output if self.exit is not None else None


@dataclass
class RestoredExecution:
    """All that a history says about its execution."""

    name: str
    machine: str
    digest: str
    input: Any
    start_time: str
    redrive_count: int
    status: Optional[str]
    progress: Progress


def restore_execution(events: Sequence[Event], journal: Path) -> RestoredExecution:
    """Return what ``events`` say; ``StateMachineError`` when they are no execution's."""
    if not events or events[0]["type"] != "ExecutionStarted" or "executionArn" not in events[0]:
        raise StateMachineError(
            f"{journal}: the journal has no start of an execution; delete it and start the execution again."
        )
    started = get_event_details(events[0])
    _, machine, name = events[0]["executionArn"].rsplit(":", 2)
    top = Progress()
    # Where each event left its branch: events of parallel iterations are interleaved, and linked by previousEventId.
    places: Dict[int, List[Progress]] = {0: [top]}
    for event in events:
        places[event["id"]] = _apply_event(event, places[event["previousEventId"]], top)
    return RestoredExecution(
        name=name,
        machine=machine,
        digest=str(started["stateMachineVersionArn"]).rsplit(":", 1)[1],
        input=json.loads(started["input"]),
        start_time=events[0]["timestamp"],
        redrive_count=sum(event["type"] == "ExecutionRedriven" for event in events),
        status=STATUS_BY_END_EVENT.get(events[-1]["type"]),
        progress=top,
    )


def require_resumable(past: RestoredExecution, machine: StateMachine, journal: Path) -> None:
    """Raise ``StateMachineError`` unless the execution is unfinished and of exactly this machine."""
    if past.status == "SUCCEEDED":
        raise StateMachineError(f'{journal}: the execution "{past.name}" has succeeded; there is nothing to resume.')
    if past.machine != machine.name or past.digest != machine.digest:
        raise StateMachineError(
            f'{journal}: the execution "{past.name}" was started with another definition of "{past.machine}" than '
            f"{machine.path} has now; put that one back, or start a new execution."
        )


def _apply_event(event: Event, place: List[Progress], top: Progress) -> List[Progress]:
    """Change the branch that ``place`` ends with as ``event`` says; return the place after it.

    A place is the way down to a branch: the execution, then an iteration of a Map state in it, and so on.
    """
    kind, details, branch = event["type"], get_event_details(event), place[-1]
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
        return _apply_iteration_event(kind, details, place)
    elif branch.visit is not None:
        _apply_state_event(branch.visit, kind, details)
    return place


def _apply_state_event(visit: Visit, kind: str, details: Dict[str, Any]) -> None:
    if kind == "TaskSucceeded":
        visit.result = TaskResult(json.loads(details["output"]))
    elif kind in ("TaskScheduled", "EvaluationFailed", "ExecutionFailed"):
        visit.result = None  # what the task gave could not be used, so a redrive does it again
    elif kind == "MapStateStarted":
        visit.map = MapProgress(details["length"])
    elif kind == "MapStateSucceeded" and visit.map is not None:
        visit.map.succeeded = True


def _apply_iteration_event(kind: str, details: Dict[str, Any], place: List[Progress]) -> List[Progress]:
    if kind == "MapIterationStarted":
        visit = place[-1].visit
        if visit is None or visit.map is None:
            raise StateMachineError("the journal starts an iteration outside of a Map state; restore it from a copy.")
        return [*place, visit.map.iterations.setdefault(details["index"], Progress())]
    if kind == "MapIterationSucceeded":
        place[-1].succeeded = True
    elif place[-1].visit is not None:
        place[-1].visit.result = None
    return place[:-1]
