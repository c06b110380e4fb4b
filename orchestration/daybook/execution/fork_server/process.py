"""Make a forked process start like a new process and end like an interpreter."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Optional


def count_threads() -> int:
    """Return the number of threads of this process, including those of C libraries."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def set_up_process(request: dict[str, Any], output: int, error: Optional[int] = None) -> None:
    """Set output, environment, working folder, arguments and random seeds as in a new process.

    The descriptors ``output`` and ``error`` (by default the same) become stdout and stderr and are closed.
    """
    streams = [os.open(os.devnull, os.O_RDONLY), output, output if error is None else error]
    # Moved above 2 first, because a source may be one of the targets.
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 3) for each in streams]
    for number, source in enumerate(moved):
        os.dup2(source, number)
    for each in {*streams, *moved} - {0, 1, 2}:
        os.close(each)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = list(request["command"])
    # Python and packages have cached values of the parent's environment.
    time.tzset()
    tempfile.tempdir = None
    # The module random reseeds itself in a child; numpy does not.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def run_and_exit(main: Callable[[], Any], last: Callable[[], None] = lambda: None) -> None:
    """Run ``main`` and end this process like an interpreter: join threads, run exit handlers, then ``last``.

    It never returns. Destructors of libraries do not run, because their resources are shared with the parent.
    """
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException:  # noqa: BLE001 (as the interpreter does at its end)
        _flush_output()
        traceback.print_exc()
    finally:
        # At exit, matplotlib would remove a folder that the parent and other children use.
        atexit.unregister(shutil.rmtree)
        for step in (threading._shutdown, atexit._run_exitfuncs, last):  # type: ignore[attr-defined]
            try:
                step()
            except BaseException:  # noqa: BLE001 (errors at exit do not change the exit code)
                traceback.print_exc()
        _flush_output()
        os._exit(code & 0xFF)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed or None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    _flush_output()
    sys.stderr.write(f"{ended.code}\n")
    return 1
