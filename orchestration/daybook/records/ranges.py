"""Divide the record of a run over a range of dates among its dates: attempts, outcomes, seconds and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Callable, Optional, Union

from daybook.records.failures import describe_failure
from daybook.records.models import AttemptRecord, DateResult, RangeDate, RowCounts, RunCost, RunOutcome, RunRecord, StartRecord
from daybook.records.names import STAGES, run_number
from daybook.records.shares import share_cost, split_number

_WORST_FIRST: tuple[RunOutcome, ...] = ("RUNNING", "FAILED", "REJECTED", "SUCCEEDED", "SKIPPED")
_NOT_OF_A_SLICE = frozenset({"until", "dates", "phases", "table_seconds", "requests", "missing"})
"""Keys of an attempt that have no meaning for one date of a range."""
_DETAILS_OF_EACH_DATE = frozenset({"snapshot", "lineage_gaps", "raw_reads"})
"""Details of a stage that hold for each date of a range."""
_NOT_OF_A_DATE = frozenset({"until", "dates", "halves", "usual_seconds", "missing", "state", "rolled_back", "cost"})
"""Keys of a range's record that have no meaning for one of its dates, or that are computed for the date."""


def worst_outcome(outcomes: Iterable[RunOutcome]) -> RunOutcome:
    """Return the outcome of a range, given those of its dates: the worst one. Raises ``ValueError`` without a date."""
    return min(outcomes, key=_WORST_FIRST.index)


def order_runs(
    names: Iterable[str], started_of: Callable[[str], Union[StartRecord, RunRecord]], run_of: Callable[[str], RunRecord]
) -> list[str]:
    """Return the runs of one date from the oldest to the newest, given functions that return their records.

    The greater number is the newer run, whatever the clock. Only the nightly run, number 1, can be newer than date runs, since
    these leave its number to it: it comes after the date runs that had stopped working on the date when it started.
    """
    ordered = sorted(names, key=run_number)
    if len(ordered) < 2 or run_number(ordered[0]) != 1:
        return ordered
    place = 0
    with suppress(FileNotFoundError):  # A process was killed before it wrote the record.
        night = started_of(ordered[0]).started_at
        for name in ordered[1:]:
            started = started_of(name)
            if started.range_id is None or started.started_at > night or _last_work(run_of(name)) > night:
                break
            place += 1
    return [*ordered[1 : place + 1], ordered[0], *ordered[place + 1 :]]


def _last_work(run: RunRecord) -> str:
    """Return when a run last worked, as text; the latest text for a run that still works."""
    if run.outcome == "RUNNING":
        return "~"
    return max([run.started_at, *(each.ended_at or each.started_at for each in run.stages)])


def slice_attempts(attempts: Iterable[AttemptRecord], dates: Iterable[str]) -> dict[str, list[AttemptRecord]]:
    """Return, by date, what a range's attempts did for it. An attempt has no slice for a date that had ended before it.

    Parameters
    ----------
    attempts
        All attempts of the range, by stage and number.
    dates
        All dates of the range, YYYY-MM-DD.

    Returns
    -------
    dict
        The slices by date, in the order of the attempts. A slice has the ``run_id`` of the range, whose folder has its files.
        The seconds of a slice are the date's share. Rows and seconds of all slices add up to those of the attempt.
    """
    slices: dict[str, list[AttemptRecord]] = {day: [] for day in dates}
    continuing = list(slices)
    for attempt in attempts:
        # A fault of the whole stage leaves no results: it concerns every date that had not ended.
        results = attempt.dates or {day: _whole_result(attempt) for day in continuing}
        seconds = _share_seconds(attempt.seconds, [_count_rows(each.rows) for each in results.values()])
        for (day, result), share in zip(results.items(), seconds):
            if day in slices:
                slices[day].append(_slice(attempt, day, result, share))
        continuing = [day for day in continuing if day not in results or not _is_end(attempt, results[day])]
    return slices


def date_outcome(attempts: Sequence[AttemptRecord], day: date) -> tuple[RunOutcome, list[str]]:
    """Return the outcome of a date of a range and its reasons, given all attempts of the range."""
    iso = day.isoformat()
    dates = dict.fromkeys([*(each for attempt in attempts for each in attempt.dates), iso])
    return _judge(slice_attempts(attempts, dates)[iso])


