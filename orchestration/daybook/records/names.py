"""Define names that all packages share: stages, outcomes and run ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from daybook.errors import UsageError

STAGES = ("ingest", "validate", "transform", "aggregate", "quality", "notify")

RESULT_MIME = "application/vnd.daybook.result+json"
"""MIME type of the output in which a stage notebook's closing cell leaves its outcome and figures for the record."""
OMITTED_OUTPUT_KEY = "daybook_cut"
"""The key in the metadata of an output that stands for outputs which were left out (``daybook.execution.outputs``)."""

NOT_STARTED: Literal["NOT STARTED"] = "NOT STARTED"
"""The outcome of a date that its backfill did not start."""


_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


@dataclass(frozen=True)
class RunStart:
    """A run to start: its id, which is taken, and the stage it begins with."""

    run_id: str
    first_stage: str


def notebook_name(stage: str) -> str:
    """Return ``3_transform`` for ``transform``: the stem of the notebook's file and of its records."""
    return f"{STAGES.index(stage) + 1}_{stage}"


def format_run_id(run_date: date, number: int) -> str:
    """Return the id of a run, which is also its lock: ``daily-2025-11-30-1``."""
    return f"daily-{run_date.isoformat()}-{number}"


def format_range_id(first: date, last: date, number: int) -> str:
    """Return the id of a run of a range of dates: ``range-2025-11-01-2025-11-30-1``."""
    return f"range-{first.isoformat()}-{last.isoformat()}-{number}"


def is_range_id(run_id: str) -> bool:
    """Return whether a run id is that of a range of dates."""
    return run_id.startswith("range-")


def range_of(run_id: str) -> tuple[date, date]:
    """Return the first and last business date in a run id. Raises ``UsageError`` if it is no run id."""
    matched = re.fullmatch(rf"range-({_DATE})-({_DATE})-[1-9][0-9]*", run_id)
    if not matched:
        day = run_date_of(run_id)
        return day, day
    try:
        first, last = date.fromisoformat(matched[1]), date.fromisoformat(matched[2])
    except ValueError:
        first, last = date.max, date.min
    if first >= last:
        raise UsageError(f"{run_id!r} is not a run's name: it has no range of dates; `daybook runs` lists the runs.")
    return first, last


def list_dates(first: date, last: date) -> list[date]:
    """Return the dates of a range, both ends included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def run_date_of(run_id: str) -> date:
    """Return the business date in a run id. Raises ``UsageError`` if it is no run id."""
    matched = re.fullmatch(rf"daily-({_DATE})-[1-9][0-9]*", run_id)
    try:
        if matched:
            return date.fromisoformat(matched[1])
    except ValueError:
        pass
    raise UsageError(f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, and `daybook runs` lists them.")
