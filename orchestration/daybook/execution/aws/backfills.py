"""Start and follow backfills and catch-ups on AWS, and close their records if the summary job did not."""

from __future__ import annotations

import uuid
from typing import Any, Optional

from asl_local import format_event
from daybook.errors import DaybookError
from daybook.execution.aws.executions import ExecutionInfo, Executions, build_input
from daybook.execution.aws.follow import Follower
from daybook.execution.aws.runs import close_lost
from daybook.execution.backfills import (
    build_catch_up_input,
    close_ended_backfill,
    find_planned_backfill,
    record_backfill,
    require_stopped,
)
from daybook.execution.runner import BackfillListener
from daybook.records.archive import Archive
from daybook.records.failures import first_line
from daybook.records.models import BackfillRecord
from daybook.records.names import NOT_STARTED
from daybook.scheduling.backfills import GOOD_OUTCOMES, BackfillPlan, close_backfill, read_results, write_backfill_history


def start_backfill_execution(executions: Executions, plan: BackfillPlan, *, parallel: int, fail_fast: bool) -> str:
    """Record a plan, start the backfill machine and return the backfill's name.

    A lost backfill that the plan continues is closed first.

    Raises
    ------
    UsageError
        The backfill that the plan continues is still running.
    """
    settings = executions.settings
    if plan.continues:
        lost = executions.find("backfill", plan.continues)
        require_stopped(plan.continues, running=lost is not None and lost.is_running)
        _close_backfill(executions, plan.continues, lost, b"")
    backfill_id, data = record_backfill(settings, plan, parallel=parallel, fail_fast=fail_fast)
    try:
        executions.start("backfill", backfill_id, {**_common_input(executions), **data})
    except DaybookError as error:
        close_backfill(Archive(settings.archive), backfill_id, reasons=[f"it could not be started: {error}"])
        raise
    return backfill_id


def start_catch_up(executions: Executions, **options: Any) -> str:
    """Start the catch-up machine with options of ``build_catch_up_input`` and return the name of its execution."""
    name = f"catch-up-{uuid.uuid4().hex[:16]}"
    backfill = {"backfill": executions.machine_arn("backfill")}
    executions.start("catch-up", name, {**_common_input(executions), **build_catch_up_input(**options), **backfill})
    return name


def follow_backfill(executions: Executions, backfill_id: str, listener: BackfillListener) -> BackfillRecord:
    """Wait for the end of a backfill and return its closing record. An interrupt does not stop the backfill."""
    follower = Follower(executions, "backfill", backfill_id, listener, listener.on_run_event)
    ended = follower.follow()
    return _close_backfill(executions, backfill_id, ended, b"".join(map(format_event, follower.events)))


def follow_catch_up(executions: Executions, name: str, listener: BackfillListener) -> tuple[str, Optional[BackfillRecord]]:
    """Wait for the end of a catch-up; return its error (or an empty string) and its backfill's closing record, if any."""
    ended = Follower(executions, "catch-up", name, listener, listener.on_run_event).follow()
    planned = find_planned_backfill(executions.settings, name)
    if planned:
        return "", _close_backfill(executions, planned, executions.find("backfill", planned), b"")
    return ("" if ended.status == "SUCCEEDED" else first_line(ended.cause or ended.status)), None


def is_running(executions: Executions, backfill_id: str) -> bool:
    """Return whether a backfill's execution is running."""
    found = executions.find("backfill", backfill_id)
    return found is not None and found.is_running


def _close_backfill(executions: Executions, backfill_id: str, ended: Optional[ExecutionInfo], history: bytes) -> BackfillRecord:
    """Close a backfill and the runs of its dates unless they are closed; return the backfill's closing record."""
    archive = Archive(executions.settings.archive)
    # First, since AWS can fail in the next step, and a second try has no history.
    if history:
        write_backfill_history(archive, backfill_id, history)
    # Records of dates that ended well in the backfill that this one continues are closed.
    open_runs = [
        each.run_id for each in read_results(archive, backfill_id) if each.outcome not in (NOT_STARTED, *GOOD_OUTCOMES)
    ]
    close_lost(executions, open_runs)
    return close_ended_backfill(archive, backfill_id, ended)


def _common_input(executions: Executions) -> dict[str, Any]:
    return {**build_input(executions.settings), "daily": executions.machine_arn("daily")}
