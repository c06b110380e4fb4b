"""A run's history as a timeline: which state was entered when, how long it lasted, what went wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence

from daybook.report import formats

# Events that say why a state took longer or ended badly, and the object that holds their error's name.
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
    """One stay in one state. ``offset`` and ``width`` place its bar, in percent of the whole run."""

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
    """The states of a run in the order they were entered.

    A state without an exit (a Fail state, or one that a crash ended) has no length; its bar runs to the last event. An
    error is noted at the state that was entered last before it.
    """
    stays = _read_visits(history)
    if not stays:
        return []
    start = stays[0].entered_at
    end = max(formats.parse_instant(str(event["timestamp"])) for event in history)
    whole = max((end - start).total_seconds(), 1e-3)
    steps = []
    for stay in stays:
        until = stay.left_at or end
        steps.append(
            Step(
                state=stay.state,
                kind=stay.kind,
                entered_at=stay.entered_at,
                seconds=_visit_seconds(stay),
                offset=_percent((stay.entered_at - start).total_seconds(), whole),
                width=_percent((until - stay.entered_at).total_seconds(), whole),
                troubles=tuple(stay.troubles),
            )
        )
    return steps


def _read_visits(history: Sequence[Mapping[str, Any]]) -> List[_StateVisit]:
    stays: List[_StateVisit] = []
    open_by_state: Dict[str, List[_StateVisit]] = {}
    for event in history:
        kind, moment = str(event["type"]), formats.parse_instant(str(event["timestamp"]))
        if kind.endswith("StateEntered"):
            name = str((event.get("stateEnteredEventDetails") or {}).get("name"))
            stay = _StateVisit(name, kind[: -len("StateEntered")], moment, None, [])
            stays.append(stay)
            open_by_state.setdefault(name, []).append(stay)
        elif kind.endswith("StateExited"):
            name = str((event.get("stateExitedEventDetails") or {}).get("name"))
            if open_by_state.get(name):
                open_by_state[name].pop(0).left_at = moment
        elif kind in _ERROR_DETAIL_KEYS and stays:
            error = (event.get(_ERROR_DETAIL_KEYS[kind]) or {}).get("error")
            stays[-1].troubles.append(f"{kind}: {error}" if error else kind)
    return stays


def _visit_seconds(stay: _StateVisit) -> Optional[float]:
    """How long a stay lasted; unknown also where the clock was set back between two processes of one execution."""
    seconds = (stay.left_at - stay.entered_at).total_seconds() if stay.left_at else None
    return seconds if seconds is None or seconds >= 0 else None


def _percent(seconds: float, whole: float) -> float:
    return round(100 * max(seconds, 0.0) / whole, 2)
