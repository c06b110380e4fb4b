"""Run tasks of state machines on this machine: Glue jobs as processes, S3 objects as files."""

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
"""A log file needs this many free bytes."""


class GlueJobs:
    """Run the job script in a process with the arguments of a Glue job and wait for it.

    ``inherited_descriptors`` are open files that the job keeps open. ``outer_heartbeat`` is called like the execution's own.
    """

    def __init__(
        self, logs: Path, inherited_descriptors: Sequence[int] = (), outer_heartbeat: Heartbeat = lambda: None
    ) -> None:
        self.logs = logs
        self.inherited_descriptors = inherited_descriptors
        self.outer_heartbeat = outer_heartbeat

    def __call__(
        self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat
    ) -> dict[str, Any]:
        """Return a JobRun in Glue's form; a failed one is the cause of ``States.TaskFailed``."""
        run: dict[str, Any] = {
            "Id": f"jr_{uuid.uuid4().hex}",
            "JobName": arguments["JobName"],
            "Arguments": arguments["Arguments"],
            "StartedOn": current_timestamp(),
            "JobRunState": "RUNNING",
        }
        # Placeholders ${...} stand for the bundle and the topic of a deployment on AWS, which a local run does not have.
        own = {name: text for name, text in arguments["Arguments"].items() if not text.startswith("${")}
        command = [str(project_root() / "orchestration" / "glue_job.py"), "--JOB_NAME", arguments["JobName"]]
        command += [text for pair in own.items() for text in pair]
        scratch, log = daybook_home() / "scratch", self.logs / f"{run['Id']}.log"
        for folder in (scratch, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with log.open("wb") as output:
            process = get_fork_server().run(
                command,
                env={**os.environ, "TMPDIR": str(scratch)},
                cwd=str(Path.cwd()),
                output=output,
                # The date's lock is held while the job runs, even if this process dies.
                inherited=self.inherited_descriptors,
            )
            descendants: set[psutil.Process] = set()
            try:
                code = self._wait_for_process(process, descendants, timeout_seconds, heartbeat)
            finally:
                _kill_process_tree(process, descendants)
        run["CompletedOn"] = current_timestamp()
        run["ExecutionTime"] = round(time.monotonic() - started)
        run["JobRunState"] = "TIMEOUT" if code is None else "FAILED" if code else "SUCCEEDED"
        if code is None:
            raise TaskTimeout(json.dumps(run))
        if code:
            run["ErrorMessage"] = _describe_job_failure(log, code)
            raise TaskError("States.TaskFailed", json.dumps(run))
        return run

    def _wait_for_process(
        self, process: Process, descendants: set[psutil.Process], timeout_seconds: Optional[float], heartbeat: Heartbeat
    ) -> Optional[int]:
        """Return the exit code, or None after the timeout. ``descendants`` collects the child processes."""
        started = last_heartbeat = time.monotonic()
        while True:
            code = process.wait(timeout=_POLL_SECONDS)
            if code is not None:
                return code
            now = time.monotonic()
            if timeout_seconds is not None and now - started > timeout_seconds:
                return None
            if now - last_heartbeat > _HEARTBEAT_SECONDS:
                _collect_children(process, descendants)
                self.outer_heartbeat()
                heartbeat()
                last_heartbeat = now


def get_object(resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> dict[str, Any]:
    """Read a file as S3's GetObject does. The bucket is a folder."""
    path = Path(arguments["Bucket"]) / arguments["Key"]
    try:
        return {"Body": path.read_text(encoding="utf-8")}
    except FileNotFoundError:
        raise TaskError("S3.NoSuchKeyException", f"{path} does not exist") from None


def _collect_children(process: Process, descendants: set[psutil.Process]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants.update(psutil.Process(process.pid).children(recursive=True))


def _kill_process_tree(process: Process, descendants: set[psutil.Process]) -> None:
    """Kill all processes of the job, because a surviving kernel could still write to tables."""
    _collect_children(process, descendants)
    for member in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            # psutil compares start times, so it does not kill another process with a reused pid.
            member.kill()
    while process.wait(timeout=_POLL_SECONDS) is None:
        # The process may have ended but is not reaped yet, so its pid cannot be reused.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _describe_job_failure(log: Path, code: int) -> str:
    """Return the last line that a failed job wrote, or the signal that ended it."""
    if code < 0:
        return f"The job's process was killed by signal {-code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not lines and shutil.disk_usage(log.parent).free < _MIN_FREE_BYTES:
        return f"The job ended with exit code {code} without a message: the disk of {log.parent} is full; free some space."
    return lines[-1] if lines else f"The job ended with exit code {code}"
