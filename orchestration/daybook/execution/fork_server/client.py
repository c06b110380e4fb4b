"""Start the fork server, request jobs from it and wait for them. The packages of jobs are not imported here."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from daybook.errors import DaybookError
from daybook.execution.fork_server.protocol import MAX_FILES, send_message
from daybook.settings import daybook_home

_log = logging.getLogger(__name__)
_KILLED_EXIT_CODE = -9
_MAX_INHERITED = MAX_FILES - 3
"""Maximum number of a job's own descriptors in a request, which also has its text, the socket for replies and the output."""
_MAX_REPLY_BYTES = 65_536
SINGLE_THREAD_ENV = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # PyArrow's jemalloc
    "_RJEM_MALLOC_CONF": "background_thread:false",  # deltalake's
}
"""Variables that prevent packages from starting threads at import. A fork would wait for the locks of lost threads."""
_END_SECONDS = 10
"""Seconds in which a fork server that closed its sockets writes its error and ends."""


class ForkServerError(DaybookError):
    """Report that the fork server starts no job."""


class ForkServerEnded(ForkServerError):
    """Report that the fork server did not start or has ended."""


def can_fork() -> bool:
    """Return whether jobs can be forked: only on Linux, because other systems do not support it safely."""
    return sys.platform == "linux"


class ForkedJob:
    """A process that the fork server has forked."""

    def __init__(self, reply_socket: socket.socket) -> None:
        self._reply_socket = reply_socket
        self._code: Optional[int] = None
        try:
            reply = self._receive_reply(None) or {}
            if "pid" not in reply:
                if "refused" in reply:
                    raise ForkServerError(f"the fork server starts no job ({reply['refused']}).")
                raise ForkServerEnded("the fork server has ended.")
        except BaseException:
            # The server kills a job whose pid it cannot report.
            reply_socket.close()
            raise
        self.pid: int = reply["pid"]

    def wait(self, timeout: float) -> Optional[int]:
        """Return the exit code (negative: a signal's number), or None if it is running after ``timeout`` seconds."""
        if self._code is None:
            reply = self._receive_reply(timeout)
            if reply is not None:
                self._code = reply["code"]
                self._reply_socket.close()
        return self._code

    def _receive_reply(self, timeout: Optional[float]) -> Optional[dict[str, Any]]:
        self._reply_socket.settimeout(timeout)
        try:
            data = self._reply_socket.recv(_MAX_REPLY_BYTES)
        except (socket.timeout, BlockingIOError):
            return None
        except ConnectionResetError:
            data = b""
        # Without a reply, the server has ended, and its jobs with it.
        reply: dict[str, Any] = json.loads(data) if data else {"code": _KILLED_EXIT_CODE}
        return reply


class SubprocessJob:
    """A process with a new interpreter, with the interface of ``ForkedJob``."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: str, output: BinaryIO, inherited: Sequence[int]
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            pass_fds=tuple(inherited),
            # In a new session, so that Ctrl-C reaches only the runner.
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait(self, timeout: float) -> Optional[int]:
        """Wait like ``ForkedJob.wait``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None


class ForkServer:
    """The fork server of this process. It starts on demand and ends with this process. Thread-safe.

    Its output goes to the file ``log``.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._control: Optional[socket.socket] = None
        self._served = False
        self._disabled = False
        self._logged: set[str] = set()

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        output: BinaryIO,
        inherited: Sequence[int] = (),
    ) -> Union[ForkedJob, SubprocessJob]:
        """Start a job, forked if possible, otherwise with a new interpreter (a warning is logged).

        Parameters
        ----------
        command : sequence of str
            A Python script and its arguments.
        env : mapping of str to str
            The environment of the job.
        cwd : str
            The working folder.
        output : file
            Receives stdout and stderr.
        inherited : sequence of int
            Descriptors that the job keeps open.
        """
        if can_fork():
            # A run over more dates has too many locks for a message.
            if not self._disabled and len(inherited) <= _MAX_INHERITED:
                try:
                    return self._fork({"command": list(command), "env": dict(env), "cwd": cwd}, [output.fileno(), *inherited])
                except ForkServerError as error:
                    self._warn_once(f"Jobs start without fork: {error}")
        else:
            self._warn_once(f"Jobs start without fork: {sys.platform} does not support it safely.")
        return SubprocessJob(command, env=env, cwd=cwd, output=output, inherited=inherited)

    def _fork(self, request: dict[str, Any], descriptors: Sequence[int]) -> ForkedJob:
        with self._lock:
            control, process = self._ensure_started()
            # Each packet is one reply.
            here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
            with there:
                try:
                    send_message(control, request, [there.fileno(), *descriptors])
                except OSError:
                    pass  # The server has ended; reading its reply reports that.
                except BaseException:
                    here.close()
                    raise
        try:
            job = ForkedJob(here)
        except ForkServerError as error:
            # A server that never started a job would fail again. One that did was killed, and can be started again.
            self._disabled = not self._served
            if isinstance(error, ForkServerEnded):
                # Its sockets close before Python writes the error to the log.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)
            raise ForkServerError(f"{error} ({self._last_log_line()})") from None
        self._served = True
        return job

    def start(self) -> None:
        """Start the server without waiting for it. The first request for a job reports errors."""
        if can_fork() and not self._disabled:
            with self._lock, contextlib.suppress(OSError):
                self._ensure_started()

    def _warn_once(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.warning(what)

    def close(self) -> None:
        """End the server and all its jobs."""
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                self._process.wait()
            self._control = self._process = None

    def _ensure_started(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        if self._process is not None and self._process.poll() is not None:
            self._control = self._process = None
        if self._control is None or self._process is None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            here, there = socket.socketpair()
            with there, self._log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "daybook.execution.fork_server.server", str(there.fileno())],
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # debugpy warns of frozen modules when it is imported.
                    env={
                        **os.environ,
                        **SINGLE_THREAD_ENV,
                        "PYTHONPATH": _python_path(),
                        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                    },
                    start_new_session=True,
                )
            self._control = here
        return self._control, self._process

    def _last_log_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it logged nothing"


@functools.cache
def get_fork_server() -> ForkServer:
    """Return the fork server of this process."""
    return ForkServer(daybook_home() / "logs" / "host.log")


def _python_path() -> str:
    """Return a PYTHONPATH with which a new interpreter finds this package."""
    here = str(Path(__file__).resolve().parents[3])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
