"""A runner's hold on the warm host: starting it, asking it for jobs, waiting for them.

Nothing of what jobs import is imported here.
"""

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
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from daybook.errors import DaybookError
from daybook.execution.fork_server.protocol import send_message
from daybook.settings import daybook_home

_log = logging.getLogger(__name__)
_KILLED_EXIT_CODE = -9
SINGLE_THREAD_ENV = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # PyArrow's jemalloc
    "_RJEM_MALLOC_CONF": "background_thread:false",  # deltalake's
}
"""What keeps packages from starting threads at import: a fork has none but its own, and would wait for the others' locks."""


class ForkServerError(DaybookError):
    """The warm host did not start, or is gone."""


def can_fork() -> bool:
    """Whether jobs can be forked here: on Linux, where a child may go on with what its parent has imported."""
    return sys.platform == "linux"


class ForkedJob:
    """A process that the host has forked. ``pid`` is its process id."""

    def __init__(self, answers: socket.socket) -> None:
        self._reply_socket = answers
        self._buffer = b""
        self._code: Optional[int] = None
        try:
            told = self._hear(None)
        except BaseException:
            # Nobody will wait for it: the host ends a job that it cannot tell of.
            answers.close()
            raise
        if told is None or "pid" not in told:
            answers.close()
            refused = (told or {}).get("refused")
            raise ForkServerError(f"the warm host starts no job ({refused})." if refused else "the warm host ended early.")
        self.pid: int = told["pid"]

    def wait(self, timeout: float) -> Optional[int]:
        """The exit code (negative: the signal that ended it), or None while it is running after ``timeout`` seconds."""
        if self._code is None:
            told = self._hear(timeout)
            if told is not None:
                self._code = told["code"]
                self._reply_socket.close()
        return self._code

    def _hear(self, timeout: Optional[float]) -> Optional[dict[str, Any]]:
        until = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._reply_socket.settimeout(None if until is None else max(until - time.monotonic(), 0))
            try:
                more = self._reply_socket.recv(4096)
            except (socket.timeout, BlockingIOError):
                return None
            except ConnectionResetError:
                more = b""
            if not more:
                # The host is gone, and its jobs with it.
                return {"code": _KILLED_EXIT_CODE}
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told


class SubprocessJob:
    """A process started from nothing, where there is no forking; as ``ForkedJob`` shows one."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: str, output: BinaryIO, keep: Sequence[int]
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            pass_fds=tuple(keep),
            # A session of its own: an interrupt at the keyboard is the runner's to pass on.
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait(self, timeout: float) -> Optional[int]:
        """As ``ForkedJob.wait``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None


class ForkServer:
    """The warm host of this process: begun when it is first wanted, gone when this process is.

    Safe to use from several threads. ``log`` takes what it prints.
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
        keep: Sequence[int] = (),
    ) -> Union[ForkedJob, SubprocessJob]:
        """Start a job that runs ``command``, a Python script and its arguments, prints to ``output`` and keeps
        ``keep`` open: forked, or, where that cannot be (the log says so), as a process from nothing."""
        if can_fork():
            if not self._disabled:
                try:
                    return self._fork({"command": list(command), "env": dict(env), "cwd": cwd}, [output.fileno(), *keep])
                except ForkServerError as error:
                    self._warn_once(f"Jobs start cold: {error}")
        else:
            self._warn_once(f"Jobs start cold: {sys.platform} has no safe fork.")
        return SubprocessJob(command, env=env, cwd=cwd, output=output, keep=keep)

    def _fork(self, request: dict[str, Any], descriptors: Sequence[int]) -> ForkedJob:
        with self._lock:
            control = self._begin()
            here, there = socket.socketpair()
            try:
                send_message(control, request, [there.fileno(), *descriptors])
            except OSError:
                # It is gone, which it says by not answering.
                pass
            except BaseException:
                # Interrupted with half a request said: it would take the next one for the other half.
                control.close()
                self._control = None
                here.close()
                raise
            finally:
                there.close()
        try:
            job = ForkedJob(here)
        except ForkServerError as error:
            # One that has never served would only end again, after as long a wait; one that has was killed.
            self._disabled = not self._served
            raise ForkServerError(f"{error} ({self._last_log_line()})") from None
        self._served = True
        return job

    def begin(self) -> None:
        """Begin it where there is forking, and do not wait: it imports while the caller goes on to its first job."""
        # What is wrong with it is told once a job is asked for.
        if can_fork() and not self._disabled:
            with self._lock, contextlib.suppress(OSError):
                self._begin()

    def _warn_once(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.warning(what)

    def close(self) -> None:
        """End the host and all its jobs."""
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                self._process.wait()
            self._control = self._process = None

    def _begin(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._control = self._process = None
        if self._control is None:
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
        return self._control

    def _last_log_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it left no word"


@functools.cache
def get_fork_server() -> ForkServer:
    """What this command's jobs are forked from."""
    return ForkServer(daybook_home() / "logs" / "host.log")


def _python_path() -> str:
    """Where a new interpreter finds this package, as this one did."""
    here = str(Path(__file__).resolve().parents[3])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
