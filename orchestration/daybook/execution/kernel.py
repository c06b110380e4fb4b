"""What surrounds a kernel while a notebook is executed: a home of its own, how it is talked to, and where it prints to."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
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
"""Bytes of a job's output that are kept."""
_MAX_SOCKET_PATH_BYTES = 100
"""Bytes of a socket's path that every system takes (Linux 107, macOS 103)."""
_SOCKETS_LINK = "sockets"
_POLL_SECONDS = 0.005
_SOCKETS_TIMEOUT_SECONDS = 60.0
"""How long a kernel's sockets are looked for; after that the client asks for it all the same, and says what is wrong."""


class KernelClient(AsyncKernelClient):
    """A client that knows when its kernel is ready, where Jupyter's own lets a fixed time pass without a message."""

    def connect_iopub(self, identity: Optional[bytes] = None) -> zmq.Socket[Any]:
        """Connect to the kernel's outputs with an unlimited queue: beyond its limit, by default 1,000, outputs are lost."""
        self.context.setsockopt(zmq.RCVHWM, 0)  # The default of sockets that it makes from now on.
        return super().connect_iopub(identity)

    async def wait_for_ready(self, timeout: Optional[float] = None) -> None:
        """Return once the kernel answers and what it says to all is heard too; ``RuntimeError`` after ``timeout`` seconds,
        or when it is dead."""
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            asked = self.kernel_info()
            if await self._has_replied(asked):
                return
            if not await self._async_is_alive():
                raise DeadKernelError("the kernel died before it was ready.")
            if time.monotonic() > until:
                raise RuntimeError(f"the kernel was not ready after {timeout} seconds.")

    async def _has_replied(self, asked: str) -> bool:
        """Whether the answer came, and the word that the kernel idles after it: nothing said before that is left to read."""
        try:
            reply = await self.shell_channel.get_msg(timeout=1)
            while reply["parent_header"].get("msg_id") != asked:
                reply = await self.shell_channel.get_msg(timeout=1)
            self._handle_kernel_info_reply(reply)
            while True:
                # What was said before this end was connected is lost, then nothing comes: ask again.
                said = await self.iopub_channel.get_msg(timeout=0.2)
                idle = said["msg_type"] == "status" and said["content"]["execution_state"] == "idle"
                if idle and said["parent_header"].get("msg_id") == asked:
                    return True
        except Empty:
            return False


class KernelManager(AsyncKernelManager):
    """A manager that sees a kernel's start and end when they come, rather than at the next tenth of a second."""

    client_class = "daybook.execution.kernel.KernelClient"
    client_factory = Type(klass=KernelClient)
    exit_status: ClassVar[Optional[int]] = None
    """Exit code of a kernel that ended by itself, or the negative number of a signal. papermill makes its manager itself, so
    the status is left on the class, of which each kernel has its own (``kernel_options``)."""

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        """Start the kernel; returns when its sockets are there, since a client that is too early tries again only later."""
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
    """What papermill and nbclient are to start a kernel with: sockets nobody else can take or listen to, and no history.

    Sockets are files in a folder of this user's; ports, which Jupyter chooses and lets go before the kernel takes them, would
    be taken by another kernel now and then. Their paths must be short, so they lie in the system's folder for temporary files
    where ``scratch`` is too deep; ``remove_scratch`` removes them too, should this process not get to it.
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
    """Remove an attempt's scratch folder, and what a kernel of it left elsewhere."""
    _remove_sockets(scratch)
    shutil.rmtree(scratch, ignore_errors=True)


def _make_sockets(scratch: Path) -> Optional[Path]:
    """A new folder for sockets, which nobody else may enter; None where there is no place whose path is short enough."""
    for parent in (scratch, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 (made safely, with a name of its own)
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
def isolate_kernel_home(scratch: Path) -> Iterator[None]:
    """Give kernels a home under ``scratch``: a person's start-up files have no part in a run, and HOME may be read-only."""
    # Folders, and the zip file that a bundle's job imports from.
    packages = [entry for entry in sys.path if entry and Path(entry).exists()]
    wanted = {
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        # The kernel must import what this process imports, also where that was only put on sys.path.
        "PYTHONPATH": os.pathsep.join(packages),
        # debugpy warns of frozen modules on a kernel's stderr; nobody debugs here.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    previous = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
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
    """Send what this process and those it starts print to a file.

    By their descriptors, since a kernel inherits these, and what aborts it (a failing library in C) prints past Python.
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
            # The file's disk is full. What could not be written must not come out later, where nobody has searched it.
            _discard_buffers()
        for number, before in kept.items():
            os.dup2(before, number)
            os.close(before)


def _discard_buffers() -> None:
    """Empty the buffers of what this process prints into nothing."""
    with Path(os.devnull).open("wb") as nothing:
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
    sys.stdout.flush()
    sys.stderr.flush()


def read_printed_output(file: Path) -> str:
    """What was printed to a file, head and tail where it is too much to keep."""
    return shorten(file.read_text(encoding="utf-8", errors="replace"), _MAX_PRINTED_BYTES) if file.exists() else ""
