"""Divide the record of a run over a range of dates among its dates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from daybook.records.archive import describe_failure
from daybook.records.models import AttemptRecord, RunOutcome
from daybook.records.names import STAGES

_WORST_FIRST: tuple[RunOutcome, ...] = ("RUNNING", "FAILED", "REJECTED", "SUCCEEDED", "SKIPPED")


def worst_outcome(outcomes: Iterable[RunOutcome]) -> RunOutcome:
    """Return the outcome of a range, given those of its dates: the worst one."""
    return min(outcomes, key=_WORST_FIRST.index)


def slice_attempts(attempts: Iterable[AttemptRecord], dates: Iterable[str]) -> dict[str, list[AttemptRecord]]:
    """Return, by date, what a range's attempts did for it. An attempt has no slice for a date that had ended before it."""
    slices: dict[str, list[AttemptRecord]] = {day: [] for day in dates}
    continuing = list(slices)
    for attempt in attempts:
        results: dict[str, Any] = getattr(attempt, "dates", {})
        whole = {"outcome": attempt.outcome, "reasons": attempt.reasons, "failure": attempt.failure}
        for day in results or continuing:
            if day in slices:
                kept = {name: value for name, value in attempt if name not in ("dates", "rows", "details")}
                slices[day].append(AttemptRecord.model_validate({**kept, **results.get(day, whole)}))
        ended = {day for day, each in results.items() if each["outcome"] != "SUCCEEDED"}
        continuing = [day for day in continuing if day not in ended]
    return slices


def date_outcome(attempts: Sequence[AttemptRecord], day: date) -> tuple[RunOutcome, list[str]]:
    """Return the outcome of a date of a range and its reasons, given all attempts of the range."""
    last = {each.stage: each for each in slice_attempts(attempts, [day.isoformat()])[day.isoformat()]}
    for stage in STAGES:
        found = last.get(stage)
        if found and found.outcome == "FAILED":
            return "FAILED", [describe_failure(found)] if found.failure else found.reasons
        if found and found.outcome != "SUCCEEDED":
            return found.outcome, found.reasons
    return ("SUCCEEDED", []) if "quality" in last else ("FAILED", [])
