"""Run business dates on this machine, one or a contiguous range, or resume their run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any, Callable, Optional

from asl_local import Execution, Heartbeat, TaskError, TaskService, get_event_details, read_events
from daybook.errors import DateLockedError, DaybookError
from daybook.execution.close import close_ended_run, find_resume_input, require_resumable_run
from daybook.execution.local.interpreter import (
    Listener,
    archive_folder,
    build_input,
    execute,
    interpreter_errors,
    journal_path,
    start_execution,
)
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.records.archive import LOST_REASON, Archive
from daybook.records.failures import first_line
from daybook.records.locks import DateLocks
from daybook.records.models import RunRecord
from daybook.records.names import STAGES, format_dates_input, list_dates, list_range, range_of
from daybook.settings import Settings, daybook_home

START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"
INTERRUPTED_REASON = "stopped before it ended, by an interrupt (Ctrl-C, a closed terminal, or a backfill that was stopped)"

HalfListener = Callable[[str, Mapping[str, Any]], None]
"""Called with the run id of a half and each of its events."""


def run_dates(
    settings: Settings,
    run_id: str,
    *,
    first_stage: str = STAGES[0],
    part_of: Optional[str] = None,
    splits: int = 0,
    locks: Optional[DateLocks] = None,
    heartbeat: Optional[Heartbeat] = None,
    listener: Optional[Listener] = None,
    half_listener: Optional[HalfListener] = None,
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
    splits : int
        How often a range was halved before to get this one.
    locks : DateLocks, optional
        The locks of the dates if the caller holds them; otherwise they are acquired here.
    heartbeat : callable, optional
        Called about once a second. If it raises, the run ends as interrupted.
    listener : callable, optional
        Called with each event.
    half_listener : callable, optional
        Called with each event of the halves of a range that failed.
    """
    first, last = range_of(run_id)
    with nullcontext(locks) if locks is not None else DateLocks(archive_folder(settings), list_dates(first, last)) as held:
        held.write_holder(run_id)
        _close_lost_runs(settings, list_dates(first, last), current=run_id)
        data = {**build_input(settings), **format_dates_input(first, last), "first_stage": first_stage}
        data.update({"part_of": part_of} if part_of else {})
        data.update({"splits": splits} if splits else {})
        services = _services(settings, run_id, held, heartbeat, half_listener)
        return _execute(settings, run_id, run_id, data, services, listener, heartbeat)


def run_planned(
    settings: Settings,
    data: Mapping[str, Any],
    locks: DateLocks,
    *,
    heartbeat: Heartbeat,
    half_listener: Optional[HalfListener],
    started: Callable[[str], None] = lambda _: None,
) -> Execution:
    """Run the dates in the input of an execution that a state machine starts, with the next free id.

    The run is closed whatever happens.

    Parameters
    ----------
    settings, data, locks
        The deployment, the input, and the locks of the dates.
    heartbeat
        The heartbeat of the task. If it raises, the run ends as interrupted.
    half_listener
        Called with the run id and each event of the run and of its halves.
    started
        Called with the run id when it is taken.
    """
    part_of = data.get("part_of", "none")
    facts = {"env": settings.env, "title": settings.title, **({"part_of": part_of} if part_of != "none" else {})}
    first, last = date.fromisoformat(data["run_date"]), date.fromisoformat(data["until"])
    run_id = Archive(settings.archive).start_next(first, last, facts)
    started(run_id)

    def interrupt() -> None:
        try:
            heartbeat()
        except Exception as stopping:
            raise KeyboardInterrupt from stopping

    try:
        return run_dates(
            settings,
            run_id,
            first_stage=data["first_stage"],
            part_of=facts.get("part_of"),
            splits=data.get("splits", 0),
            locks=locks,
            heartbeat=interrupt,
            listener=None if half_listener is None else lambda event: half_listener(run_id, event),
            half_listener=half_listener,
        )[0]
    except (KeyboardInterrupt, Exception) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        close_failed_run(settings, run_id, INTERRUPTED_REASON if interrupted else format_error(error))
        raise


