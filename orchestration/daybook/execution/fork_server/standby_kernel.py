"""A process that a job forks before it has threads and that later becomes the job's kernel."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Optional

from daybook.execution.fork_server.process import run_and_exit, set_up_process
from daybook.execution.fork_server.protocol import die_with_parent, receive_message, send_message

PROVISIONER_NAME = "daybook-fork"
"""What Jupyter calls the way to get a kernel from a job (an entry point of the package)."""
PROVISIONER_VARIABLE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
"""The variable by which Jupyter chooses a way."""
_CONTROL_TIMEOUT_SECONDS = 1.0
"""How long a kernel's control thread may take to end; one that was not told to (after ``exit()`` in a cell) never does."""


class StandbyKernel:
    """A child process that waits; it can become one kernel."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection

    def activate(self, request: dict[str, Any], output: int, error: int) -> int:
        """Let it become the kernel of this command, environment and folder; returns its process id."""
        with self._connection:
            send_message(self._connection, request, [output, error])
        return self.pid


_standby_kernel: Optional[StandbyKernel] = None


def is_provisioner_registered() -> bool:
    """Whether Jupyter here knows how to get a kernel from a job."""
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    return PROVISIONER_NAME in KernelProvisionerFactory().get_provisioner_entries()


def fork_standby_kernel() -> None:
    """Fork the process that will be this job's kernel, and have Jupyter ask for it."""
    global _standby_kernel
    os.environ[PROVISIONER_VARIABLE] = PROVISIONER_NAME
    here, there = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        here.close()
        _wait_for_request(there, parent)
    there.close()
    _standby_kernel = StandbyKernel(pid, here)


def take_standby_kernel() -> Optional[StandbyKernel]:
    """The planted process, once; None where there is none (any more)."""
    global _standby_kernel
    taken, _standby_kernel = _standby_kernel, None
    return taken


def kill_standby_kernel() -> None:
    """End the planted process where nobody has taken it: the job ends."""
    unused = take_standby_kernel()
    if unused is not None:
        os.kill(unused.pid, signal.SIGKILL)
        os.waitpid(unused.pid, 0)


def _wait_for_request(connection: socket.socket, parent: int) -> None:
    """Wait to be wanted, then be a kernel, and end. Never returns."""
    die_with_parent(parent)
    request, descriptors = receive_message(connection)
    connection.close()
    if request is None:
        os._exit(0)
    os.setsid()
    set_up_process(request, *descriptors)
    run_and_exit(lambda: _run_kernel(request["command"][1:]))


def _run_kernel(arguments: list[str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    # ipykernel reads this off the environment when it is imported, when there was no parent to look to.
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    app = IPKernelApp.instance()
    app.initialize([*arguments, parent])  # type: ignore[no-untyped-call]
    if "matplotlib" in sys.modules:
        # So does matplotlib, and ipykernel has only now said where figures are shown.
        sys.modules["matplotlib"].rcParams["backend"] = os.environ["MPLBACKEND"]
    app.start()  # type: ignore[no-untyped-call]
    # Its control thread was told to end too and still flushes, through another thread: which the app, closed at exit, would
    # take away before, and then wait for a flush that never comes until Jupyter kills it.
    app.control_thread.join(timeout=_CONTROL_TIMEOUT_SECONDS)
