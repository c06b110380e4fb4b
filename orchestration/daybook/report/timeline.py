"""Lay out a run's history as a timeline: when each state was entered, how long it lasted, and its errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, List, Mapping, Optional, Sequence

from daybook.report import formats

_ERRORS = ("TaskFailed", "TaskTimedOut", "EvaluationFailed", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted")
_EVENTS = (*_ERRORS, "ExecutionRedriven")
"""Events that are noted at a state. Their details may hold the name of an error."""


@dataclass
class Step:
    """One visit of a state. ``offset`` and ``width`` place its bar, in percent of the whole run."""

    state: str
    kind: str
    entered_at: datetime
    left_at: Optional[datetime] = None
    troubles: List[str] = field(default_factory=list)
    offset: float = 0.0
    width: float = 0.0

    @property
    def seconds(self) -> Optional[float]:
        """Seconds of the visit; None without an exit, or if the clock was set back between two processes."""
        seconds = (self.left_at - self.entered_at).total_seconds() if self.left_at else -1.0
        return seconds if seconds >= 0 else None


def build_timeline(history: Sequence[Mapping[str, Any]]) -> List[Step]:
    """Return the states of a run in the order they were entered.

    A state without an exit (a Fail state, or one that a crash ended) has no duration; its bar ends at the last event. An error
    belongs to the state that was entered last before it.
    """
    steps = _read_steps(history)
    if not steps:
        return []
    start = steps[0].entered_at
    end = max(formats.parse_instant(str(event["timestamp"])) for event in history)
    whole = max((end - start).total_seconds(), 1e-3)
    for step in steps:
        step.offset = _percent((step.entered_at - start).total_seconds(), whole)
        step.width = _percent(((step.left_at or end) - step.entered_at).total_seconds(), whole)
    return steps


def _read_steps(history: Sequence[Mapping[str, Any]]) -> List[Step]:
    steps: List[Step] = []
    for event in history:
        kind, moment = str(event["type"]), formats.parse_instant(str(event["timestamp"]))
        if kind.endswith("StateEntered"):
            name = str((event.get("stateEnteredEventDetails") or {}).get("name"))
            steps.append(Step(name, kind[: -len("StateEntered")], moment))
        elif kind.endswith("StateExited"):
            name = str((event.get("stateExitedEventDetails") or {}).get("name"))
            entered = next((step for step in steps if step.state == name and step.left_at is None), None)
            if entered:
                entered.left_at = moment
        elif kind in _EVENTS and steps:
            error = (event.get(f"{kind[0].lower()}{kind[1:]}EventDetails") or {}).get("error")
            steps[-1].troubles.append(f"{kind}: {error}" if error else kind)
    return steps


def _percent(seconds: float, whole: float) -> float:
    return round(100 * max(seconds, 0.0) / whole, 2)
