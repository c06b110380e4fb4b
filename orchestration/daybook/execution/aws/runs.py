"""Start, follow and resume a run of business dates, one or a range, on AWS, and close its record if no job did.

Two runs of a date never run at the same time: a start requires that no execution of a date is running, and a name is accepted
once by the archive and by Step Functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

from asl_local import format_event
from daybook.errors import DateLockedError, DaybookError, UsageError
from daybook.execution.aws.executions import REDRIVABLE_STATUSES, ExecutionInfo, Executions, NameTakenError, build_input
from daybook.execution.aws.follow import ChildListener, Follower, Listener
from daybook.execution.close import close_ended_run, find_resume_input, require_resumable_run
from daybook.execution.run_record import close_run
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.models import RunRecord
from daybook.records.names import RunStart, format_dates_input, range_of
from daybook.settings import DateRange, Settings

_START_TIMEOUT = timedelta(minutes=10)
"""A run without an execution that was recorded longer ago was never started."""
STOPPED_REASON = "stopped before it ended: its execution was stopped on AWS"


def start_run(executions: Executions, dates: DateRange, allocate: Callable[[], RunStart]) -> str:
    """Start a run of dates and return its name. ``allocate`` records it in the archive and returns name and first stage.

    Raises
    ------
    DateLockedError
        Another run of one of the dates is running. The message names it, its owner and its start.
    """
    settings, archive = executions.settings, Archive(executions.settings.archive)
    while True:
        require_dates_free(executions, dates)
        close_lost(executions, [run_id for day in dates.list() for run_id in archive.run_ids(day)])
        start = allocate()
        data = {**build_input(settings), **format_dates_input(dates.first, dates.last), "first_stage": start.first_stage}
        try:
            executions.start("daily", start.run_id, data)
        except NameTakenError:
            # Another process started it just now, or it ended before it wrote a record; then the next name is free.
            require_dates_free(executions, dates)
            continue
        except DaybookError as error:
            close_run(archive, settings, start.run_id, "FAILED", [f"it could not be started: {error}"])
            raise
        return start.run_id


def follow_run(
    executions: Executions,
    run_id: str,
    execution: str,
    before: int = 0,
    redriven: bool = False,
    *,
    listener: Optional[Listener] = None,
    half_listener: Optional[ChildListener] = None,
) -> RunRecord:
    """Wait for the end of a run's ``execution`` and return the run's record.

    ``before`` is the number of closing records the run had when the execution started. An interrupt does not stop the run.
    """
    follower = Follower(executions, "daily", execution, listener, half_listener, redriven=redriven)
    ended = follower.follow()
    return _close_record(executions.settings, run_id, before, ended, follower.events)


def resume_run(executions: Executions, run_id: str) -> tuple[str, int, bool]:
    """Resume a failed or interrupted run from the stage that did not succeed, as ``daybook.execution.local`` does.

    An interrupted execution is redriven. If it FAILED, or can no longer be redriven (after 14 days), a new execution of the
    same run starts at that stage.

    Returns
    -------
    tuple of str, int, bool
        The name of the execution, the number of closing records of the run so far, whether it was redriven.

    Raises
    ------
    UsageError
        The run does not exist or cannot be resumed.
    DateLockedError
        A run of one of the dates is running.
    """
    settings, archive, dates = executions.settings, Archive(executions.settings.archive), DateRange(*range_of(run_id))
    require_dates_free(executions, dates)
    of_run = executions.executions_of_run(run_id)
    if not archive.is_started(run_id):
        if not of_run:
            raise UsageError(f"There is no run {run_id}; list the runs with `daybook runs {settings.command_options}`.")
        archive.ensure_started(run_id, {"env": settings.env, "title": settings.title})
    before = len(require_resumable_run(settings, run_id))
    newest = of_run[-1] if of_run else None
    if newest is not None and newest.status in REDRIVABLE_STATUSES and newest.redrivable:
        executions.redrive("daily", newest.name)
        return newest.name, before, True
    name = f"{run_id}-resumed-{max(len(of_run), 1)}"
    data = {**build_input(settings), **find_resume_input(archive, run_id, newest.input if newest else {})}
    executions.start("daily", name, data)
    return name, before, False


def require_dates_free(executions: Executions, dates: DateRange) -> None:
    """Raise ``DateLockedError`` if an execution of one of the dates is running."""
    for name in executions.list_running("daily"):
        run_id = name.split("-resumed-")[0]
        try:
            first, last = range_of(run_id)
        except UsageError:
            continue  # An execution that somebody started by hand; its first job refuses the name.
        found = executions.find("daily", name) if first <= dates.last and last >= dates.first else None
        if found is not None and found.is_running:
            raise DateLockedError(
                f"{max(first, dates.first)} is being run by {found}; wait until it ends (`daybook show --env {executions.env} "
                f"{run_id}`) or stop its execution, then try again."
            )


def close_lost(executions: Executions, run_ids: Iterable[str]) -> None:
    """Close the records of runs whose execution ended without one. Running runs are skipped.

    An execution leaves no closing record if its notify stage failed or did not start. The caller needs write permission for
    the archive.
    """
    settings, archive = executions.settings, Archive(executions.settings.archive)
    for run_id in dict.fromkeys(archive.files_run_id(each) for each in run_ids):
        if archive.read_closing_records(run_id):
            continue
        of_run = executions.executions_of_run(run_id)
        started = parse_timestamp(archive.started(run_id).started_at)
        if not of_run and datetime.now(timezone.utc) - started < _START_TIMEOUT:
            continue  # its execution may start in a moment
        if not of_run:
            close_run(archive, settings, run_id, "FAILED", ["its execution was never started"])
        elif not of_run[-1].is_running:
            pages = executions.events("daily", of_run[-1].name)
            _close_record(settings, run_id, 0, of_run[-1], list(pages.read()))


def reconcile_record(executions: Executions, record: RunRecord) -> RunRecord:
    """Return a run's record with the state of its execution. A running record without a running execution is lost."""
    if record.state != "running":
        return record
    of_run = executions.executions_of_run(record.run_id)
    if of_run and of_run[-1].is_running:
        return record.changed(reasons=[f"The run is in progress: {of_run[-1]}."])
    how = f"its execution ended as {of_run[-1].status}" if of_run else "its execution was never started"
    return record.changed(state="lost", outcome="FAILED", reasons=[f"lost: {how} without a closing record"])


def _close_record(
    settings: Settings, run_id: str, before: int, ended: ExecutionInfo, events: Iterable[Mapping[str, Any]]
) -> RunRecord:
    archive = Archive(settings.archive)
    archive.ensure_started(run_id, {"env": settings.env, "title": settings.title})
    events = list(events)
    known = archive.history(run_id)
    if [each.get("timestamp") for each in known] == [each["timestamp"] for each in events]:
        events = []  # another follower of the run has stored them
    return close_ended_run(
        settings,
        run_id,
        before=before,
        status=ended.status,
        error=ended.error,
        stopped=STOPPED_REASON,
        history=b"".join(map(format_event, events)),
    )
