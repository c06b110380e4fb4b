"""Read the jobs of an execution from its history, the events of Step Functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from daybook.records.archive import parse_timestamp


@dataclass
class Job:
    """A job of a stage, with its number among those of the stage. ``ended_at`` is None while it runs."""

    stage: str
    attempt: int
    scheduled_at: datetime
    ended_at: Optional[datetime] = None
    description: dict[str, Any] = field(default_factory=dict)
    """What Glue says of the ended job; empty if the state timed out."""


def list_jobs(events: Iterable[Mapping[str, Any]]) -> list[Job]:
    """Return the jobs of stages that were started, oldest first."""
    jobs: list[Job] = []
    running: Optional[Job] = None
    for event in events:
        kind = event["type"]
        if kind == "TaskScheduled":
            stage = json.loads(event["taskScheduledEventDetails"]["parameters"]).get("Arguments", {}).get("--stage")
            running = None  # Other tasks, such as reading an outcome, are not jobs.
            if stage:
                attempt = 1 + sum(each.stage == stage for each in jobs)
                running = Job(stage, attempt, parse_timestamp(event["timestamp"]))
                jobs.append(running)
        elif running and kind in ("TaskSubmitFailed", "TaskStartFailed"):
            jobs.remove(running)  # Nothing was started.
            running = None
        elif running and kind in ("TaskSucceeded", "TaskFailed", "TaskTimedOut"):
            details = event.get("taskSucceededEventDetails") or event.get("taskFailedEventDetails") or {}
            # The cause of an error can be any text.
            with suppress(ValueError):
                description = json.loads(details.get("output") or details.get("cause") or "{}")
                running.description = description if isinstance(description, dict) else {}
            running.ended_at = parse_timestamp(event["timestamp"])
            running = None
    return jobs
