"""Evaluating a state's fields while it runs: what its expressions see, and what it means when one fails."""

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
"""The most that a state's input or output, a task's arguments or its result may take as JSON in UTF-8."""


@dataclass(frozen=True)
class Identity:
    """What the context object says of the execution and its machine."""

    id: str
    name: str
    input: Any
    start_time: str
    redrive_count: int
    machine_id: str
    machine_name: str


@dataclass
class Branch:
    """Where one line of states stands: the execution's, or one iteration's.

    ``variables`` has the branch's own first, then those of the branches around it, which it can read but not set.
    ``item`` is the context object's Map.Item, inside a Map state. ``cancelled`` are set when the branch is to stop.
    """

    history: History
    variables: ChainMap[str, Any]
    last_event: int
    item: Optional[Mapping[str, Any]] = None
    cancelled: Tuple[threading.Event, ...] = ()

    def record(self, kind: str, details: Optional[Mapping[str, Any]] = None, **own: Any) -> Event:
        """Write the next event of this branch and return it."""
        event = self.history.record(kind, self.last_event, details, **own)
        self.last_event = event["id"]
        return event


class Evaluator:
    """Evaluates templates for the states of one execution; every failure is in the history before it is raised."""

    def __init__(self, identity: Identity, clock: Clock, random: Random) -> None:
        self._identity = identity
        self._clock = clock
        self._random = random

    def evaluate(
        self,
        template: Template,
        visit: Visit,
        branch: Branch,
        offered: Optional[Mapping[str, Any]] = None,
        item: Optional[Mapping[str, Any]] = None,
    ) -> Any:
        """Return the template's value; raises ``Failure``.

        ``offered`` is what ``$states`` has besides input and context; ``item`` stands in for the branch's Map.Item.
        """
        states = {"input": visit.input, "context": self._context(visit, item or branch.item), **(offered or {})}
        try:
            return template.evaluate(Scope(states, branch.variables, self._clock.now(), self._random))
        except EvaluationError as fault:
            raise self._record_failure(fault.location, str(fault), visit, branch) from fault

    def evaluate_integer(self, template: Template, visit: Visit, branch: Branch, least: int = 0) -> int:
        """Return the template's value, a whole number of at least ``least``; raises ``Failure``."""
        value = self.evaluate(template, visit, branch)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.refuse(template.location, value, f"a whole number of {least} or more", visit, branch)
        return value

    def evaluate_string(self, template: Template, visit: Visit, branch: Branch) -> str:
        """Return the template's value, a string; raises ``Failure``."""
        value = self.evaluate(template, visit, branch)
        if not isinstance(value, str):
            raise self.refuse(template.location, value, "a text", visit, branch)
        return value

    def refuse(self, location: str, value: Any, wanted: str, visit: Visit, branch: Branch) -> Failure:
        """Return the failure of a field that gave ``value`` where ``wanted`` was due, for the caller to raise."""
        message = f"The field '{location}' must give {wanted}, and gave {json.dumps(value)[:200]}."
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
    """Return ``data`` as JSON text; raises ``Failure`` when it is more than Step Functions carries."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > DATA_LIMIT_BYTES:
        raise Failure(DATA_LIMIT_EXCEEDED, f"The data takes {size} bytes, more than the {DATA_LIMIT_BYTES} allowed.")
    return text
