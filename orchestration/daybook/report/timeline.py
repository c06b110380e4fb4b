"""Lay out a run's history as a timeline: when each state was entered, how long it lasted, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence

from daybook.report import formats

# Events of errors and redrives, and the object that holds the name of the error.
_ERROR_DETAIL_KEYS = {
    "TaskFailed": "taskFailedEventDetails",
    "TaskTimedOut": "taskTimedOutEventDetails",
    "EvaluationFailed": "evaluationFailedEventDetails",
    "ExecutionFailed": "executionFailedEventDetails",
    "ExecutionTimedOut": "executionTimedOutEventDetails",
    "ExecutionAborted": "executionAbortedEventDetails",
    "ExecutionRedriven": "executionRedrivenEventDetails",
}


@dataclass(frozen=True)
class Step:
    """One visit of a state. ``offset`` and ``width`` place its bar, in percent of the whole run."""

    state: str
    kind: str
    entered_at: datetime
    seconds: Optional[float]
    offset: float
    width: float
    troubles: Sequence[str]


@dataclass
class _StateVisit:
    state: str
    kind: str
    entered_at: datetime
    left_at: Optional[datetime]
    troubles: List[str]


def build_timeline(history: Sequence[Mapping[str, Any]]) -> List[Step]:
    """Return the states of a run in the order they were entered.

    A state without an exit (a Fail state, or one that a crash ended) has no duration; its bar ends at the last event. An error
    belongs to the state that was entered last before it.
    """
    visits = _read_visits(history)
    if not visits:
        return []
    start = visits[0].entered_at
    end = max(formats.parse_instant(str(event["timestamp"])) for event in history)
    whole = max((end - start).total_seconds(), 1e-3)
    steps = []
    for visit in visits:
        until = visit.left_at or end
        steps.append(
            Step(
                state=visit.state,
                kind=visit.kind,
                entered_at=visit.entered_at,
                seconds=_visit_seconds(visit),
                offset=_percent((visit.entered_at - start).total_seconds(), whole),
                width=_percent((until - visit.entered_at).total_seconds(), whole),
                troubles=tuple(visit.troubles),
            )
        )
    return steps


def _read_visits(history: Sequence[Mapping[str, Any]]) -> List[_StateVisit]:
    visits: List[_StateVisit] = []
    open_by_state: Dict[str, List[_StateVisit]] = {}
    for event in history:
        kind, moment = str(event["type"]), formats.parse_instant(str(event["timestamp"]))
        if kind.endswith("StateEntered"):
            name = str((event.get("stateEnteredEventDetails") or {}).get("name"))
            visit = _StateVisit(name, kind[: -len("StateEntered")], moment, None, [])
            visits.append(visit)
            open_by_state.setdefault(name, []).append(visit)
        elif kind.endswith("StateExited"):
            name = str((event.get("stateExitedEventDetails") or {}).get("name"))
            if open_by_state.get(name):
                open_by_state[name].pop(0).left_at = moment
        elif kind in _ERROR_DETAIL_KEYS and visits:
            error = (event.get(_ERROR_DETAIL_KEYS[kind]) or {}).get("error")
            visits[-1].troubles.append(f"{kind}: {error}" if error else kind)
    return visits


def _visit_seconds(visit: _StateVisit) -> Optional[float]:
    """Return the seconds of a visit; None without an exit, or if the clock was set back between two processes."""
    seconds = (visit.left_at - visit.entered_at).total_seconds() if visit.left_at else None
    return seconds if seconds is None or seconds >= 0 else None


def _percent(seconds: float, whole: float) -> float:
    return round(100 * max(seconds, 0.0) / whole, 2)
