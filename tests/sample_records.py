"""Build records for tests from the few values that a test is about."""

from __future__ import annotations

from typing import Any

from daybook.records.models import AttemptRecord, RollbackRecord, RunRecord
from daybook.records.names import run_date_of


def attempt_record(stage: str = "ingest", outcome: str = "SUCCEEDED", **values: Any) -> AttemptRecord:
    """Return an attempt's record; other keys are missing, as in a record of an older release."""
    return AttemptRecord.model_validate({"stage": stage, "outcome": outcome, **values})


def run_record(run_id: str, outcome: str = "SUCCEEDED", **values: Any) -> RunRecord:
    """Return a run's record of the business date in its id; other keys are missing."""
    return RunRecord.model_validate({"run_id": run_id, "run_date": run_date_of(run_id), "outcome": outcome, **values})


def rollback_record(run_id: str, **values: Any) -> RollbackRecord:
    """Return the record of a finished rollback of a run."""
    moments = {"started_at": "2025-12-24T08:00:00.000Z", "ended_at": "2025-12-24T08:00:05.000Z"}
    return RollbackRecord.model_validate(
        {"run_id": run_id, "run_date": run_date_of(run_id), "by": "a steward", "why": "wrong prices", **moments, **values}
    )
