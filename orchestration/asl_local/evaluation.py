"""Evaluate the fields of a running state and record evaluation failures."""

from __future__ import annotations

import json
import threading
from collections import ChainMap
from dataclasses import dataclass
from random import Random
from typing import Any, Dict, Mapping, Optional, Tuple

from asl_local.clock import Clock
from asl_local.error_handling import DATA_LIMIT_EXCEEDED, QUERY_EVALUATION_ERROR, Failure
from asl_local.history import Event, History
from asl_local.replay import Visit
from asl_local.template import EvaluationError, Scope, Template

DATA_LIMIT_BYTES = 262_144
"""Maximum size of a state's input or output and of a task's arguments or result, as JSON in UTF-8."""


@dataclass(frozen=True)
class Identity:
    """The execution and its machine, as the context object shows them."""

    id: str
    name: str
    input: Any
    start_time: str
    redrive_count: int
    machine_id: str
    machine_name: str


@dataclass
class Branch:
    """The position of the execution or of one Map iteration.

    ``variables`` are the branch's own, then those of the outer branches, which it can read but not set. ``item`` is
    ``Map.Item`` of the context object inside a Map state. The branch stops when one of the events in ``cancelled`` is set.
    """

    history: History
    variables: ChainMap[str, Any]
    last_event: int
    item: Optional[Mapping[str, Any]] = None
    cancelled: Tuple[threading.Event, ...] = ()

    def record(self, kind: str, details: Optional[Mapping[str, Any]] = None, **extra: Any) -> Event:
        """Record the next event of this branch and return it."""
        event = self.history.record(kind, self.last_event, details, **extra)
        self.last_event = event["id"]
        return event


class Evaluator:
    """Evaluate templates for the states of one execution. Failures are recorded before they are raised."""

    def __init__(self, identity: Identity, clock: Clock, random: Random) -> None:
        self._identity = identity
        self._clock = clock
        self._random = random

    def evaluate(
        self,
        template: Template,
        visit: Visit,
        branch: Branch,
        extra_states: Optional[Mapping[str, Any]] = None,
        item: Optional[Mapping[str, Any]] = None,
    ) -> Any:
        """Return the template's value; raise ``Failure`` if it fails.

        ``extra_states`` are fields of ``$states`` besides input and context. ``item`` replaces the branch's ``Map.Item``.
        """
        states = {"input": visit.input, "context": self._context(visit, item or branch.item), **(extra_states or {})}
        try:
            return template.evaluate(Scope(states, branch.variables, self._clock.now(), self._random))
        except EvaluationError as fault:
            raise self._record_failure(fault.location, str(fault), visit, branch) from fault

    def evaluate_integer(self, template: Template, visit: Visit, branch: Branch, minimum: int = 0) -> int:
        """Return the template's value, an integer of at least ``minimum``; raise ``Failure`` if it is none."""
        value = self.evaluate(template, visit, branch)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.type_failure(template.location, value, f"a whole number of {minimum} or more", visit, branch)
        return value

    def evaluate_string(self, template: Template, visit: Visit, branch: Branch) -> str:
        """Return the template's value, a string; raise ``Failure`` if it is none."""
        value = self.evaluate(template, visit, branch)
        if not isinstance(value, str):
            raise self.type_failure(template.location, value, "a string", visit, branch)
        return value

    def type_failure(self, location: str, value: Any, expected: str, visit: Visit, branch: Branch) -> Failure:
        """Record a field value of the wrong type and return the failure to raise."""
        message = f"The field '{location}' must be {expected}, and is {json.dumps(value)[:200]}."
        return self._record_failure(location, message, visit, branch)

    def _record_failure(self, location: str, message: str, visit: Visit, branch: Branch) -> Failure:
        details = {"error": QUERY_EVALUATION_ERROR, "cause": message, "location": location, "state": visit.name}
        branch.record("EvaluationFailed", details)
        where = f"An error occurred while executing the state '{visit.name}' (entered at the event id #{visit.event_id})"
        return Failure(QUERY_EVALUATION_ERROR, f"{where}. {message}")

    def _context(self, visit: Visit, item: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        return {
            "Execution": {
                "Id": self._identity.id,
                "Input": self._identity.input,
                "Name": self._identity.name,
                "RoleArn": "arn:aws:iam::000000000000:role/local",
                "StartTime": self._identity.start_time,
                "RedriveCount": self._identity.redrive_count,
            },
            "State": {"Name": visit.name, "EnteredTime": visit.entered_time, "RetryCount": visit.retry_count},
            "StateMachine": {"Id": self._identity.machine_id, "Name": self._identity.machine_name},
            **({} if item is None else {"Map": {"Item": item}}),
        }


def encode_json(data: Any) -> str:
    """Return ``data`` as JSON; raise ``Failure`` if it exceeds the size limit of Step Functions."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > DATA_LIMIT_BYTES:
        raise Failure(DATA_LIMIT_EXCEEDED, f"The data has {size} bytes; the limit is {DATA_LIMIT_BYTES}.")
    return text
