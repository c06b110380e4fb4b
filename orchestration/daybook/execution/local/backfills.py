"""Run backfills and catch-ups on this machine, with the services behind ``backfill.asl.json`` and ``catch_up.asl.json``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional

from asl_local import Clock, Execution, Heartbeat, StateMachine, TaskError, TaskService, is_executing, run_execution
from daybook.errors import DateLockedError, DaybookError, UsageError
from daybook.execution.local.interpreter import interpreter_errors
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.execution.local.runs import (
    INTERRUPTED_REASON,
    Listener,
    archive_folder,
    build_input,
    close_failed_run,
    journal_folder,
    run_day,
)
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, current_timestamp, first_line
from daybook.records.fingerprint import state_machine_path
from daybook.records.locks import DateLock
from daybook.records.models import BackfillRecord, CatchUpPlan
from daybook.records.names import run_date_of
from daybook.scheduling.backfills import BackfillPlan, close_backfill, record_refusal, start_backfill, write_backfill_history
from daybook.settings import Settings, daybook_home

_log = logging.getLogger(__name__)

START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"
RunListener = Callable[[str, Any], None]
"""Called with the name of a run of the backfill and each of its events."""


def run_backfill(
    settings: Settings,
    plan: BackfillPlan,
    *,
    parallel: int,
    fail_fast: bool = False,
    listener: Optional[Listener] = None,
    day_listener: Optional[RunListener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> BackfillRecord:
    """Execute the backfill machine over a plan's dates, ``parallel`` at a time, and return the closing record.

    An interrupt or an exception of the runner stops the running dates and closes the backfill as ``stopped``. The runs of
    these dates are closed and can be resumed. A lost backfill that the plan continues is closed first.

    Raises
    ------
    UsageError
        The backfill that the plan continues is still running.
    """
    archive = Archive(archive_folder(settings))
    if plan.continues:
        if is_running(settings, plan.continues):
            raise UsageError(f"{plan.continues} is already running these dates; wait until it ends or stop it, then try again.")
        _close_backfill(settings, plan.continues, None)
    backfill_id = start_backfill(
        archive, plan, {"env": settings.env, "title": settings.title, "parallel": parallel, "fail_fast": fail_fast}
    )
    data = {
        **build_input(settings),
        "daily": "daily",
        "backfill_id": backfill_id,
        "dates": [day.to_json() for day in plan.days],
        "max_concurrency": parallel,
        "first_stage": plan.first_stage,
        "fail_fast": fail_fast,
    }
    machines = _LocalStateMachines(settings, day_listener, clock, random)
    try:
        machines.execute("backfill", backfill_id, data, listener)
    except KeyboardInterrupt:
        pass  # the interrupt came outside the state machine
    except Exception:
        _close_backfill(settings, backfill_id, None)
        raise
    return _close_backfill(settings, backfill_id, machines.ended.get("backfill"))


def run_catch_up(
    settings: Settings,
    *,
    limit: int,
    parallel: int,
    since: Optional[str] = None,
    until: Optional[str] = None,
    include_stale: bool = False,
    listener: Optional[Listener] = None,
    day_listener: Optional[RunListener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> tuple[str, Optional[BackfillRecord]]:
    """Execute the catch-up machine: find the gaps and backfill them.

    Returns
    -------
    tuple of str and BackfillRecord, optional
        The error of the catch-up itself (or an empty string), and the backfill's closing record if there was a backfill.
    """
    name = f"catch-up-{''.join(each for each in current_timestamp() if each.isalnum())}"
    data = {
        **build_input(settings),
        "daily": "daily",
        "backfill": "backfill",
        "limit": limit,
        "max_concurrency": parallel,
        "include_stale": include_stale,
        **({"since": since} if since else {}),
        **({"until": until} if until else {}),
    }
    machines = _LocalStateMachines(settings, day_listener, clock, random)
    try:
        machines.execute("catch_up", name, data, listener)
    except KeyboardInterrupt:
        pass
    except Exception:
        _close_planned_backfill(settings, name, machines)
        raise
    record = _close_planned_backfill(settings, name, machines)
    execution = machines.ended.get("catch_up")
    if record is not None or (execution is not None and execution.status == "SUCCEEDED"):
        return "", record
    return first_line(execution.cause or execution.status) if execution is not None else INTERRUPTED_REASON, None


def is_running(settings: Settings, backfill_id: str) -> bool:
    """Return whether a process on this machine is running a backfill."""
    return is_executing(_journal_path(settings, backfill_id))


class _LocalStateMachines:
    """Execute state machines that start other state machines, like the service integration of Step Functions."""

    def __init__(
        self, settings: Settings, day_listener: Optional[RunListener], clock: Optional[Clock], random: Optional[Random]
    ) -> None:
        self._settings = settings
        self._day_listener = day_listener
        self._clock = clock
        self._random = random or Random()  # noqa: S311 (waits, not secrets)
        self.ended: dict[str, Execution] = {}
        """The ended executions by machine name."""

    def execute(self, machine: str, name: str, data: dict[str, Any], listener: Optional[Listener]) -> Execution:
        """Run the backfill or catch-up machine with its own journal."""
        with interpreter_errors():
            execution = run_execution(
                StateMachine.load(state_machine_path(machine)),
                name=name,
                input=data,
                services=self._services(name, listener),
                journal=_journal_path(self._settings, name),
                listener=listener,
                clock=self._clock,
                random=self._random,
            )
        self.ended[machine] = execution
        return execution

    def _services(self, name: str, listener: Optional[Listener]) -> dict[str, TaskService]:
        services: dict[str, TaskService] = {
            START_JOB_RUN: GlueJobs(daybook_home() / "logs" / name),
            GET_OBJECT: get_object,
        }

        def start(resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
            started_at = current_timestamp()
            if arguments["StateMachineArn"] == "daily":
                execution = self._run_date(arguments["Name"], arguments["Input"], heartbeat)
            else:
                execution = self.execute(arguments["StateMachineArn"], arguments["Name"], arguments["Input"], listener)
            heartbeat()  # raises if the parent execution is being stopped
            if execution.status == "ABORTED":
                raise KeyboardInterrupt
            return _describe_execution(arguments, execution, started_at)

        return {**services, START_EXECUTION: start}

    def _run_date(self, planned: str, data: dict[str, Any], heartbeat: Heartbeat) -> Execution:
        """Run a date under its lock, with the planned name or the next free one.

        Any exception fails only this task and is recorded, so that it does not affect other dates.
        """
        settings, archive, run_date = self._settings, Archive(self._settings.archive), run_date_of(planned)
        part_of, run_id = data["part_of"], ""

        def interrupt() -> None:
            try:
                heartbeat()
            except Exception as stopping:
                raise KeyboardInterrupt from stopping

        def on_event(event: Any) -> None:
            if self._day_listener is not None:
                self._day_listener(run_id, event)

        try:
            with DateLock(settings.archive, run_date) as lock:
                facts = {"env": settings.env, "title": settings.title, "part_of": part_of}
                run_id = archive.start_run(run_date, facts)
                try:
                    execution, _ = run_day(
                        settings,
                        run_id,
                        first_stage=data["first_stage"],
                        part_of=part_of,
                        lock=lock,
                        heartbeat=interrupt,
                        listener=on_event,
                        clock=self._clock,
                        random=self._random,
                    )
                except KeyboardInterrupt:
                    close_failed_run(settings, run_id, INTERRUPTED_REASON)
                    raise
                except Exception as error:
                    close_failed_run(settings, run_id, _format_error(error))
                    raise
        except Exception as error:
            if not isinstance(error, DaybookError):
                _log.exception("%s: unexpected error in Daybook or on this machine", run_id or planned)
            if not run_id:
                record_refusal(archive, part_of, run_date, Redactor().redact_text(_format_error(error)))
            raise TaskError(
                "Daybook.DateHeld" if isinstance(error, DateLockedError) else "Daybook.Fault", _format_error(error)
            ) from error
        return execution


def _journal_path(settings: Settings, name: str) -> Path:
    return journal_folder(settings) / f"{name}.jsonl"


def _describe_execution(arguments: Any, execution: Execution, started_at: str) -> dict[str, Any]:
    """Return an execution in the form of DescribeExecution; one that did not succeed is the cause of a ``TaskError``."""
    description = {
        "ExecutionArn": f"arn:aws:states:local:000000000000:execution:{arguments['StateMachineArn']}:{arguments['Name']}",
        "Name": arguments["Name"],
        "Input": arguments["Input"],
        "StartDate": started_at,
        "StopDate": current_timestamp(),
        "StateMachineArn": arguments["StateMachineArn"],
        "Status": execution.status,
    }
    if execution.status == "SUCCEEDED":
        return {**description, "Output": execution.output}
    raise TaskError("States.TaskFailed", json.dumps({**description, "Error": execution.error, "Cause": execution.cause}))


def _format_error(error: Exception) -> str:
    """Return the first line of an error, with its class unless it is one of Daybook's."""
    return first_line(str(error)) if isinstance(error, DaybookError) else f"{type(error).__name__}: {first_line(str(error))}"


