"""Import packages and fork jobs on request: ``python -m daybook.execution.fork_server.server FD``.

The server has one thread and no data of runs, so a fork is like a new interpreter after its imports. It ends with all its jobs
when the process that started it ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from daybook.execution.fork_server import standby_kernel
from daybook.execution.fork_server.process import count_threads, run_and_exit, set_up_process
from daybook.execution.fork_server.protocol import die_with_parent, receive_message

INITIAL_MODULES = (
    "daybook.execution.stage",
    "daybook.execution.fork_server.provisioner",
    "jupyter_client.asynchronous",
    "tornado.platform.asyncio",
    "IPython.core.magics",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.kernelspec",
    "ipykernel.ipkernel",
    "daybook.notebook.magic",
    "daybook.notebook.ingest",
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.dataset",
    "daybook.privacy.run_values",
)
"""Modules of a run's first job and its kernel. Jobs are forked as soon as these are imported."""
PRELOADED_MODULES = (
    *INITIAL_MODULES,
    "daybook.notebook.validate",
    "daybook.notebook.transform",
    "daybook.notebook.aggregate",
    "daybook.notebook.quality",
    "daybook.notebook.publishing",
    "daybook.notebook.notify",
    "daybook.notebook.plots",
    "pandas",
    # Not pyplot and matplotlib_inline, which look for a kernel when they are imported.
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "sqlglot.optimizer.qualify",
    "daybook.privacy.erasure",
    "daybook.execution.tasks",
)
"""Modules that jobs and kernels import. None of them starts a thread (tested)."""
_POLL_SECONDS = 0.005
"""Seconds between two checks for ended jobs."""
_WARM_UP_MODULE = "daybook.execution.fork_server.warm_up"

_can_fork_kernels = False
"""Whether Jupyter has the provisioner for standby kernels."""


def main() -> None:
    """Import the initial modules, then fork a job for each request, and import the other modules between requests."""
    control = socket.socket(fileno=int(sys.argv[1]))
    if not getattr(sys.flags, "safe_path", False):
        # Do not import from the working folder.
        del sys.path[0]
    # Imports create no garbage; without collections they take a fifth less time.
    gc.disable()
    for name in INITIAL_MODULES:
        importlib.import_module(name)
    global _can_fork_kernels
    _can_fork_kernels = standby_kernel.is_provisioner_registered()
    if not _can_fork_kernels:
        sys.stderr.write(
            f"Kernels start without fork: the installed package has no entry point {standby_kernel.PROVISIONER_NAME}; install "
            "it again.\n"
        )
    _require_one_thread()
    _serve(control, [*PRELOADED_MODULES[len(INITIAL_MODULES) :], _WARM_UP_MODULE])


def preload(name: str) -> None:
    """Import a module of ``PRELOADED_MODULES``, or import the warm-up module and run it."""
    module = importlib.import_module(name)
    if name == _WARM_UP_MODULE:
        module.read_project_files()
        module.run_warm_up()


def _require_one_thread() -> None:
    threads = count_threads()
    if threads > 1:
        raise SystemExit(f"the imported packages have started {threads - 1} threads, so no job can be forked")


def _serve(control: socket.socket, later: list[str]) -> None:
    """Fork jobs and report their exit codes until the control connection ends; import ``later`` between requests.

    If an import fails, running jobs continue and new ones are refused. The client starts these without fork.
    """
    # Ctrl-C is handled by the runner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: dict[int, socket.socket] = {}
    unfit = ""
    while True:
        _reap_jobs(jobs)
        readable, _, _ = select.select([control], [], [], 0 if later else _POLL_SECONDS if jobs else None)
        if not readable:
            unfit = unfit or _preload_next(later)
            continue
        request, descriptors = receive_message(control)
        if request is None:
            return  # the client has ended; jobs die with this process
        reply_socket, parent = socket.socket(fileno=descriptors[0]), os.getpid()
        pid, refusal = _fork(unfit)
        if pid == 0:
            for other in (control, reply_socket, *jobs.values()):
                other.close()
            _run_job(request, descriptors[1], parent)
        for each in descriptors[1:]:
            os.close(each)
        if pid < 0:
            _send_reply(reply_socket, {"refused": refusal})
            reply_socket.close()
            continue
        jobs[pid] = reply_socket
        if not _send_reply(reply_socket, {"pid": pid}):
            # The client was interrupted and does not wait for the job.
            os.kill(pid, signal.SIGKILL)


def _preload_next(later: list[str]) -> str:
    """Import the next module, if there is one; return why this process cannot be forked any longer, or an empty string."""
    try:
        if later:
            preload(later.pop(0))
            if not later:
                gc.collect()
                gc.enable()
                _require_one_thread()
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a package may do anything when it is imported)
        later.clear()
        unfit = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"{unfit}\n")
        return unfit
    return ""


def _fork(unfit: str) -> tuple[int, str]:
    """Return the pid of a new process (0 in the child), or -1 and the reason if there is none."""
    if unfit:
        return -1, unfit
    # Frozen objects are not collected, so children do not copy their memory pages.
    gc.freeze()
    try:
        return os.fork(), ""
    except OSError as error:
        return -1, f"fork failed: {error.strerror}"


def _reap_jobs(jobs: dict[int, socket.socket]) -> None:
    for pid in list(jobs):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            reply_socket = jobs.pop(pid)
            _send_reply(reply_socket, {"code": os.waitstatus_to_exitcode(status)})
            reply_socket.close()


def _send_reply(reply_socket: socket.socket, message: dict[str, Any]) -> bool:
    """Send a reply; return whether the client is still connected."""
    try:
        reply_socket.sendall(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _run_job(request: dict[str, Any], output: int, parent: int) -> None:
    """Run a script like ``python SCRIPT ARGUMENTS`` in this forked process and end it. It never returns."""
    try:
        os.setsid()
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        set_up_process(request, output)
        gc.enable()
        script = request["command"][0]
        sys.path.insert(0, str(Path(script).resolve().parent))
        if _can_fork_kernels:
            # Before this process starts threads, because a fork does not have them.
            standby_kernel.fork_standby_kernel()
        run_and_exit(lambda: runpy.run_path(script, run_name="__main__"), last=standby_kernel.kill_standby_kernel)
    finally:
        # Never continue as a second server.
        os._exit(1)


if __name__ == "__main__":
    main()
