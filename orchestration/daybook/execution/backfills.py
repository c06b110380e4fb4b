"""Prepare the executions of backfills and catch-ups, and close their records, for local runs and for AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from daybook.errors import UsageError
from daybook.execution.close import ABORTED
from daybook.records.archive import Archive
from daybook.records.failures import first_line
from daybook.records.models import BackfillRecord, CatchUpPlan
from daybook.scheduling.backfills import BackfillPlan, close_backfill, start_backfill
from daybook.scheduling.ranges import DEFAULT_CHUNK
from daybook.settings import Settings

if TYPE_CHECKING:  # For annotations only: a local run does not import the modules for AWS.
    from asl_local import Execution
    from daybook.execution.aws.executions import ExecutionInfo


def require_stopped(backfill_id: str, *, running: bool) -> None:
    """Raise ``UsageError`` if a backfill is ``running``, so that no other one can continue it."""
    if running:
        raise UsageError(f"{backfill_id} is already running these dates; wait until it ends or stop it, then try again.")


def record_backfill(settings: Settings, plan: BackfillPlan, *, parallel: int, fail_fast: bool) -> tuple[str, dict[str, Any]]:
    """Record a plan; return the backfill's id and its part of the state machine's input."""
    facts = {"env": settings.env, "title": settings.title, "parallel": parallel, "fail_fast": fail_fast}
    backfill_id = start_backfill(Archive(settings.archive), plan, facts)
    return backfill_id, {
        "backfill_id": backfill_id,
        "ranges": [each.to_json() for each in plan.ranges],
        "max_concurrency": parallel,
        "first_stage": plan.first_stage,
        "fail_fast": fail_fast,
    }


def build_catch_up_input(
    *,
    limit: int,
    parallel: int,
    chunk: str = DEFAULT_CHUNK,
    include_stale: bool = False,
    since: Optional[str] = None,
    until: Optional[str] = None,
) -> dict[str, Any]:
    """Return a catch-up's part of the state machine's input."""
    bounds = {name: day for name, day in (("since", since), ("until", until)) if day}
    return {"limit": limit, "max_concurrency": parallel, "chunk": chunk, "include_stale": include_stale, **bounds}


def find_planned_backfill(settings: Settings, catch_up: str) -> Optional[str]:
    """Return the id of the backfill that the execution of a catch-up has planned; None if it planned none."""
    try:
        return Archive(settings.archive).read(CatchUpPlan, f"outcomes/{catch_up}/gaps.json").backfill_id
    except FileNotFoundError:
        return None


def close_ended_backfill(archive: Archive, backfill_id: str, ended: Union[Execution, ExecutionInfo, None]) -> BackfillRecord:
    """Close a backfill unless its summary job did; return its closing record.

    ``ended`` is its execution, or None if that did not end by itself.
    """
    if ended is None or ended.status == ABORTED:
        return close_backfill(archive, backfill_id, stopped=True)
    return close_backfill(
        archive, backfill_id, reasons=[f"there is no summary: {ended.error}: {first_line(ended.cause or '')}"]
    )
