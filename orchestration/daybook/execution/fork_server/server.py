"""The process that has everything imported and forks jobs: ``python -m daybook.execution.fork_server.server FD``.

It has one thread, starts none, and holds nothing of any run: what it forks begins as a fresh interpreter would after its
imports. It ends, with all its jobs, when whoever started it is gone.
"""

from __future__ import annotations

import contextlib
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
"""What a run's first job needs, and its kernel: it is forked as soon as these are imported."""
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
    # Not pyplot and matplotlib_inline: at their import they look for the kernel to show figures in.
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "sqlglot.optimizer.qualify",
    "daybook.privacy.erasure",
    "daybook.execution.tasks",
)
"""What jobs and kernels import before they get to their own work. None of these starts a thread; a test holds them to it."""
_WARM_UP_MODULE = "daybook.execution.fork_server.warm_up"

_can_fork_kernels = False
"""Whether Jupyter here knows how to get a kernel from a job."""


def main() -> None:
    """Preload what comes first, then fork a job for each request until the other end of the socket is closed; preload the rest
    while none is asked for."""
    control = socket.socket(fileno=int(sys.argv[1]))
    if not getattr(sys.flags, "safe_path", False):
        # The folder that the command was given in is no place to import from.
        del sys.path[0]
    # Nothing that is imported is garbage: looking for it again and again takes a fifth of the time.
    gc.disable()
    for name in INITIAL_MODULES:
        importlib.import_module(name)
    global _can_fork_kernels
    _can_fork_kernels = standby_kernel.is_provisioner_registered()
    if not _can_fork_kernels:
        sys.stderr.write(
            f"Kernels start cold: the installed package has no entry point {standby_kernel.PROVISIONER_NAME}; install it again.\n"
        )
    _require_one_thread()
    _serve(control, [*PRELOADED_MODULES[len(INITIAL_MODULES) :], _WARM_UP_MODULE])


def preload(name: str) -> None:
    """Import a module of ``PRELOADED_MODULES``, or rehearse."""
    module = importlib.import_module(name)
    if name == _WARM_UP_MODULE:
        module.read_project_files()
        module.run_warm_up()


def _require_one_thread() -> None:
    threads = count_threads()
    if threads > 1:
        raise SystemExit(f"the preloaded packages have started {threads - 1} threads, so nothing may be forked")


def _serve(control: socket.socket, later: list[str]) -> None:
    """Fork jobs and tell how they ended, until nobody is left to ask; preload, one after the other, what is for ``later``.

    Where that cannot be done jobs that are under way go on, and others are refused: they start cold, and tell what is wrong.
    """
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_read, False)
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # An interrupt at the keyboard is the runner's to pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: dict[int, socket.socket] = {}
    unfit = ""
    while True:
        readable, _, _ = select.select([control, wakeup_read], [], [], 0 if later else None)
        if not readable:
            try:
                preload(later.pop(0))
                if not later:
                    gc.collect()
                    gc.enable()
                    _require_one_thread()
            except (Exception, SystemExit) as error:  # noqa: BLE001 (a package may do anything when it is imported)
                later.clear()
                unfit = f"{type(error).__name__}: {error}"
                sys.stderr.write(f"{unfit}\n")
            continue
        if wakeup_read in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup_read, 4096)
        _reap_jobs(jobs)
        if control in readable:
            request, descriptors = receive_message(control)
            if request is None:
                # Whoever is asked for no more has nobody to work for; jobs die with this process.
                return
            answers = socket.socket(fileno=descriptors[0])
            parent = os.getpid()
            pid, refusal = _fork(unfit)
            if pid < 0:
                _send_reply(answers, {"refused": refusal})
                answers.close()
                for each in descriptors[1:]:
                    os.close(each)
                continue
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for other in (control, answers, *jobs.values()):
                    other.close()
                os.close(wakeup_read)
                os.close(wakeup_write)
                _run_job(request, descriptors[1], parent)
            for each in descriptors[1:]:
                os.close(each)
            jobs[pid] = answers
            if not _send_reply(answers, {"pid": pid}):
                # Whoever asked was interrupted, and does not wait for it.
                os.kill(pid, signal.SIGKILL)


def _fork(unfit: str) -> tuple[int, str]:
    """The id of a new process, 0 in itself; -1 where there is none, and why."""
    if unfit:
        return -1, unfit
    # What is imported stays where it is: a child that collects garbage would else copy every page of it.
    gc.freeze()
    try:
        return os.fork(), ""
    except OSError as error:
        return -1, f"it cannot fork: {error.strerror}"


def _reap_jobs(jobs: dict[int, socket.socket]) -> None:
    for pid in list(jobs):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            answers = jobs.pop(pid)
            _send_reply(answers, {"code": os.waitstatus_to_exitcode(status)})
            answers.close()


def _send_reply(answers: socket.socket, message: dict[str, Any]) -> bool:
    """Whether somebody is there to be told."""
    try:
        answers.sendall(json.dumps(message).encode() + b"\n")
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _run_job(request: dict[str, Any], output: int, parent: int) -> None:
    """Run a script as ``python SCRIPT ARGUMENTS`` would, in this new process, and end it. Never returns."""
    try:
        os.setsid()
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        set_up_process(request, output)
        gc.enable()
        script = request["command"][0]
        sys.path.insert(0, str(Path(script).resolve().parent))
        if _can_fork_kernels:
            # Before this process has threads: none of them would be in its child.
            standby_kernel.fork_standby_kernel()
        run_and_exit(lambda: runpy.run_path(script, run_name="__main__"), last=standby_kernel.kill_standby_kernel)
    finally:
        # Whatever is wrong, this process never goes on as a second host.
        os._exit(1)


if __name__ == "__main__":
    main()
