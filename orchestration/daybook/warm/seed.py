"""The process that a warm job keeps ready to become its kernel: forked before the job has threads, waiting until it is wanted.

Here: planting it, and turning it into an IPython kernel. Not here: what asks for it (``daybook.warm.provisioner``).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import traceback
from typing import Any, Optional

from daybook.warm.wire import die_with_parent, receive, send


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


def plant() -> None:
    """Fork the process that will be this job's kernel."""
    global _planted
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        _wait(there)
    there.close()
    _planted = Seed(pid, here)


def take() -> Optional[Seed]:
    """The planted process, once; None where there is none (any more)."""
    global _planted
    taken, _planted = _planted, None
    return taken


def _wait(connection: socket.socket) -> None:
    """Wait to be wanted, then be a kernel, and end. Never returns."""
    code = 1
    try:
        die_with_parent()
        request, descriptors = receive(connection)
        connection.close()
        if request is not None:
            code = _become_kernel(request, *descriptors)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:  # noqa: BLE001 (as the interpreter does at its end)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become_kernel(request: dict[str, Any], output: int, error: int) -> int:
    from daybook.warm.host import become

    os.setsid()
    become(request, output, error)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(request["command"][1:])
    return 0
