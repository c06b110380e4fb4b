"""Run backfills and catch-ups on this machine, with the services behind ``backfill.asl.json`` and ``catch_up.asl.json``."""

from __future__ import annotations

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
from daybook.execution.local.interpreter import build_input, execute, journal_path, start_execution
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.execution.local.runs import INTERRUPTED_REASON, START_EXECUTION, format_error, run_planned
from daybook.execution.runner import BackfillListener
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, current_timestamp
from daybook.records.failures import first_line
from daybook.records.locks import DateLocks
from daybook.records.models import BackfillRecord
from daybook.records.names import list_range
from daybook.scheduling.backfills import BackfillPlan, record_refusal, write_backfill_history
from daybook.settings import Settings, daybook_home

_log = logging.getLogger(__name__)


def run_backfill(
    settings: Settings, plan: BackfillPlan, listener: BackfillListener, *, parallel: int, fail_fast: bool = False
) -> BackfillRecord:
    """Execute the backfill machine over a plan's ranges, ``parallel`` at a time, and return the closing record.

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
        """Run a child execution: a run of dates, or the backfill of a catch-up."""

        def execute_child() -> Execution:
            if machine == "daily":
                execution = self._run_dates(name, arguments["Input"], heartbeat)
            else:
                execution = self.execute(machine, name, arguments["Input"])
            heartbeat()  # raises if the parent execution is being stopped
            return execution

        machine, name = arguments["StateMachineArn"], arguments["Name"]
        return start_execution(arguments, execute_child)

    def _run_dates(self, planned: str, data: dict[str, Any], heartbeat: Heartbeat) -> Execution:
        """Run a date or a range under its locks, with the planned id or the next free one.

        Any exception fails only this task and is recorded, so that it does not affect other runs.
        """
        settings, dates, run_ids = self._settings, list_range(planned), list[str]()
        try:
            with DateLocks(settings.archive, dates) as locks:
                return run_planned(
                    settings,
                    data,
                    locks,
                    heartbeat=heartbeat,
                    half_listener=self._listener.on_run_event,
                    started=run_ids.append,
                )
        except Exception as error:
            if not isinstance(error, DaybookError):
                _log.exception("%s: unexpected error in Daybook or on this machine", (run_ids or [planned])[0])
            if not run_ids:
                reason = Redactor().redact_text(format_error(error))
                for day in dates:
                    record_refusal(Archive(settings.archive), data["part_of"], day, reason)
            kind = "Daybook.DateHeld" if isinstance(error, DateLockedError) else "Daybook.Fault"
            raise TaskError(kind, format_error(error)) from error
