"""What Step Functions calls on AWS, done on this machine: Glue's jobs as processes, S3's objects as files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import psutil

from asl_local import Heartbeat, TaskError, TaskTimeout
from daybook.execution.fork_server import ForkedJob, SubprocessJob, get_fork_server
from daybook.records.archive import current_timestamp
from daybook.settings import daybook_home, project_root

Process = Union[SubprocessJob, ForkedJob]
START_JOB_RUN = "arn:aws:states:::glue:startJobRun.sync"
GET_OBJECT = "arn:aws:states:::aws-sdk:s3:getObject"
_POLL_SECONDS = 0.05
_HEARTBEAT_SECONDS = 1.0
_MIN_FREE_BYTES = 4096
"""Free bytes without which a log can hold nothing."""


class GlueJobs:
    """Starts the job script in a process of its own, with the arguments that Glue would give it, and waits for it.

    ``keep`` are open files that the job is to hold open while it works.
    """

    def __init__(self, logs: Path, keep: Sequence[int] = ()) -> None:
        self.logs = logs
        self.keep = keep

    def __call__(
        self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat
    ) -> dict[str, Any]:
        """A JobRun as Glue describes it; a failed one raises ``States.TaskFailed`` with the JobRun as its cause."""
        run: dict[str, Any] = {
            "Id": f"jr_{uuid.uuid4().hex}",
            "JobName": arguments["JobName"],
            "Arguments": arguments["Arguments"],
            "StartedOn": current_timestamp(),
            "JobRunState": "RUNNING",
        }
        # CloudFormation fills in ${...} where a deployment has a bundle and a topic; here there is neither.
        own = {name: text for name, text in arguments["Arguments"].items() if not text.startswith("${")}
        given = {"--JOB_NAME": arguments["JobName"], **own}
        command = [str(project_root() / "orchestration" / "glue_job.py")]
        command += [text for pair in given.items() for text in pair]
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{run['Id']}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            process = get_fork_server().run(
                command,
                env={**os.environ, "TMPDIR": str(_scratch_folder())},
                cwd=str(Path.cwd()),
                output=output,
                # Of the date's lock: whatever becomes of this process, it is held while the job works.
                keep=self.keep,
            )
            family: dict[int, psutil.Process] = {}
            try:
                code = _wait_for_process(process, family, timeout_seconds, heartbeat)
            finally:
                _kill_process_tree(process, family)
        run["CompletedOn"] = current_timestamp()
        run["ExecutionTime"] = round(time.monotonic() - began)
        if code is None:
            run["JobRunState"] = "TIMEOUT"
            raise TaskTimeout(json.dumps(run))
        if code:
            run["JobRunState"] = "FAILED"
            run["ErrorMessage"] = _describe_job_failure(log, code)
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


def _scratch_folder() -> Path:
    scratch = daybook_home() / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _wait_for_process(
    process: Process,
    family: dict[int, psutil.Process],
    timeout_seconds: Optional[float],
    heartbeat: Heartbeat,
) -> Optional[int]:
    """The process's exit code, or None once its time is over; ``family`` collects the processes it has started."""
    began = beaten = time.monotonic()
    while True:
        code = process.wait(timeout=_POLL_SECONDS)
        if code is not None:
            return code
        passed = time.monotonic()
        if timeout_seconds is not None and passed - began > timeout_seconds:
            return None
        if passed - beaten > _HEARTBEAT_SECONDS:
            _collect_children(process, family)
            heartbeat()
            beaten = passed


def _collect_children(process: Process, family: dict[int, psutil.Process]) -> None:
    try:
        family.update({member.pid: member for member in psutil.Process(process.pid).children(recursive=True)})
    except psutil.NoSuchProcess:
        return


def _kill_process_tree(process: Process, family: dict[int, psutil.Process]) -> None:
    """Leave no process of the job behind: a kernel that outlived it could still write to tables."""
    _collect_children(process, family)
    for member in family.values():
        try:
            # psutil compares start times, so a pid that has been given to another process is left alone.
            member.kill()
        except psutil.NoSuchProcess:
            continue
    while process.wait(timeout=_POLL_SECONDS) is None:
        # Its end is told a moment after it: nobody else has been given its pid by then.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _describe_job_failure(log: Path, code: int) -> str:
    """The last line a failed job wrote, or which signal ended it."""
    if code < 0:
        return f"The job's process was ended by signal {-code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not lines and shutil.disk_usage(log.parent).free < _MIN_FREE_BYTES:
        return f"The job ended with exit code {code} and no room to say why: the disk of {log.parent} is full; free some space."
    return lines[-1] if lines else f"The job ended with exit code {code}"