def judge_dates(attempts: Sequence[AttemptRecord], date_runs: Mapping[str, str]) -> dict[str, RangeDate]:
    """Return the ``dates`` of a range's record.

    Parameters
    ----------
    attempts
        All attempts of the range.
    date_runs
        By date, YYYY-MM-DD, the id of its date run (``StartRecord.dates``).
    """
    slices = slice_attempts(attempts, date_runs)
    return {day: RangeDate(run_id=date_runs[day], outcome=_judge(found)[0]) for day, found in slices.items()}


def build_date_records(record: RunRecord) -> dict[str, RunRecord]:
    """Return, by date, the records of the date runs of a range, given the range's closing record.

    Seconds and cost of the range are shared among its dates by the rows that were processed.
    """
    if not record.dates:
        return {}
    slices = slice_attempts(record.stages, record.dates)
    weights = [sum(_count_rows(each.rows) for each in found) for found in slices.values()]
    seconds = _share_seconds(record.seconds, weights)
    costs: list[Optional[RunCost]] = [None] * len(weights)
    if record.cost:
        costs = [*share_cost(record.cost, weights, record.run_id)]
    common = {name: value for name, value in record if name in record.model_fields_set and name not in _NOT_OF_A_DATE}
    found = {}
    for (day, stages), share, cost in zip(slices.items(), seconds, costs):
        outcome, reasons = record.dates[day].outcome, _judge(stages)[1]
        audited = [each.details.summary for each in stages if each.stage == STAGES[-1]]
        found[day] = RunRecord.model_validate(
            {
                **common,
                "run_id": record.dates[day].run_id,
                "run_date": date.fromisoformat(day),
                "range_id": record.run_id,
                "outcome": outcome,
                "reasons": reasons or (record.reasons if outcome == "FAILED" else []),
                "seconds": share,
                "stages": stages,
                "summary": audited[-1] if audited else None,
                **({"cost": cost} if "cost" in record.model_fields_set else {}),
            }
        )
    return found


def _slice(attempt: AttemptRecord, day: str, result: DateResult, seconds: Optional[float]) -> AttemptRecord:
    kept = {name: value for name, value in attempt if name in attempt.model_fields_set and name not in _NOT_OF_A_SLICE}
    shared = {
        name: getattr(attempt.details, name)
        for name in _DETAILS_OF_EACH_DATE & attempt.details.model_fields_set - result.details.model_fields_set
    }
    return AttemptRecord.model_validate(
        {
            **kept,
            "run_date": date.fromisoformat(day),
            "outcome": result.outcome,
            "reasons": result.reasons,
            "permanent": bool(result.failure and result.failure.permanent),
            "seconds": seconds,
            "rows": result.rows,
            "inputs": result.inputs,
            "details": result.details.changed(**shared),
            "failure": result.failure,
        }
    )


def _whole_result(attempt: AttemptRecord) -> DateResult:
    return DateResult(outcome=attempt.outcome, reasons=attempt.reasons, failure=attempt.failure)


def _is_end(attempt: AttemptRecord, result: DateResult) -> bool:
    """Return whether a date ended in an attempt. A fault of the whole stage is retried, so it ends no date."""
    return result.outcome in ("REJECTED", "SKIPPED") or (result.outcome == "FAILED" and bool(attempt.dates))


def _judge(slices: Iterable[AttemptRecord]) -> tuple[RunOutcome, list[str]]:
    """Return the outcome and reasons of a date, given its slices: those of the first stage that did not succeed."""
    last = {each.stage: each for each in slices}
    for stage in STAGES:
        found = last.get(stage)
        if found and found.outcome == "FAILED":
            return "FAILED", [describe_failure(found)] if found.failure else found.reasons
        if found and found.outcome != "SUCCEEDED":
            return found.outcome, found.reasons
    if "quality" in last:
        return "SUCCEEDED", []
    return "FAILED", []


def _count_rows(rows: RowCounts) -> int:
    """Return the rows that were processed, which are a measure of the work."""
    return rows.rows_in if rows.rows_in is not None else rows.rows_out or 0


def _share_seconds(seconds: Optional[float], weights: Sequence[int]) -> list[Optional[float]]:
    """Divide seconds, to the millisecond, in proportion to weights."""
    if seconds is None:
        return [None] * len(weights)
    return [share / 1000 for share in split_number(round(seconds * 1000), weights)]
