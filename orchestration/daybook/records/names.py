"""The names every room agrees on: stages, outcomes, and how a run is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

from daybook.errors import UsageError

STAGES = ("ingest", "validate", "transform", "aggregate", "quality", "notify")

RESULT_MIME = "application/vnd.daybook.result+json"
"""The type of the output that a stage notebook's last act leaves: its outcome and figures, for the record."""
OMITTED_OUTPUT_KEY = "daybook_cut"
"""The key in the metadata of an output that stands for outputs which were left out (``daybook.execution.outputs``)."""

Outcome = Literal["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED"]
"""Of a stage, a run, a day: done; nothing to do, with a reason; rejected by a gate, never retried; failed, by a fault that was
retried or by a permanent failure that was not."""

NOT_STARTED = "NOT STARTED"
"""The outcome of a date that its backfill did not start."""


@dataclass(frozen=True)
class RunStart:
    """A run to start: its name, which is taken, and the stage it begins with."""

    run_id: str
    first_stage: str


def notebook_name(stage: str) -> str:
    """``3_transform`` for ``transform``: the notebook's file without its ending, and the first part of its records."""
    return f"{STAGES.index(stage) + 1}_{stage}"


def format_run_id(run_date: date, number: int) -> str:
    """The name of a run, which is also its lock: ``daily-2025-11-30-1``."""
    return f"daily-{run_date.isoformat()}-{number}"


def run_date_of(run_id: str) -> date:
    """The business date in a run's name."""
    matched = re.fullmatch(r"daily-([0-9]{4}-[0-9]{2}-[0-9]{2})-[1-9][0-9]*", run_id)
    try:
        if matched:
            return date.fromisoformat(matched[1])
    except ValueError:
        pass
    raise UsageError(f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, and `daybook runs` lists them.")
