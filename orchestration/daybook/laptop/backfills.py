"""Many business dates on this machine: the services behind ``backfill.asl.json`` and ``catch_up.asl.json``, and running those.

Here: starting one state machine from another, and a backfill from its plan to its closing record. Not here: one date (``runs``),
plans and records (``daybook.backfills``), what is shown meanwhile (``daybook.progress``).
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional

from daybook.archive import Archive, Record, now
from daybook.backfills import Plan, close_backfill, start_backfill, write_backfill_history
from daybook.errors import AlreadyThereError, DateHeldError, DaybookError
from daybook.laptop.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.laptop.runs import Listener, archive_folder, journal_folder, run_day
from daybook.locks import DateLock
from daybook.params import Settings, daybook_home, project_root
from daybook.stages import run_date_of
from daybook.states import Clock, Execution, Heartbeat, StateMachine, TaskError, TaskService, run_execution

START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"
DayListener = Callable[[str, Any], None]
"""Is told the name of a run of the backfill, and each of its events."""


def run_backfill(
    settings: Settings,
    plan: Plan,
    *,
    parallel: int,
    fail_fast: bool = False,
    listener: Optional[Listener] = None,
    day_listener: Optional[DayListener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> Record:
    """Execute the backfill machine over a plan's dates, ``parallel`` at a time; returns the closing record.

    An interrupt stops the dates under way (their runs are closed and can go on) and closes the backfill as ``stopped``.
    """
    archive = Archive(settings.archive)
    backfill_id = start_backfill(
        archive, plan, {"env": settings.env, "title": settings.title, "parallel": parallel, "fail_fast": fail_fast}
    )
    started = {
        "env": settings.env,
        "overrides": settings.overrides,
        "archive": {"bucket": archive_folder(settings), "prefix": ""},
        "daily": "daily",
        "backfill_id": backfill_id,
        "dates": [day.to_record() for day in plan.days],
        "max_concurrency": parallel,
        "first_stage": plan.first_stage,
        "fail_fast": fail_fast,
    }
    machines = _Machines(settings, day_listener, clock, random)
    execution = machines.execute("backfill", backfill_id, started, listener)
    return _close(archive, backfill_id, execution)


def run_catch_up(
    settings: Settings,
    *,
    limit: int,
    parallel: int,
    since: Optional[str] = None,
    until: Optional[str] = None,
    include_stale: bool = False,
    listener: Optional[Listener] = None,
    day_listener: Optional[DayListener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> tuple[Execution, Optional[Record]]:
    """Execute the catch-up machine: find the gaps, backfill them. Returns its end and the backfill's record, if there was one."""
    archive = Archive(settings.archive)
    name = f"catch-up-{now()[:19].replace(':', '')}"
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
    machines = _Machines(settings, day_listener, clock, random)
    execution = machines.execute("catch_up", name, started, listener)
    backfill_id = json.loads(archive.store.read(f"outcomes/{name}/gaps.json")).get("backfill_id") if machines.asked else None
    return execution, _close(archive, backfill_id, machines.ended.get("backfill")) if backfill_id else None


class _Machines:
    """The state machines of this project, each of which can start another: Step Functions' own service, done locally."""

    def __init__(
        self, settings: Settings, day_listener: Optional[DayListener], clock: Optional[Clock], random: Optional[Random]
    ) -> None:
        self._settings = settings
        self._day_listener = day_listener
        self._clock = clock
        self._random = random or Random()  # noqa: S311 (waits, not secrets)
        self.ended: dict[str, Execution] = {}

    @property
    def asked(self) -> bool:
        """Whether the gaps have been asked for."""
        return "backfill" in self.ended

    def execute(self, machine: str, name: str, started: dict[str, Any], listener: Optional[Listener]) -> Execution:
        """Run one of the machines that run others, under a journal of its own."""
        execution = run_execution(
            StateMachine.load(machine_path(machine)),
            name=name,
            input=started,
            services=self._services(name, listener),
            journal=journal_folder(self._settings) / f"{name}.jsonl",
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
            began = now()
            started = arguments["Input"]
            if arguments["StateMachineArn"] == "daily":
                execution = self._run_date(arguments["Name"], started, heartbeat)
            else:
                execution = self.execute(arguments["StateMachineArn"], arguments["Name"], started, listener)
            # Whoever started this execution may be stopping, and this one with it.
            heartbeat()
            if execution.status == "ABORTED":
                raise KeyboardInterrupt
            return _described(arguments, execution, began)

        return {**services, START_EXECUTION: start}

    def _run_date(self, run_id: str, started: dict[str, Any], heartbeat: Heartbeat) -> Execution:
        def interrupt() -> None:
            try:
                heartbeat()
            except Exception as stopping:
                raise KeyboardInterrupt from stopping

        def tell(event: Any) -> None:
            if self._day_listener is not None:
                self._day_listener(run_id, event)

        settings = self._settings
        try:
            with DateLock(settings.archive, run_date_of(run_id)) as lock:
                facts = {"env": settings.env, "title": settings.title, "part_of": started["part_of"]}
                Archive(settings.archive).start_named_run(run_id, facts)
                execution, _ = run_day(
                    settings,
                    run_id,
                    first_stage=started["first_stage"],
                    part_of=started["part_of"],
                    lock=lock,
                    heartbeat=interrupt,
                    listener=tell,
                    clock=self._clock,
                    random=self._random,
                )
        except DateHeldError as error:
            raise TaskError("Daybook.DateHeld", str(error)) from error
        except AlreadyThereError as error:
            raise TaskError("StepFunctions.ExecutionAlreadyExistsException", str(error)) from error
        except DaybookError as error:
            # One date's trouble is not the others'.
            raise TaskError("Daybook.NotStarted", str(error)) from error
        return execution


def machine_path(name: str) -> Path:
    """The file of a state machine: daily, backfill, catch_up."""
    return project_root() / "orchestration" / f"{name}.asl.json"


def _described(arguments: Any, execution: Execution, began: str) -> dict[str, Any]:
    """An execution as DescribeExecution tells of it; one that did not succeed fails the task with it as the cause."""
    told = {
        "ExecutionArn": f"arn:aws:states:local:000000000000:execution:{arguments['StateMachineArn']}:{arguments['Name']}",
        "Name": arguments["Name"],
        "Input": arguments["Input"],
        "StartDate": began,
        "StopDate": now(),
        "StateMachineArn": arguments["StateMachineArn"],
        "Status": execution.status,
    }
    if execution.status == "SUCCEEDED":
        return {**told, "Output": execution.output}
    raise TaskError("States.TaskFailed", json.dumps({**told, "Error": execution.error, "Cause": execution.cause}))


def _close(archive: Archive, backfill_id: str, execution: Optional[Execution]) -> Record:
    """The backfill's closing record, written here where its last state did not come to it; and its history."""
    if execution is not None:
        lines = [json.dumps(event, ensure_ascii=False) + "\n" for event in execution.events]
        write_backfill_history(archive, backfill_id, "".join(lines).encode())
    stopped = execution is None or execution.status == "ABORTED"
    return close_backfill(archive, backfill_id, **({"stopped": True} if stopped else {}))
