"""Halve a range whose run failed as a whole, and find how its dates ended in the runs of the halves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

from daybook.records.archive import Archive, outcome_key, serialize_record
from daybook.records.models import PlannedRange, RangeDate, RangeOutcome, RunRecord
from daybook.records.names import STAGES, list_dates, range_of
from daybook.records.notifications import PERMANENT_FAILURE

MAX_SPLITS = 5
"""Maximum number of times that a range is halved: a month then has runs of one date."""
_OUTCOME_NAME = "range"


def plan_halves(archive: Archive, run_id: str, *, failure: str, splits: int) -> list[PlannedRange]:
    """Return the runs of the halves of a range after a fault of a whole stage that persisted; none otherwise.

    A permanent failure is not a reason: the halves would fail in the same way. Their ids are free now, and are taken when they
    start. The stages of the halves cover all dates of the range, since nothing of the failed run is published.

    Parameters
    ----------
    archive, run_id
        The archive, and the run.
    failure
        What the state machine caught, as JSON.
    splits
        How often a range was halved before to get this one.
    """
    first, last = range_of(run_id)
    caught = json.loads(failure)
    if first == last or not caught or caught["Error"] == PERMANENT_FAILURE or splits >= MAX_SPLITS:
        return []
    dates = list_dates(first, last)
    middle = dates[(len(dates) + 1) // 2 - 1]
    ends = ((first, middle), (middle + timedelta(days=1), last))
    # A half of one date has no key ``until``.
    return [
        PlannedRange(run_date=start, until=end, run_id=archive.next_id(start, end))
        if end > start
        else PlannedRange(run_date=start, run_id=archive.next_id(start, end))
        for start, end in ends
    ]


def write_range_outcome(archive: Archive, record: RunRecord, halves: Iterable[PlannedRange]) -> None:
    """Write the outcome of a range and its halves where the state machine reads it."""
    attempted = {each.stage for each in record.stages}
    outcome = RangeOutcome(
        outcome=record.outcome,
        reasons=record.reasons,
        first_stage=next((stage for stage in STAGES[:-1] if stage in attempted), STAGES[0]),
        halves=list(halves),
    )
    archive.store.replace(outcome_key(record.run_id, _OUTCOME_NAME), serialize_record(outcome))


def find_date_outcomes(archive: Archive, record: RunRecord) -> dict[str, RangeDate]:
    """Return, by date, YYYY-MM-DD, how a closed run ended it and in which run; of a date that a half ran, by the half.

    A half that did not start changes nothing.
    """
    if not record.is_range:
        return {record.run_date.isoformat(): RangeDate(run_id=record.run_id, outcome=record.outcome)}
    found = dict(record.dates)
    for half in record.halves:
        closed = archive.read_closing_records(half)
        if closed:
            found.update(find_date_outcomes(archive, closed[-1]))
    return found
