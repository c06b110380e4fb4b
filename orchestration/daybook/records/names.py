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


_RUN_ID = re.compile(r"daily-([0-9]{4}-[0-9]{2}-[0-9]{2})-[1-9][0-9]*")
_RANGE_ID = re.compile(r"range-([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{4}-[0-9]{2}-[0-9]{2})-[1-9][0-9]*")


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
    """Return the id of a run over the dates from ``first`` to a later ``last``: ``range-2025-11-01-2025-11-30-1``."""
    return f"range-{first.isoformat()}-{last.isoformat()}-{number}"


def run_number(run_id: str) -> int:
    """Return the number at the end of a run id, of one date or of a range; 0 if there is none."""
    found = re.search(r"-([0-9]+)$", run_id)
    return int(found[1]) if found else 0


def run_date_of(run_id: str) -> date:
    """Return the business date in the id of a run of one date. Raises ``UsageError`` for any other text."""
    found = _parse(_RUN_ID, run_id)
    if found:
        return found[0]
    raise UsageError(f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, and `daybook runs` lists them.")


def range_of(run_id: str) -> tuple[date, date]:
    """Return the first and the last business date in a run id; they are the same for a run of one date.

    Raises ``UsageError`` if it is no run id.
    """
    of_date, of_range = _parse(_RUN_ID, run_id), _parse(_RANGE_ID, run_id)
    if of_date:
        return of_date[0], of_date[0]
    if of_range and of_range[0] < of_range[1]:
        return of_range[0], of_range[1]
    raise UsageError(
        f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, or range-2025-11-01-2025-11-30-1 for a range of "
        "dates, and `daybook runs` lists them."
    )


def format_dates_input(first: date, last: date) -> dict[str, str]:
    """Return the dates of a run as the input of the daily machine has them: one date has no ``until``."""
    return {"run_date": first.isoformat(), **({"until": last.isoformat()} if last > first else {})}


def list_range(run_id: str) -> list[date]:
    """Return the business dates of a run, of one date or of a range, oldest first."""
    return list_dates(*range_of(run_id))


def list_dates(first: date, last: date) -> list[date]:
    """Return the dates between two, both included; none if ``last`` is before ``first``."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def is_range_id(run_id: str) -> bool:
    """Return whether a text is the id of a run over a range of dates."""
    found = _parse(_RANGE_ID, run_id)
    return bool(found) and found[0] < found[1]


def _parse(pattern: re.Pattern[str], run_id: str) -> list[date]:
    """Return the dates in a run id; an empty list if it does not match, or if a date does not exist."""
    matched = pattern.fullmatch(run_id)
    try:
        return [date.fromisoformat(each) for each in matched.groups()] if matched else []
    except ValueError:
        return []
