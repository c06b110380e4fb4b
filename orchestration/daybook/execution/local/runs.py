"""Run one business date on this machine, or resume its run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional

from asl_local import (
    Clock,
    Execution,
    Heartbeat,
    StateMachine,
    SystemClock,
    TaskService,
    get_event_details,
    read_events,
    resume_execution,
    run_execution,
)
from daybook.errors import DateLockedError, UsageError
from daybook.execution.close import close_ended_run, find_resume_point, require_resumable_run
from daybook.execution.local.interpreter import interpreter_errors
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.records.archive import LOST_REASON, Archive
from daybook.records.fingerprint import state_machine_path
from daybook.records.locks import DateLock
from daybook.records.models import RunRecord
from daybook.records.names import STAGES, run_date_of
from daybook.settings import Settings, daybook_home

Listener = Callable[[Mapping[str, Any]], None]
INTERRUPTED_REASON = "stopped before it ended, by an interrupt (Ctrl-C, a closed terminal, or a backfill that was stopped)"


def run_day(
    settings: Settings,
    run_id: str,
    *,
    first_stage: str = STAGES[0],
    part_of: Optional[str] = None,
    lock: Optional[DateLock] = None,
    heartbeat: Optional[Heartbeat] = None,
    listener: Optional[Listener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
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
    lock : DateLock, optional
        The lock of the date if the caller holds it; otherwise it is acquired here.
    heartbeat : callable, optional
        Called about once a second. If it raises, the run ends as interrupted.
    listener : callable, optional
        Called with each event.
    clock, random : optional
        The clock and the random source of the state machine.
    """
    with _hold_lock(settings, run_id, lock) as held:
        held.write_holder(run_id)
        _close_lost_runs(settings, run_date_of(run_id), current=run_id)
        data = {
            **build_input(settings),
            "run_date": run_date_of(run_id).isoformat(),
            "first_stage": first_stage,
            **({"part_of": part_of} if part_of else {}),
        }
        return _execute(settings, run_id, run_id, data, held, heartbeat, listener, clock, random)


def resume_day(
    settings: Settings,
    run_id: str,
    *,
    listener: Optional[Listener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> tuple[Execution, RunRecord]:
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
    run_date = run_date_of(run_id)
    found = archive.run(run_id)
    if found.state == "running":
        raise DateLockedError(f"{found.reasons[0]} Wait until it ends or stop it, then resume it.")
    with DateLock(settings.archive, run_date) as held:
        held.write_holder(run_id)
        records = require_resumable_run(settings, run_id)
        journal = _list_journals(settings, run_id)[-1:]
        with interpreter_errors():
            events = read_events(journal[0]) if journal else []
        if events and events[-1]["type"] not in ("ExecutionSucceeded", "ExecutionFailed"):
            with interpreter_errors():
                execution = resume_execution(
                    StateMachine.load(state_machine_path()),
                    journal=journal[0],
                    services=_services(run_id, held, None),
                    listener=listener,
                    clock=clock,
                    random=random or Random(),  # noqa: S311 (waits, not secrets)
                )
            return execution, _close_execution(settings, run_id, execution, journal[0], len(records))
        common = build_input(settings)
        data = _read_input(events) or {**common, "run_date": run_date.isoformat()}
        rest = find_resume_point(archive, run_id, data.get("first_stage"))
        data = {**data, "archive": common["archive"], **rest, "run_id": run_id}
        name = f"{run_id}-resumed-{max(len(_list_journals(settings, run_id)), 1)}"
        return _execute(settings, run_id, name, data, held, None, listener, clock, random)


def _execute(
    settings: Settings,
    run_id: str,
    name: str,
    data: dict[str, Any],
    lock: DateLock,
    heartbeat: Optional[Heartbeat],
    listener: Optional[Listener],
    clock: Optional[Clock],
    random: Optional[Random],
) -> tuple[Execution, RunRecord]:
    journal = journal_folder(settings) / f"{name}.jsonl"
    before = Archive(settings.archive).count_closing_records(run_id)
    with interpreter_errors():
        execution = run_execution(
            StateMachine.load(state_machine_path()),
            name=name,
            input=data,
            services=_services(run_id, lock, heartbeat),
            journal=journal,
            listener=listener,
            clock=_InterruptibleClock(clock or SystemClock(), heartbeat) if heartbeat else clock,
            random=random or Random(),  # noqa: S311 (waits, not secrets)
        )
    return execution, _close_execution(settings, run_id, execution, journal, before)


def _close_execution(settings: Settings, run_id: str, execution: Execution, journal: Path, before: int) -> RunRecord:
    """Close the run of an execution. ``before`` is its number of closing records before the execution."""
    return close_ended_run(
        settings,
        run_id,
        before=before,
        status=execution.status,
        error=execution.error,
        stopped=INTERRUPTED_REASON,
        history=journal.read_bytes(),
    )


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


def _read_input(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the input of an execution; empty if it has no event."""
    return dict(json.loads(get_event_details(events[0])["input"])) if events else {}


@contextmanager
def _hold_lock(settings: Settings, run_id: str, lock: Optional[DateLock]) -> Iterator[DateLock]:
    with nullcontext(lock) if lock is not None else DateLock(archive_folder(settings), run_date_of(run_id)) as held:
        yield held


def _services(run_id: str, lock: DateLock, heartbeat: Optional[Heartbeat]) -> dict[str, TaskService]:
    services: dict[str, TaskService] = {
        START_JOB_RUN: GlueJobs(daybook_home() / "logs" / run_id, [lock.descriptor]),
        GET_OBJECT: get_object,
    }
    if heartbeat is None:
        return services
    return {resource: _with_heartbeat(service, heartbeat) for resource, service in services.items()}


def _with_heartbeat(service: TaskService, outer: Heartbeat) -> TaskService:
    """Return the service with ``outer`` as an additional heartbeat."""

    def call(resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
        def both() -> None:
            outer()
            heartbeat()

        return service(resource, arguments, timeout_seconds=timeout_seconds, heartbeat=both)

    return call


class _InterruptibleClock:
    """A clock that calls a heartbeat every second while it sleeps."""

    def __init__(self, clock: Clock, heartbeat: Heartbeat) -> None:
        self._clock = clock
        self._heartbeat = heartbeat
        self.now = clock.now
        self.monotonic = clock.monotonic

    def sleep(self, seconds: float) -> None:
        while seconds > 0:
            self._heartbeat()
            self._clock.sleep(min(seconds, 1.0))
            seconds -= 1.0
        self._heartbeat()


def _list_journals(settings: Settings, run_id: str) -> list[Path]:
    """Return the journals of a run's executions, oldest first."""
    folder = journal_folder(settings)
    resumed = sorted(folder.glob(f"{run_id}-resumed-*.jsonl"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    return [path for path in [folder / f"{run_id}.jsonl", *resumed] if path.exists()]


def journal_folder(settings: Settings) -> Path:
    """Return the folder of the journals of a deployment's executions."""
    return daybook_home() / "executions" / settings.env


def build_input(settings: Settings) -> dict[str, Any]:
    """Return the fields that the inputs of all state machines have in common."""
    archive = {"bucket": archive_folder(settings), "prefix": ""}
    return {"env": settings.env, "overrides": settings.overrides, "archive": archive}


def archive_folder(settings: Settings) -> str:
    """Return the archive's folder; raise ``UsageError`` if the archive is not a folder."""
    if "://" in settings.archive:
        raise UsageError(
            f"params/{settings.env}.yaml: archive is {settings.archive}, and runs on this machine need a folder; give --set "
            "archive=FOLDER, or set runs_on: aws."
        )
    return settings.archive
