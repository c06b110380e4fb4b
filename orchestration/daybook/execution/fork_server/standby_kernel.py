"""Fork a process before a job has threads; it later becomes the job's kernel."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Optional

from daybook.execution.fork_server.process import run_and_exit, set_up_process
from daybook.execution.fork_server.protocol import die_with_parent, receive_message, send_message

PROVISIONER_NAME = "daybook-fork"
"""Name of the kernel provisioner (an entry point of the package)."""
PROVISIONER_VARIABLE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
"""Environment variable with which Jupyter selects a provisioner."""
_CONTROL_TIMEOUT_SECONDS = 1.0
"""Seconds to wait for a kernel's control thread. It never ends after ``exit()`` in a cell."""


_standby_kernel: Optional[tuple[int, socket.socket]] = None
"""The pid of the waiting child process, and the connection to it."""


def is_provisioner_registered() -> bool:
    """Return whether Jupyter has the provisioner for standby kernels."""
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    return PROVISIONER_NAME in KernelProvisionerFactory().get_provisioner_entries()


def fork_standby_kernel() -> None:
    """Fork the process for this job's kernel and select the provisioner that uses it."""
    global _standby_kernel
    os.environ[PROVISIONER_VARIABLE] = PROVISIONER_NAME
    here, there = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        here.close()
        _wait_for_request(there, parent)
    there.close()
    _standby_kernel = pid, here


def activate_standby_kernel(request: dict[str, Any], output: int, error: int) -> Optional[int]:
    """Let the standby process become the kernel of the request's command, environment and folder.

    Return its pid the first time, None afterwards or if there is none.
    """
    global _standby_kernel
    if _standby_kernel is None:
        return None
    (pid, connection), _standby_kernel = _standby_kernel, None
    with connection:
        send_message(connection, request, [output, error])
    return pid


def kill_standby_kernel() -> None:
    """Kill the standby process if it was not used. Called at the job's end."""
    global _standby_kernel
    if _standby_kernel is not None:
        (pid, _), _standby_kernel = _standby_kernel, None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _wait_for_request(connection: socket.socket, parent: int) -> None:
    """Wait for a request, run the kernel and end the process. It never returns."""
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

    # ipykernel reads the parent from the environment when it is imported, which was before the fork.
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    app = IPKernelApp.instance()
    app.initialize([*arguments, parent])  # type: ignore[no-untyped-call]
    if "matplotlib" in sys.modules:
        # So does matplotlib, and ipykernel sets the backend only now.
        sys.modules["matplotlib"].rcParams["backend"] = os.environ["MPLBACKEND"]
    app.start()  # type: ignore[no-untyped-call]
    # The control thread still flushes its output through another thread. If the app closed that thread first, the flush would
    # never end, and Jupyter would have to kill the kernel.
    app.control_thread.join(timeout=_CONTROL_TIMEOUT_SECONDS)