def _close_planned_backfill(settings: Settings, name: str, machines: _LocalStateMachines) -> Optional[BackfillRecord]:
    """Close the backfill that a catch-up planned and return its record; None if it planned none."""
    try:
        planned = Archive(settings.archive).read(CatchUpPlan, f"outcomes/{name}/gaps.json")
    except FileNotFoundError:
        return None
    return _close_backfill(settings, planned.backfill_id, machines.ended.get("backfill")) if planned.backfill_id else None


def _close_backfill(settings: Settings, backfill_id: str, execution: Optional[Execution]) -> BackfillRecord:
    """Store a backfill's history and close it unless its summary job did; return its closing record.

    ``execution`` is None if the execution did not end by itself. An interrupt does not prevent the closing.
    """
    archive = Archive(settings.archive)
    journal = _journal_path(settings, backfill_id)

    def close() -> BackfillRecord:
        if journal.exists():
            write_backfill_history(archive, backfill_id, journal.read_bytes())
        if execution is None or execution.status == "ABORTED":
            return close_backfill(archive, backfill_id, stopped=True)
        cause = first_line(execution.cause or "")
        return close_backfill(archive, backfill_id, reasons=[f"there is no summary: {execution.error}: {cause}"])

    try:
        return close()
    except KeyboardInterrupt:
        return close()
