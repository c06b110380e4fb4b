"""Start and follow backfills and catch-ups on AWS, and close their records if the summary job did not."""

from __future__ import annotations

import uuid
from typing import Any, Optional

from asl_local import Clock, SystemClock, format_event
from daybook.errors import DaybookError, UsageError
from daybook.execution.aws.executions import ExecutionInfo, Executions, build_input
from daybook.execution.aws.follow import ChildListener, Follower, Listener
from daybook.execution.aws.runs import close_lost
from daybook.records.archive import Archive, first_line
from daybook.records.models import BackfillRecord, CatchUpPlan
from daybook.scheduling.backfills import (
    BackfillPlan,
    close_backfill,
    read_backfill,
    read_results,
    start_backfill,
    write_backfill_history,
)
from daybook.settings import Settings


def start_backfill_execution(
    settings: Settings, executions: Executions, plan: BackfillPlan, *, parallel: int, fail_fast: bool
) -> str:
    """Record a plan, start the backfill machine and return the backfill's name.

    A lost backfill that the plan continues is closed first.

    Raises
    ------
    UsageError
        The backfill that the plan continues is still running.
    """
    archive = Archive(settings.archive)
    if plan.continues:
        if is_running(executions, plan.continues):
            raise UsageError(
                f"{plan.continues} is already running these dates; wait until it ends or stop its execution, then try again."
            )
        _close_backfill(settings, executions, plan.continues, executions.find("backfill", plan.continues), b"")
    facts = {"env": settings.env, "title": settings.title, "parallel": parallel, "fail_fast": fail_fast}
    backfill_id = start_backfill(archive, plan, facts)
    data = {
        **_common_input(settings, executions),
        "backfill_id": backfill_id,
        "dates": [day.to_json() for day in plan.days],
        "max_concurrency": parallel,
        "first_stage": plan.first_stage,
        "fail_fast": fail_fast,
    }
    try:
        executions.start("backfill", backfill_id, data)
    except DaybookError as error:
        close_backfill(archive, backfill_id, reasons=[f"it could not be started: {error}"])
        raise
    return backfill_id


def start_catch_up(
    settings: Settings,
    executions: Executions,
    *,
    limit: int,
    parallel: int,
    since: Optional[str],
    until: Optional[str],
    include_stale: bool,
) -> str:
    """Start the catch-up machine and return the name of its execution."""
    name = f"catch-up-{uuid.uuid4().hex[:16]}"
    data = {
        **_common_input(settings, executions),
        "backfill": executions.machine_arn("backfill"),
        "limit": limit,
        "max_concurrency": parallel,
        "include_stale": include_stale,
        **({"since": since} if since else {}),
        **({"until": until} if until else {}),
    }
    executions.start("catch-up", name, data)
    return name


def follow_backfill(
    settings: Settings,
    executions: Executions,
    backfill_id: str,
    *,
    listener: Optional[Listener] = None,
    day_listener: Optional[ChildListener] = None,
    clock: Optional[Clock] = None,
) -> BackfillRecord:
    """Wait for the end of a backfill and return its closing record. An interrupt does not stop the backfill."""
    follower = Follower(executions, "backfill", backfill_id, listener, day_listener, clock or SystemClock())
    return _close_backfill(settings, executions, backfill_id, follower.follow(), b"".join(map(format_event, follower.events)))


def follow_catch_up(
    settings: Settings,
    executions: Executions,
    name: str,
    *,
    listener: Optional[Listener] = None,
    day_listener: Optional[ChildListener] = None,
    clock: Optional[Clock] = None,
) -> tuple[str, Optional[BackfillRecord]]:
    """Wait for the end of a catch-up; return its error (or an empty string) and its backfill's closing record, if any."""
    ended = Follower(executions, "catch-up", name, listener, day_listener, clock or SystemClock()).follow()
    try:
        planned = Archive(settings.archive).read(CatchUpPlan, f"outcomes/{name}/gaps.json")
    except FileNotFoundError:
        planned = CatchUpPlan(gaps=0)
    if planned.backfill_id:
        found = executions.find("backfill", planned.backfill_id)
        return "", _close_backfill(settings, executions, planned.backfill_id, found, b"")
    return ("" if ended.status == "SUCCEEDED" else first_line(ended.cause or ended.status)), None


def is_running(executions: Executions, backfill_id: str) -> bool:
    """Return whether a backfill's execution is running."""
    found = executions.find("backfill", backfill_id)
    return found is not None and found.is_running


def _close_backfill(
    settings: Settings, executions: Executions, backfill_id: str, ended: Optional[ExecutionInfo], history: bytes
) -> BackfillRecord:
    """Close a backfill and the runs of its dates unless they are closed; return the backfill's closing record."""
    archive = Archive(settings.archive)
    if history:
        write_backfill_history(archive, backfill_id, history)
    taken = {each.run_id for each in read_results(archive, backfill_id)} & set(_list_started_runs(archive, backfill_id))
    close_lost(settings, executions, sorted(taken))
    if ended is None or ended.status == "ABORTED":
        return close_backfill(archive, backfill_id, stopped=True)
    return close_backfill(
        archive, backfill_id, reasons=[f"there is no summary: {ended.error}: {first_line(ended.cause or '')}"]
    )


def _list_started_runs(archive: Archive, backfill_id: str) -> list[str]:
    """Return the planned runs of a backfill that have started."""
    planned = [each.run_id for each in read_backfill(archive, backfill_id).days]
    return [run_id for run_id in planned if archive.store.exists(f"{archive.folder(run_id)}/started.json")]


def _common_input(settings: Settings, executions: Executions) -> dict[str, Any]:
    return {
        **build_input(settings),
        "daily": executions.machine_arn("daily"),
    }
