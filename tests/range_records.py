"""Write made-up runs over ranges of dates into an archive, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Optional

from daybook.records.archive import Archive, attempt_name, sha256
from daybook.records.models import AttemptRecord, RunRecord
from daybook.records.names import STAGES, range_of
from daybook.records.ranges import judge_dates, worst_outcome
from tests.sample_records import attempt_record

STARTED, ENDED = "2025-12-01T03:00:00.000Z", "2025-12-01T03:00:10.000Z"


def build_attempts(range_id: str, dates: Sequence[str], ends: Mapping[str, tuple[str, str]]) -> list[AttemptRecord]:
    """Return an attempt of each stage. ``ends`` maps dates to the stage and the outcome with which they end before its end."""
    first, last = range_of(range_id)
    attempts, continuing = [], list(dates)
    for stage in STAGES:
        outcomes = {day: ends[day][1] if day in ends and ends[day][0] == stage else "SUCCEEDED" for day in continuing}
        if not outcomes:
            break
        results = {day: _result(stage, day, outcome) for day, outcome in outcomes.items()}
        name = attempt_name(stage, 1)
        attempts.append(
            attempt_record(
                stage,
                worst_outcome(outcomes.values()) if "SUCCEEDED" not in outcomes.values() else "SUCCEEDED",
                run_id=range_id,
                run_date=first,
                until=last,
                started_at=STARTED,
                ended_at=ENDED,
                seconds=10.0,
                rows={"in": 10 * len(results), "out": 9 * len(results)},
                tables_written={f"silver.{stage}": 7},
                dates=results,
                notebook={"file": f"{name}.ipynb", "sha256": sha256(b"notebook")},
                html={"file": f"{name}.html", "sha256": sha256(b"page")},
            )
        )
        continuing = [day for day, outcome in outcomes.items() if outcome == "SUCCEEDED"]
    return attempts


def _result(stage: str, day: str, outcome: str) -> dict[str, Any]:
    found: dict[str, Any] = {"outcome": outcome, "rows": {"in": 10, "out": 9}}
    if outcome == "FAILED":
        found["failure"] = {"exception": "FormatError", "message": f"{day} is corrupt", "permanent": True}
    elif outcome != "SUCCEEDED":
        found["reasons"] = [f"{stage} came to {outcome} for {day}"]
    if stage == "ingest":
        found["inputs"] = [{"file": f"orders/{day}.csv", "bytes": 5, "sha256": "ab", "rows": 10}]
    if stage == "notify":
        found["details"] = {"summary": {"orders": 3}, "run_outcome": "SUCCEEDED"}
    return found


def close_range(
    archive: Archive, range_id: str, ends: Optional[Mapping[str, tuple[str, str]]] = None, **more: Any
) -> RunRecord:
    """Write the attempts of a started range with their files, and close it. ``more`` are values of the range's record."""
    date_runs = archive.started(range_id).dates
    attempts = [
        archive.write_attempt(each, b"notebook", b"page") for each in build_attempts(range_id, list(date_runs), ends or {})
    ]
    record = build_range_record(range_id, date_runs, attempts, **more)
    archive.write_run(record)
    return record


def build_range_record(range_id: str, date_runs: Mapping[str, str], attempts: list[AttemptRecord], **more: Any) -> RunRecord:
    """Return the closing record of a range."""
    first, last = range_of(range_id)
    dates = judge_dates(attempts, date_runs)
    values = {
        "run_id": range_id,
        "run_date": first,
        "until": last,
        "outcome": worst_outcome(each.outcome for each in dates.values()),
        "started_at": STARTED,
        "ended_at": ENDED,
        "seconds": 61.0,
        "stages": attempts,
        "dates": dates,
        **more,
    }
    return RunRecord.model_validate(values)


def add_range(
    archive: Archive, first: date, last: date, ends: Optional[Mapping[str, tuple[str, str]]] = None, **facts: Any
) -> str:
    """Start and close a range with the next free id, and return it."""
    range_id = archive.start_range(first, last, facts)
    close_range(archive, range_id, ends, **({"part_of": facts["part_of"]} if "part_of" in facts else {}))
    return range_id
