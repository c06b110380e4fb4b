"""A process that a job forks before it has threads and that later becomes the job's kernel."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Optional

from daybook.execution.fork_server.process import become, run_to_end
from daybook.execution.fork_server.protocol import die_with_parent, receive, send

PROVISIONER = "daybook-warm"
"""What Jupyter calls the way to get a kernel from a job (an entry point of the package)."""
CHOICE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
"""The variable by which Jupyter chooses a way."""
_CONTROL_SECONDS = 1.0
"""How long a kernel's control thread may take to end; one that was not told to (after ``exit()`` in a cell) never does."""


class Seed:
    """A child process that waits; it can become one kernel."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection

    def sprout(self, request: dict[str, Any], output: int, error: int) -> int:
        """Let it become the kernel of this command, environment and folder; returns its process id."""
        with self._connection:
            send(self._connection, request, [output, error])
        return self.pid


_planted: Optional[Seed] = None


def can_be_asked_for() -> bool:
    """Whether Jupyter here knows how to get a kernel from a job."""
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    return PROVISIONER in KernelProvisionerFactory().get_provisioner_entries()


def plant() -> None:
    """Fork the process that will be this job's kernel, and have Jupyter ask for it."""
    global _planted
    os.environ[CHOICE] = PROVISIONER
    here, there = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        here.close()
        _wait(there, parent)
    there.close()
    _planted = Seed(pid, here)


def take() -> Optional[Seed]:
    """The planted process, once; None where there is none (any more)."""
    global _planted
    taken, _planted = _planted, None
    return taken


def uproot() -> None:
    """End the planted process where nobody has taken it: the job ends."""
    unused = take()
    if unused is not None:
        os.kill(unused.pid, signal.SIGKILL)
        os.waitpid(unused.pid, 0)


def _wait(connection: socket.socket, parent: int) -> None:
    """Wait to be wanted, then be a kernel, and end. Never returns."""
    die_with_parent(parent)
    request, descriptors = receive(connection)
    connection.close()
    if request is None:
        os._exit(0)
    os.setsid()
    become(request, *descriptors)
    run_to_end(lambda: _be_kernel(request["command"][1:]))


def _be_kernel(arguments: list[str]) -> None:
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
    app.control_thread.join(timeout=_CONTROL_SECONDS)
