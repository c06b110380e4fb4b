"""Run one business date on this machine, or resume its run."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any, Optional

from asl_local import Execution, Heartbeat, TaskService, get_event_details, read_events
from daybook.errors import DateLockedError
from daybook.execution.close import close_ended_run, find_resume_input, require_resumable_run
from daybook.execution.local.interpreter import (
    Listener,
    archive_folder,
    build_input,
    execute,
    interpreter_errors,
    journal_path,
)
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.records.archive import LOST_REASON, Archive
from daybook.records.locks import DateLocks
from daybook.records.models import RunRecord
from daybook.records.names import STAGES, run_date_of
from daybook.settings import Settings, daybook_home

INTERRUPTED_REASON = "stopped before it ended, by an interrupt (Ctrl-C, a closed terminal, or a backfill that was stopped)"


def run_day(
    settings: Settings,
    run_id: str,
    *,
    first_stage: str = STAGES[0],
    part_of: Optional[str] = None,
    locks: Optional[DateLocks] = None,
    heartbeat: Optional[Heartbeat] = None,
    listener: Optional[Listener] = None,
) -> tuple[Execution, RunRecord]:
    """Execute the state machine for a run that is recorded as started; return the ended execution and the run's record.

    Parameters
    ----------
    settings : Settings
        The settings of the deployment.
    run_id : str
        The run, which the archive has as started.
    first_stage : str
        The first stage to run.
    part_of : str, optional
        The backfill of the run.
    locks : DateLocks, optional
        The lock of the date if the caller holds it; otherwise it is acquired here.
    heartbeat : callable, optional
        Called about once a second. If it raises, the run ends as interrupted.
    listener : callable, optional
        Called with each event.
    """
    run_date = run_date_of(run_id)
    with nullcontext(locks) if locks is not None else DateLocks(archive_folder(settings), [run_date]) as held:
        held.write_holder(run_id)
        _close_lost_runs(settings, run_date, current=run_id)
        data = {**build_input(settings), "run_date": run_date.isoformat(), "first_stage": first_stage}
        data.update({"part_of": part_of} if part_of else {})
        return _execute(settings, run_id, run_id, data, held, listener, heartbeat)


def resume_day(settings: Settings, run_id: str, *, listener: Optional[Listener] = None) -> tuple[Execution, RunRecord]:
    """Resume a failed or interrupted run with the same input, from the stage that did not succeed.

    Successful stages are not run again. An interrupted execution is redriven. A FAILED execution ended in a Fail state, where
    a redrive would fail again, so a new execution of the same run starts at the failed stage.

    Raises
    ------
    UsageError
        The run cannot be resumed.
    DateLockedError
        The date is being run.
    """
    archive = Archive(settings.archive)
    found = archive.run(run_id)
    if found.state == "running":
        raise DateLockedError(f"{found.reasons[0]} Wait until it ends or stop it, then resume it.")
    with DateLocks(settings.archive, [run_date_of(run_id)]) as held:
        held.write_holder(run_id)
        require_resumable_run(settings, run_id)
        journals = _list_journals(settings, run_id)
        with interpreter_errors():
            events = read_events(journals[-1]) if journals else []
        if events and events[-1]["type"] not in ("ExecutionSucceeded", "ExecutionFailed"):
            return _execute(settings, run_id, journals[-1].stem, None, held, listener)
        before = json.loads(get_event_details(events[0])["input"]) if events else {}
        data = {**build_input(settings), **find_resume_input(archive, run_id, before)}
        return _execute(settings, run_id, f"{run_id}-resumed-{max(len(journals), 1)}", data, held, listener)


def _execute(
    settings: Settings,
    run_id: str,
    name: str,
    data: Optional[dict[str, Any]],
    locks: DateLocks,
    listener: Optional[Listener],
    heartbeat: Optional[Heartbeat] = None,
) -> tuple[Execution, RunRecord]:
    """Execute or redrive (without ``data``) an execution of a run, and close the run."""
    before = Archive(settings.archive).count_closing_records(run_id)
    execution = execute(settings, "daily", name, data, _services(run_id, locks, heartbeat), listener, heartbeat)
    record = close_ended_run(
        settings,
        run_id,
        before=before,
        status=execution.status,
        error=execution.error,
        stopped=INTERRUPTED_REASON,
        history=journal_path(settings, name).read_bytes(),
    )
    return execution, record


def close_failed_run(settings: Settings, run_id: str, reason: str) -> None:
    """Close a run as FAILED if it has no closing record."""
    archive = Archive(settings.archive)
    if not archive.read_closing_records(run_id):
        from daybook.execution.run_record import close_run

        close_run(archive, settings, run_id, "FAILED", [reason])


def _close_lost_runs(settings: Settings, run_date: date, *, current: str) -> None:
    """Close the date's runs without a closing record, except ``current``. The caller holds the lock, so they have ended."""
    archive = Archive(settings.archive)
    for run_id in archive.run_ids(run_date):
        if run_id == current or archive.read_closing_records(run_id):
            continue
        for journal in _list_journals(settings, run_id)[-1:]:
            archive.write_history(run_id, journal.read_bytes())
        from daybook.execution.run_record import close_run

        close_run(archive, settings, run_id, "FAILED", [LOST_REASON])


def _services(run_id: str, locks: DateLocks, heartbeat: Optional[Heartbeat]) -> dict[str, TaskService]:
    jobs = GlueJobs(daybook_home() / "logs" / run_id, locks.descriptors, heartbeat or (lambda: None))
    return {START_JOB_RUN: jobs, GET_OBJECT: get_object}


def _list_journals(settings: Settings, run_id: str) -> list[Path]:
    """Return the journals of a run's executions, oldest first."""
    first = journal_path(settings, run_id)
    resumed = sorted(first.parent.glob(f"{run_id}-resumed-*.jsonl"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    return [path for path in [first, *resumed] if path.exists()]
