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
from daybook.execution.local.runs import INTERRUPTED_REASON, Listener, archive_folder, close_failed_run, journal_folder, run_day
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, Record, current_timestamp, first_line
from daybook.records.fingerprint import state_machine_path
from daybook.records.locks import DateLock
from daybook.records.names import run_date_of
from daybook.scheduling.backfills import BackfillPlan, close_backfill, record_refusal, start_backfill, write_backfill_history
from daybook.settings import Settings, daybook_home

_log = logging.getLogger(__name__)

START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"
RunListener = Callable[[str, Any], None]
"""Is told the name of a run of the backfill, and each of its events."""


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
) -> Record:
    """Execute the backfill machine over a plan's dates, ``parallel`` at a time; returns the closing record.

    An interrupt stops the dates under way (their runs are closed and can go on) and closes the backfill as ``stopped``; so
    does a fault of the runner itself, which is raised then. One that it continues and that was lost is closed first. Raises
    ``UsageError`` where that one is still at work.
    """
    folder, archive = archive_folder(settings), Archive(settings.archive)
    if plan.continues:
        if is_running(settings, plan.continues):
            raise UsageError(
                f"{plan.continues} is doing just that; wait until it ends, or stop it, then give the command again."
            )
        _close_backfill(settings, plan.continues, None)
    backfill_id = start_backfill(
        archive, plan, {"env": settings.env, "title": settings.title, "parallel": parallel, "fail_fast": fail_fast}
    )
    started = {
        "env": settings.env,
        "overrides": settings.overrides,
        "archive": {"bucket": folder, "prefix": ""},
        "daily": "daily",
        "backfill_id": backfill_id,
        "dates": [day.to_record() for day in plan.days],
        "max_concurrency": parallel,
        "first_stage": plan.first_stage,
        "fail_fast": fail_fast,
    }
    machines = _LocalStateMachines(settings, day_listener, clock, random)
    try:
        machines.execute("backfill", backfill_id, started, listener)
    except KeyboardInterrupt:
        pass  # It came where there was no state to end by it.
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
) -> tuple[str, Optional[Record]]:
    """Execute the catch-up machine: find the gaps, backfill them.

    Returns what went wrong with the catch-up itself, or an empty text; and the backfill's closing record, where it had one.
    """
    name = f"catch-up-{''.join(each for each in current_timestamp() if each.isalnum())}"
    started = {
        "env": settings.env,
        "overrides": settings.overrides,
        "archive": {"bucket": archive_folder(settings), "prefix": ""},
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
        machines.execute("catch_up", name, started, listener)
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
    """Whether a process on this machine is at work on a backfill."""
    return is_executing(_journal_path(settings, backfill_id))


class _LocalStateMachines:
    """The state machines of this project, each of which can start another: Step Functions' own service, done locally."""

    def __init__(
        self, settings: Settings, day_listener: Optional[RunListener], clock: Optional[Clock], random: Optional[Random]
    ) -> None:
        self._settings = settings
        self._day_listener = day_listener
        self._clock = clock
        self._random = random or Random()  # noqa: S311 (waits, not secrets)
        self.ended: dict[str, Execution] = {}
        """The machines that have run others and came to an end, by their name."""

    def execute(self, machine: str, name: str, started: dict[str, Any], listener: Optional[Listener]) -> Execution:
        """Run one of the machines that run others, under a journal of its own."""
        with interpreter_errors():
            execution = run_execution(
                StateMachine.load(state_machine_path(machine)),
                name=name,
                input=started,
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
            began = current_timestamp()
            started = arguments["Input"]
            if arguments["StateMachineArn"] == "daily":
                execution = self._run_date(arguments["Name"], started, heartbeat)
            else:
                execution = self.execute(arguments["StateMachineArn"], arguments["Name"], started, listener)
            # Whoever started this execution may be stopping, and this one with it.
            heartbeat()
            if execution.status == "ABORTED":
                raise KeyboardInterrupt
            return _describe_execution(arguments, execution, began)

        return {**services, START_EXECUTION: start}

    def _run_date(self, planned: str, started: dict[str, Any], heartbeat: Heartbeat) -> Execution:
        """Run a date under its lock. It gets the planned name or, where somebody has run the date meanwhile, the next one.

        One date's trouble is not the others': whatever it is, it fails this task alone, and is on record.
        """
        settings, archive, run_date = self._settings, Archive(self._settings.archive), run_date_of(planned)
        part_of, run_id = started["part_of"], ""

        def interrupt() -> None:
            try:
                heartbeat()
            except Exception as stopping:
                raise KeyboardInterrupt from stopping

        def tell(event: Any) -> None:
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
                        first_stage=started["first_stage"],
                        part_of=part_of,
                        lock=lock,
                        heartbeat=interrupt,
                        listener=tell,
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
                _log.exception("%s: a fault in Daybook itself, or of this machine", run_id or planned)
            if not run_id:
                record_refusal(archive, part_of, run_date, Redactor().text(_format_error(error)))
            raise TaskError(
                "Daybook.DateHeld" if isinstance(error, DateLockedError) else "Daybook.Fault", _format_error(error)
            ) from error
        return execution


def _journal_path(settings: Settings, name: str) -> Path:
    return journal_folder(settings) / f"{name}.jsonl"


def _describe_execution(arguments: Any, execution: Execution, began: str) -> dict[str, Any]:
    """An execution as DescribeExecution tells of it; one that did not succeed fails the task with it as the cause."""
    told = {
        "ExecutionArn": f"arn:aws:states:local:000000000000:execution:{arguments['StateMachineArn']}:{arguments['Name']}",
        "Name": arguments["Name"],
        "Input": arguments["Input"],
        "StartDate": began,
        "StopDate": current_timestamp(),
        "StateMachineArn": arguments["StateMachineArn"],
        "Status": execution.status,
    }
    if execution.status == "SUCCEEDED":
        return {**told, "Output": execution.output}
    raise TaskError("States.TaskFailed", json.dumps({**told, "Error": execution.error, "Cause": execution.cause}))


def _format_error(error: Exception) -> str:
    """What an error says: Daybook's own are sentences, of others the class says most."""
    return first_line(str(error)) if isinstance(error, DaybookError) else f"{type(error).__name__}: {first_line(str(error))}"


def _close_planned_backfill(settings: Settings, name: str, machines: _LocalStateMachines) -> Optional[Record]:
    """The closing record of the backfill that a catch-up planned; None where it did not come to that."""
    try:
        planned = json.loads(Archive(settings.archive).store.read(f"outcomes/{name}/gaps.json"))
    except FileNotFoundError:
        return None
    return _close_backfill(settings, planned["backfill_id"], machines.ended.get("backfill")) if planned["dates"] else None


def _close_backfill(settings: Settings, backfill_id: str, execution: Optional[Execution]) -> Record:
    """The backfill's closing record, written here where its last state did not come to it; and its history.

    ``execution`` is None where it had no end of its own. An interrupt does not keep it from being closed.
    """
    archive = Archive(settings.archive)
    journal = _journal_path(settings, backfill_id)

    def close() -> Record:
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
