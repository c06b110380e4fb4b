"""Build small state machines and scripted task services for tests."""

from __future__ import annotations

import copy
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from asl_local import Execution, FakeClock, StateMachine, run_execution

JOB = "arn:aws:states:::glue:startJobRun.sync"
GET = "arn:aws:states:::aws-sdk:s3:getObject"
START = "arn:aws:states:::states:startExecution.sync:2"


def build_definition(states: Dict[str, Any], start_at: Optional[str] = None, **fields: Any) -> Dict[str, Any]:
    """Return a definition that starts at ``start_at``, by default the first state."""
    return {"QueryLanguage": "JSONata", "StartAt": start_at or next(iter(states)), "States": states, **fields}


def task_state(**fields: Any) -> Dict[str, Any]:
    """Return a Task state that ends the machine unless it has a Next."""
    end = {} if "Next" in fields else {"End": True}
    return {"Type": "Task", "Resource": JOB, **end, **fields}


def pass_state(**fields: Any) -> Dict[str, Any]:
    """Return a Pass state that ends the machine unless it has a Next."""
    end = {} if "Next" in fields else {"End": True}
    return {"Type": "Pass", **end, **fields}


def write_definition(directory: Path, definition: Any, name: str = "daily") -> Path:
    path = directory / f"{name}.asl.json"
    path.write_text(json.dumps(definition), encoding="utf-8")
    return path


def load_definition(directory: Path, definition: Any, name: str = "daily") -> StateMachine:
    return StateMachine.load(write_definition(directory, definition, name))


class ScriptedService:
    """A task service whose calls return the next entry of a script: a value, an exception or a function's result.

    At the end of the script it returns ``{"done": arguments}``.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: List[Any] = []
        self.limits: List[Optional[float]] = []
        self._lock = threading.Lock()

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        with self._lock:
            self.calls.append(copy.deepcopy(arguments))
            self.limits.append(timeout_seconds)
            answer = self.script.pop(0) if self.script else {"done": arguments}
        if callable(answer):
            answer = answer(arguments, heartbeat)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Runner:
    """Run definitions in a directory with a fake clock and record the listener's events."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = directory / "history.jsonl"
        self.clock = FakeClock()
        self.heard: List[Dict[str, Any]] = []

    def run(
        self,
        definition: Any,
        input: Any = None,  # noqa: A002
        service: Optional[Callable[..., Any]] = None,
        name: str = "daily-2025-11-30-1",
    ) -> Execution:
        service = service or ScriptedService()
        return run_execution(
            load_definition(self.directory, definition),
            name=name,
            input={} if input is None else input,
            services={JOB: service, GET: service},
            journal=self.journal,
            clock=self.clock,
            random=random.Random(7),  # noqa: S311
            listener=self.heard.append,
        )


def event_types(execution: Execution) -> List[str]:
    """Return the types of an execution's events, in order."""
    return [event["type"] for event in execution.events]


def count_events(execution: Execution) -> Counter[str]:
    return Counter(event_types(execution))
