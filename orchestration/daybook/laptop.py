"""What Step Functions calls on AWS, done on this machine: Glue's jobs as processes, S3's objects as files.

Here: the two task services of ``daily.asl.json``, and a run from start to closing record. Not here: the interpreter
(``daybook.states``), what the job script does (``daybook.execution``), showing progress (``daybook.cli``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional

import psutil

from daybook.archive import Archive, Record, describe_failure, now
from daybook.errors import UsageError
from daybook.execution import close_abandoned, close_run
from daybook.params import Settings, daybook_home, project_root
from daybook.provenance import state_machine_path
from daybook.stages import STAGES, run_date_of
from daybook.states import (
    Clock,
    Execution,
    Heartbeat,
    StateMachine,
    TaskError,
    TaskTimeout,
    read_events,
    resume_execution,
    run_execution,
)

START_JOB_RUN = "arn:aws:states:::glue:startJobRun.sync"
GET_OBJECT = "arn:aws:states:::aws-sdk:s3:getObject"
_POLL_SECONDS = 0.05
_HEARTBEAT_SECONDS = 1.0
_ROOM_FOR_WORDS = 4096
"""Free bytes without which a log can hold nothing."""

Listener = Callable[[Mapping[str, Any]], None]


class GlueJobs:
    """Starts the job script in a process of its own, with the arguments that Glue would give it, and waits for it."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def __call__(
        self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat
    ) -> dict[str, Any]:
        """A JobRun as Glue describes it; a failed one raises ``States.TaskFailed`` with the JobRun as its cause."""
        run: dict[str, Any] = {
            "Id": f"jr_{uuid.uuid4().hex}",
            "JobName": arguments["JobName"],
            "Arguments": arguments["Arguments"],
            "StartedOn": now(),
            "JobRunState": "RUNNING",
        }
        given = {"--JOB_NAME": arguments["JobName"], **arguments["Arguments"]}
        command = [sys.executable, str(project_root() / "orchestration" / "glue_job.py")]
        command += [text for pair in given.items() for text in pair]
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{run['Id']}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(_scratch())},
                # A session of its own: an interrupt at the keyboard is the runner's to pass on.
                start_new_session=True,
            )
            family: dict[int, psutil.Process] = {}
            try:
                code = _wait(process, family, timeout_seconds, heartbeat)
            finally:
                _end(process, family)
        run["CompletedOn"] = now()
        run["ExecutionTime"] = round(time.monotonic() - began)
        if code is None:
            run["JobRunState"] = "TIMEOUT"
            raise TaskTimeout(json.dumps(run))
        if code:
            run["JobRunState"] = "FAILED"
            run["ErrorMessage"] = _last_words(log, code)
            raise TaskError("States.TaskFailed", json.dumps(run))
        run["JobRunState"] = "SUCCEEDED"
        return run


