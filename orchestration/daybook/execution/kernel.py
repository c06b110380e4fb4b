"""Provide the environment of a kernel: private home, sockets, client and redirected output."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, ClassVar, Optional

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from traitlets import Type
from traitlets.config import Config

from daybook.execution.outputs import shorten

_MAX_PRINTED_BYTES = 1_000_000
"""Maximum size of a job's printed output, in bytes."""
_MAX_SOCKET_PATH_BYTES = 100
"""Maximum length of a socket's path on every system (Linux 107, macOS 103), in bytes."""
_SOCKETS_LINK = "sockets"
_POLL_SECONDS = 0.005
_SOCKETS_TIMEOUT_SECONDS = 60.0
"""Seconds to wait for a kernel's sockets. After that the client tries to connect and reports the error."""


class KernelClient(AsyncKernelClient):
    """A client that detects when its kernel is ready. Jupyter's own waits for a fixed time without messages."""

    def connect_iopub(self, identity: Optional[bytes] = None) -> zmq.Socket[Any]:
        """Connect to the kernel's outputs with an unlimited queue. The default of 1,000 messages would lose outputs."""
        self.context.setsockopt(zmq.RCVHWM, 0)  # for new sockets of the context
        return super().connect_iopub(identity)

    async def wait_for_ready(self, timeout: Optional[float] = None) -> None:
        """Return when the kernel replies and its iopub messages arrive; raise ``RuntimeError`` if it dies or after ``timeout``
        seconds."""
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            request = self.kernel_info()
            if await self._has_replied(request):
                return
            if not await self._async_is_alive():
                raise DeadKernelError("the kernel died before it was ready.")
            if time.monotonic() > until:
                raise RuntimeError(f"the kernel was not ready after {timeout} seconds.")

    async def _has_replied(self, request: str) -> bool:
        """Return whether the reply and the following idle status arrived. All earlier messages have been read then."""
        try:
            reply = await self.shell_channel.get_msg(timeout=1)
            while reply["parent_header"].get("msg_id") != request:
                reply = await self.shell_channel.get_msg(timeout=1)
            self._handle_kernel_info_reply(reply)
            while True:
                # Messages from before the connection are lost. After a timeout, the caller sends a new request.
                message = await self.iopub_channel.get_msg(timeout=0.2)
                idle = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
                if idle and message["parent_header"].get("msg_id") == request:
                    return True
        except Empty:
            return False


class KernelManager(AsyncKernelManager):
    """A manager that polls a kernel's start and end every 5 ms instead of every 100 ms."""

    client_class = "daybook.execution.kernel.KernelClient"
    client_factory = Type(klass=KernelClient)
    exit_status: ClassVar[Optional[int]] = None
    """Exit code of a kernel that ended by itself, or the negative number of a signal.

    papermill creates the manager, so the status is on the class. ``kernel_options`` makes a class for each kernel.
    """

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        """Start the kernel and wait for its sockets, because a client that connects too early retries only later."""
        await super().start_kernel(**options)
        if self.transport != "ipc":
            return
        sockets = [Path(f"{self.ip}-{port}") for port in self.ports]
        until = time.monotonic() + _SOCKETS_TIMEOUT_SECONDS
        while not all(each.exists() for each in sockets) and time.monotonic() < until and await self._async_is_alive():
            await asyncio.sleep(_POLL_SECONDS)

    async def _async_is_alive(self) -> bool:
        alive = await super()._async_is_alive()
        if not alive and self.provisioner is not None:
            type(self).exit_status = await self.provisioner.poll()
        return alive

    async def _async_wait(self, pollinterval: float = _POLL_SECONDS) -> None:
        while await self._async_is_alive():
            await asyncio.sleep(min(pollinterval, _POLL_SECONDS))


@contextmanager
def kernel_options(scratch: Path) -> Iterator[dict[str, Any]]:
    """Give the options with which papermill and nbclient start a kernel: private sockets and no history.

    The sockets are files in a private folder. TCP ports could be taken by another kernel, since Jupyter releases them before
    the kernel binds them. Paths of sockets must be short, so the folder is in the system's temporary folder if the path of
    ``scratch`` is too long. ``remove_scratch`` removes it if this process is killed.
    """
    options: dict[str, Any] = {
        "kernel_manager_class": type("KernelManager", (KernelManager,), {}),
        "extra_arguments": ["--HistoryManager.enabled=False"],
    }
    sockets = _make_sockets(scratch)
    if sockets is not None:
        options["config"] = Config({"KernelManager": {"transport": "ipc", "ip": str(sockets / "k")}})
    try:
        yield options
    finally:
        _remove_sockets(scratch)


def remove_scratch(scratch: Path) -> None:
    """Remove an attempt's scratch folder and its folder for sockets."""
    _remove_sockets(scratch)
    shutil.rmtree(scratch, ignore_errors=True)


def _make_sockets(scratch: Path) -> Optional[Path]:
    """Create a private folder for sockets; return None if no path is short enough."""
    for parent in (scratch, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 (mkdtemp is safe)
        if len(os.fsencode(parent)) + len("/daybook-xxxxxxxx/k-5") > _MAX_SOCKET_PATH_BYTES or not parent.is_dir():
            continue
        try:
            sockets = Path(tempfile.mkdtemp(prefix="daybook-", dir=parent))
        except OSError:
            continue
        (scratch / _SOCKETS_LINK).symlink_to(sockets)
        return sockets
    return None


def _remove_sockets(scratch: Path) -> None:
    link = scratch / _SOCKETS_LINK
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()


@contextmanager
def isolate_kernel_home(scratch: Path, variables: Optional[Mapping[str, str]] = None) -> Iterator[None]:
    """Give kernels a home under ``scratch``, because HOME may be read-only and a user's start-up files must not run."""
    packages = [entry for entry in sys.path if entry and Path(entry).exists()]  # folders and zip files
    overrides = {
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        # The kernel must find all packages of this process, including those of changed sys.path.
        "PYTHONPATH": os.pathsep.join(packages),
        # Suppresses debugpy's warning about frozen modules on stderr.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **(variables or {}),
    }
    previous = {name: os.environ.get(name) for name in overrides}
    os.environ.update(overrides)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def redirect_output(file: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a file.

    The descriptors are redirected, because a kernel inherits them and C libraries print without Python's streams.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    with file.open("ab") as printed:
        for number in kept:
            os.dup2(printed.fileno(), number)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            # The disk is full. Buffered text must not be printed later, since it was not searched for personal data.
            _discard_buffers()
        for number, before in kept.items():
            os.dup2(before, number)
            os.close(before)


def _discard_buffers() -> None:
    """Discard the buffered output of this process."""
    with Path(os.devnull).open("wb") as nothing:
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
    sys.stdout.flush()
    sys.stderr.flush()


def read_printed_output(file: Path) -> str:
    """Return the printed text in a file, shortened to head and tail if it is too long."""
    return shorten(file.read_text(encoding="utf-8", errors="replace"), _MAX_PRINTED_BYTES) if file.exists() else ""
