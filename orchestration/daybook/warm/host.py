"""The process that has everything imported and forks jobs: ``python -m daybook.warm.host FD``.

It has one thread, starts none, and holds nothing of any run: what it forks begins as a fresh interpreter would after its
imports. It ends, with all its jobs, when whoever started it is gone. Here: that. Not here: the other end
(``daybook.warm.client``).
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
import traceback
from pathlib import Path
from typing import Any, Optional

from daybook.warm import seed
from daybook.warm.wire import die_with_parent, receive

PRELOADED = (
    "daybook.execution",
    "daybook.personal",
    "daybook.errands",
    "daybook.erasure",
    "daybook.notebook",
    "daybook.notebook.magic",
    "daybook.notebook.ingest",
    "daybook.notebook.validate",
    "daybook.notebook.transform",
    "daybook.notebook.aggregate",
    "daybook.notebook.quality",
    "daybook.notebook.publishing",
    "daybook.notebook.notify",
    "daybook.notebook.plots",
    "IPython.core.magics",
    "IPython.core.completer",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_svg",
    "matplotlib_inline.backend_inline",
    "matplotlib_inline.config",
    "jupyter_client.asynchronous",
    "pandas",
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.dataset",
    "sqlglot.optimizer.qualify",
    "tornado.platform.asyncio",
)
"""What jobs and kernels import before they get to their own work. None of these starts a thread; a test holds them to it."""


def main() -> None:
    """Preload, then fork a job for each request until the other end of the socket is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # The folder that the command was given in is no place to import from.
    del sys.path[0]
    for name in PRELOADED:
        importlib.import_module(name)
    threads = count_threads()
    if threads > 1:
        raise SystemExit(f"the preloaded packages have started {threads - 1} threads, so nothing may be forked")
    # What is imported stays where it is: a child that collects garbage would else copy every page of it.
    gc.collect()
    gc.freeze()
    _serve(control)


def count_threads() -> int:
    """How many threads this process has, those of libraries in C included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _serve(control: socket.socket) -> None:
    """Fork jobs and tell how they ended, until nobody is left to ask."""
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_read, False)
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # An interrupt at the keyboard is the runner's to pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([control, wakeup_read], [], [])
        if wakeup_read in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup_read, 4096)
        _reap(jobs)
        if control in readable:
            request, descriptors = receive(control)
            if request is None:
                # Whoever is asked for no more has nobody to work for; jobs die with this process.
                return
            answers = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for other in (control, answers, *jobs.values()):
                    other.close()
                os.close(wakeup_read)
                os.close(wakeup_write)
                _become_job(request, descriptors[1])
            for each in descriptors[1:]:
                os.close(each)
            jobs[pid] = answers
            _tell(answers, {"pid": pid})


def _reap(jobs: dict[int, socket.socket]) -> None:
    for pid in list(jobs):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            answers = jobs.pop(pid)
            _tell(answers, {"code": os.waitstatus_to_exitcode(status)})
            answers.close()


def _tell(answers: socket.socket, message: dict[str, Any]) -> None:
    # Nobody has to be waiting for the answer.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        answers.sendall(json.dumps(message).encode() + b"\n")


def _become_job(request: dict[str, Any], output: int) -> None:
    """Run a script as ``python SCRIPT ARGUMENTS`` would, in this new process, and end it. Never returns."""
    code: Optional[int] = 1
    try:
        os.setsid()
        die_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become(request, output)
        os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "daybook-warm"
        # Before this process has threads: none of them would be in its child.
        seed.plant()
        runpy.run_path(request["command"][0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException:  # noqa: BLE001 (as the interpreter does at its end)
        traceback.print_exc()
    finally:
        _leave(code or 0)


def become(request: dict[str, Any], output: int, error: Optional[int] = None) -> None:
    """Take on the standing of a new process: its output, environment, working folder and arguments; and chance of its own."""
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output if error is None else error, 2)
    for number in {output, error} - {None, 0, 1, 2}:
        os.close(number)  # type: ignore[arg-type]
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = list(request["command"])
    # random seeds itself anew in a child; numpy does not.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _leave(code: int) -> None:
    """End at once: neither the parent's clean-up nor libraries' destructors are this process's to run."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