def get_object(resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> dict[str, Any]:
    """S3's GetObject where the bucket is a folder."""
    path = Path(arguments["Bucket"]) / arguments["Key"]
    try:
        return {"Body": path.read_text(encoding="utf-8")}
    except FileNotFoundError:
        raise TaskError("S3.NoSuchKeyException", f"{path} does not exist") from None


def run_day(
    settings: Settings,
    run_id: str,
    *,
    first_stage: str = STAGES[0],
    listener: Optional[Listener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> tuple[Execution, Record]:
    """Execute the state machine for a run whose name has been taken, from ``first_stage`` on; returns its end and the run's
    record."""
    run_date = run_date_of(run_id)
    machine = StateMachine.load(state_machine_path())
    closings = Archive(settings.archive).closings(run_id)
    execution = run_execution(
        machine,
        name=run_id,
        input={
            "env": settings.env,
            "run_date": run_date.isoformat(),
            "overrides": settings.overrides,
            "archive": {"bucket": _archive_folder(settings), "prefix": ""},
            "first_stage": first_stage,
        },
        services=_services(run_id),
        journal=_journal(settings, run_id),
        listener=listener,
        clock=clock,
        random=random or Random(),  # noqa: S311 (waits, not secrets)
    )
    return execution, _close(settings, run_id, execution, closings)


def resume_day(
    settings: Settings,
    run_id: str,
    *,
    listener: Optional[Listener] = None,
    clock: Optional[Clock] = None,
    random: Optional[Random] = None,
) -> tuple[Execution, Record]:
    """Go on with a run that was cut off, from the stage that did not end.

    A run that has ended, FAILED too, is not resumed: it has told people and has its record. Its date is run again.
    """
    record = Archive(settings.archive).run(run_id)
    if record["state"] == "closed":
        again = f"daybook run --env {settings.env} --date {record['run_date']}"
        raise UsageError(f"The run {run_id} has ended as {record['outcome']}; run its date again with `{again}`.")
    if not _journal(settings, run_id).exists() or not read_events(_journal(settings, run_id)):
        again = f"daybook run --env {settings.env} --date {record['run_date']}"
        raise UsageError(f"The run {run_id} was cut off before its first stage; start its date again with `{again}`.")
    closings = Archive(settings.archive).closings(run_id)
    execution = resume_execution(
        StateMachine.load(state_machine_path()),
        journal=_journal(settings, run_id),
        services=_services(run_id),
        listener=listener,
        clock=clock,
        random=random or Random(),  # noqa: S311 (waits, not secrets)
    )
    return execution, _close(settings, run_id, execution, closings)


def _close(settings: Settings, run_id: str, execution: Execution, closings: int) -> Record:
    """Put the execution's history into the archive, and the run's record where the notify stage could not write it.

    ``closings`` is how many records the run had when this execution began or went on: the notify stage of this very execution
    has closed the run if there is one more, whatever a clock says. A run that was interrupted stays open, so that it can be
    resumed.
    """
    archive = Archive(settings.archive)
    if execution.status == "ABORTED":
        # What the stopped job left on scratch has not been searched for personal data: it does not stay.
        close_abandoned(archive, settings, run_id)
        return archive.run(run_id)
    archive.write_history(run_id, _journal(settings, run_id).read_bytes())
    record = archive.run(run_id)
    if archive.closings(run_id) > closings:
        return record
    close_abandoned(archive, settings, run_id)
    failed = [each for each in archive.attempts(run_id) if each["outcome"] == "FAILED"]
    reason = describe_failure(failed[-1]) if failed else f"the run ended as {execution.status}: {execution.error}"
    close_run(archive, settings, run_id, "FAILED", [reason])
    return archive.run(run_id)


def _services(run_id: str) -> dict[str, Any]:
    return {START_JOB_RUN: GlueJobs(daybook_home() / "logs" / run_id), GET_OBJECT: get_object}


def _journal(settings: Settings, run_id: str) -> Path:
    return daybook_home() / "executions" / settings.env / f"{run_id}.jsonl"


def _scratch() -> Path:
    scratch = daybook_home() / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _archive_folder(settings: Settings) -> str:
    if "://" in settings.archive:
        raise UsageError(
            f"params/{settings.env}.yaml: archive is {settings.archive}; the local runner needs a folder there. "
            "Give --set archive=FOLDER, or start the run on AWS."
        )
    return settings.archive


def _wait(
    process: subprocess.Popen[bytes],
    family: dict[int, psutil.Process],
    timeout_seconds: Optional[float],
    heartbeat: Heartbeat,
) -> Optional[int]:
    """The process's exit code, or None once its time is over; ``family`` collects the processes it has started."""
    began = beaten = time.monotonic()
    while True:
        try:
            return process.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            passed = time.monotonic()
        if timeout_seconds is not None and passed - began > timeout_seconds:
            return None
        if passed - beaten > _HEARTBEAT_SECONDS:
            _collect(process, family)
            heartbeat()
            beaten = passed


def _collect(process: subprocess.Popen[bytes], family: dict[int, psutil.Process]) -> None:
    try:
        family.update({member.pid: member for member in psutil.Process(process.pid).children(recursive=True)})
    except psutil.NoSuchProcess:
        return


def _end(process: subprocess.Popen[bytes], family: dict[int, psutil.Process]) -> None:
    """Leave no process of the job behind: a kernel that outlived it could still write to tables."""
    _collect(process, family)
    for member in family.values():
        try:
            # psutil compares start times, so a pid that has been given to another process is left alone.
            member.kill()
        except psutil.NoSuchProcess:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_words(log: Path, code: int) -> str:
    """The last line a failed job wrote, or which signal ended it."""
    if code < 0:
        return f"The job's process was ended by signal {-code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not lines and shutil.disk_usage(log.parent).free < _ROOM_FOR_WORDS:
        return f"The job ended with exit code {code} and no room to say why: the disk of {log.parent} is full; free some space."
    return lines[-1] if lines else f"The job ended with exit code {code}"