def resume_dates(
    settings: Settings,
    run_id: str,
    *,
    listener: Optional[Listener] = None,
    half_listener: Optional[HalfListener] = None,
) -> tuple[Execution, RunRecord]:
    """Resume a failed or interrupted run with the same input, from the stage that did not succeed.

    Successful stages are not run again. An interrupted execution is redriven. A FAILED execution ended in a Fail state, where
    a redrive would fail again, so a new execution of the same run starts at the failed stage.

    Raises
    ------
    UsageError
        The run cannot be resumed.
    DateLockedError
        A date of the run is being run.
    """
    archive = Archive(settings.archive)
    found = archive.run(run_id)
    if found.state == "running":
        raise DateLockedError(f"{found.reasons[0]} Wait until it ends or stop it, then resume it.")
    with DateLocks(archive_folder(settings), list_range(run_id)) as held:
        held.write_holder(run_id)
        require_resumable_run(settings, run_id)
        journals = _list_journals(settings, run_id)
        with interpreter_errors():
            events = read_events(journals[-1]) if journals else []
        services = _services(settings, run_id, held, None, half_listener)
        if events and events[-1]["type"] not in ("ExecutionSucceeded", "ExecutionFailed"):
            return _execute(settings, run_id, journals[-1].stem, None, services, listener)
        before = json.loads(get_event_details(events[0])["input"]) if events else {}
        data = {**build_input(settings), **find_resume_input(archive, run_id, before)}
        return _execute(settings, run_id, f"{run_id}-resumed-{max(len(journals), 1)}", data, services, listener)


def _execute(
    settings: Settings,
    run_id: str,
    name: str,
    data: Optional[dict[str, Any]],
    services: Mapping[str, TaskService],
    listener: Optional[Listener],
    heartbeat: Optional[Heartbeat] = None,
) -> tuple[Execution, RunRecord]:
    """Execute or redrive (without ``data``) an execution of a run, and close the run."""
    before = Archive(settings.archive).count_closing_records(run_id)
    execution = execute(settings, "daily", name, data, services, listener, heartbeat)
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


def format_error(error: BaseException) -> str:
    """Return the first line of an error, with its class unless it is one of Daybook's."""
    return first_line(str(error)) if isinstance(error, DaybookError) else f"{type(error).__name__}: {first_line(str(error))}"


def _close_lost_runs(settings: Settings, dates: Iterable[date], *, current: str) -> None:
    """Close the runs of these dates without a closing record, except ``current``.

    The caller holds the locks, so these runs have ended. A lost range held all its dates, so it has ended, too.
    """
    archive = Archive(settings.archive)
    names = (archive.files_run_id(run_id) for day in dates for run_id in archive.run_ids(day))
    for run_id in dict.fromkeys(names):
        if run_id == current or archive.read_closing_records(run_id):
            continue
        for journal in _list_journals(settings, run_id)[-1:]:
            archive.write_history(run_id, journal.read_bytes())
        from daybook.execution.run_record import close_run

        close_run(archive, settings, run_id, "FAILED", [LOST_REASON])


def _services(
    settings: Settings,
    run_id: str,
    locks: DateLocks,
    heartbeat: Optional[Heartbeat],
    half_listener: Optional[HalfListener],
) -> dict[str, TaskService]:
    def run_half(resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
        """Run a half of a range under the locks of the range. The locks of its dates are released at its end."""

        def execute_half() -> Execution:
            try:
                with locks.split_off(list_range(arguments["Name"])) as part:
                    execution = run_planned(
                        settings, arguments["Input"], part, heartbeat=heartbeat, half_listener=half_listener
                    )
            except Exception as error:
                raise TaskError("Daybook.Fault", format_error(error)) from error
            heartbeat()  # raises if the execution of the range is being stopped
            return execution

        return start_execution(arguments, execute_half)

    jobs = GlueJobs(daybook_home() / "logs" / run_id, locks.descriptors, heartbeat or (lambda: None))
    return {START_JOB_RUN: jobs, GET_OBJECT: get_object, START_EXECUTION: run_half}


def _list_journals(settings: Settings, run_id: str) -> list[Path]:
    """Return the journals of a run's executions, oldest first."""
    first = journal_path(settings, run_id)
    resumed = sorted(first.parent.glob(f"{run_id}-resumed-*.jsonl"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    return [path for path in [first, *resumed] if path.exists()]
