"""Run backfills and catch-ups on this machine, with the services behind ``backfill.asl.json`` and ``catch_up.asl.json``."""

from __future__ import annotations

import json
import logging
from typing import Any, Optional

from asl_local import Execution, Heartbeat, TaskError, TaskService, is_executing
from daybook.errors import DateLockedError, DaybookError
from daybook.execution.backfills import (
    build_catch_up_input,
    close_ended_backfill,
    find_planned_backfill,
    record_backfill,
    require_stopped,
)
from daybook.execution.local.interpreter import build_input, execute, journal_path
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.execution.local.runs import INTERRUPTED_REASON, close_failed_run, run_day
from daybook.execution.runner import BackfillListener
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, current_timestamp
from daybook.records.failures import first_line
from daybook.records.locks import DateLocks
from daybook.records.models import BackfillRecord
from daybook.records.names import run_date_of
from daybook.scheduling.backfills import BackfillPlan, record_refusal, write_backfill_history
from daybook.settings import Settings, daybook_home

_log = logging.getLogger(__name__)

START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"


def run_backfill(
    settings: Settings, plan: BackfillPlan, listener: BackfillListener, *, parallel: int, fail_fast: bool = False
) -> BackfillRecord:
    """Execute the backfill machine over a plan's dates, ``parallel`` at a time, and return the closing record.

    An interrupt or an exception of the runner stops the running dates and closes the backfill as ``stopped``. The runs of
    these dates are closed and can be resumed. A lost backfill that the plan continues is closed first.

    Raises
    ------
    UsageError
        The backfill that the plan continues is still running.
    """
    machines = _LocalStateMachines(settings, listener)
    common = build_input(settings)
    if plan.continues:
        require_stopped(plan.continues, running=is_running(settings, plan.continues))
        machines.close_backfill(plan.continues)
    backfill_id, data = record_backfill(settings, plan, parallel=parallel, fail_fast=fail_fast)
    try:
        machines.execute("backfill", backfill_id, {**common, **data, "daily": "daily"})
    except KeyboardInterrupt:
        pass  # the interrupt came outside the state machine
    finally:
        record = machines.close_backfill(backfill_id)
    return record


def run_catch_up(settings: Settings, listener: BackfillListener, **options: Any) -> tuple[str, Optional[BackfillRecord]]:
    """Execute the catch-up machine: find the gaps and backfill them. The options are those of ``build_catch_up_input``.

    Returns
    -------
    tuple of str and BackfillRecord, optional
        The error of the catch-up itself (or an empty string), and the backfill's closing record if there was a backfill.
    """
    name = f"catch-up-{''.join(each for each in current_timestamp() if each.isalnum())}"
    data = {**build_input(settings), **build_catch_up_input(**options), "daily": "daily", "backfill": "backfill"}
    machines = _LocalStateMachines(settings, listener)
    try:
        machines.execute("catch_up", name, data)
    except KeyboardInterrupt:
        pass
    finally:
        planned = find_planned_backfill(settings, name)
        record = machines.close_backfill(planned) if planned else None
    execution = machines.ended.get("catch_up")
    if record is not None or (execution is not None and execution.status == "SUCCEEDED"):
        return "", record
    return first_line(execution.cause or execution.status) if execution is not None else INTERRUPTED_REASON, None


def is_running(settings: Settings, backfill_id: str) -> bool:
    """Return whether a process on this machine is running a backfill."""
    return is_executing(journal_path(settings, backfill_id))


class _LocalStateMachines:
    """Execute state machines that start other state machines, like the service integration of Step Functions."""

    def __init__(self, settings: Settings, listener: BackfillListener) -> None:
        self._settings = settings
        self._listener = listener
        self.ended: dict[str, Execution] = {}
        """The ended executions by machine name."""

    def execute(self, machine: str, name: str, data: dict[str, Any]) -> Execution:
        """Run the backfill or catch-up machine with its own journal."""
        jobs = GlueJobs(daybook_home() / "logs" / name)
        services: dict[str, TaskService] = {START_JOB_RUN: jobs, GET_OBJECT: get_object, START_EXECUTION: self._start}
        execution = execute(self._settings, machine, name, data, services, self._listener)
        self.ended[machine] = execution
        return execution

    def close_backfill(self, backfill_id: str) -> BackfillRecord:
        """Archive a backfill's history and close it; an interrupt does not prevent that."""
        archive, journal = Archive(self._settings.archive), journal_path(self._settings, backfill_id)

        def close() -> BackfillRecord:
            if journal.exists():
                write_backfill_history(archive, backfill_id, journal.read_bytes())
            return close_ended_backfill(archive, backfill_id, self.ended.get("backfill"))

        try:
            return close()
        except KeyboardInterrupt:
            return close()

    def _start(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
        """Run an execution and describe it like DescribeExecution; one that did not succeed is the cause of an error."""
        machine, name, data = arguments["StateMachineArn"], arguments["Name"], arguments["Input"]
        started_at = current_timestamp()
        execution = self._run_date(name, data, heartbeat) if machine == "daily" else self.execute(machine, name, data)
        heartbeat()  # raises if the parent execution is being stopped
        if execution.status == "ABORTED":
            raise KeyboardInterrupt
        description = {
            "ExecutionArn": f"arn:aws:states:local:000000000000:execution:{machine}:{name}",
            "Name": name,
            "Input": data,
            "StartDate": started_at,
            "StopDate": current_timestamp(),
            "StateMachineArn": machine,
            "Status": execution.status,
        }
        if execution.status == "SUCCEEDED":
            return {**description, "Output": execution.output}
        raise TaskError("States.TaskFailed", json.dumps({**description, "Error": execution.error, "Cause": execution.cause}))

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

        try:
            with DateLocks(settings.archive, [run_date]) as locks:
                facts = {"env": settings.env, "title": settings.title, "part_of": part_of}
                run_id = archive.start_run(run_date, facts)
                try:
                    return run_day(
                        settings,
                        run_id,
                        first_stage=data["first_stage"],
                        part_of=part_of,
                        locks=locks,
                        heartbeat=interrupt,
                        listener=lambda event: self._listener.on_run_event(run_id, event),
                    )[0]
                except (KeyboardInterrupt, Exception) as error:
                    interrupted = isinstance(error, KeyboardInterrupt)
                    close_failed_run(settings, run_id, INTERRUPTED_REASON if interrupted else _format_error(error))
                    raise
        except Exception as error:
            if not isinstance(error, DaybookError):
                _log.exception("%s: unexpected error in Daybook or on this machine", run_id or planned)
            if not run_id:
                record_refusal(archive, part_of, run_date, Redactor().redact_text(_format_error(error)))
            kind = "Daybook.DateHeld" if isinstance(error, DateLockedError) else "Daybook.Fault"
            raise TaskError(kind, _format_error(error)) from error


def _format_error(error: BaseException) -> str:
    """Return the first line of an error, with its class unless it is one of Daybook's."""
    return first_line(str(error)) if isinstance(error, DaybookError) else f"{type(error).__name__}: {first_line(str(error))}"
