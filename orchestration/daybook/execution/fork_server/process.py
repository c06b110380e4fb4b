"""What makes a forked process one of its own: it begins like a new one, and ends as an interpreter does."""

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
    """How many threads this process has, those of libraries in C included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def set_up_process(request: dict[str, Any], output: int, error: Optional[int] = None) -> None:
    """Take on the standing of a new process: its output, environment, working folder and arguments; and chance of its own.

    ``output`` and ``error`` (where it is another) are descriptors that this process gives up for them.
    """
    given = [os.open(os.devnull, os.O_RDONLY), output, output if error is None else error]
    # Above 2 first: one that is to be 1 may be 2 now.
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 3) for each in given]
    for number, source in enumerate(moved):
        os.dup2(source, number)
    for each in {*given, *moved} - {0, 1, 2}:
        os.close(each)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = list(request["command"])
    # What Python and its packages have read off the surroundings that were.
    time.tzset()
    tempfile.tempdir = None
    # random seeds itself anew in a child; numpy does not.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def run_and_exit(main: Callable[[], Any], last: Callable[[], None] = lambda: None) -> None:
    """Run ``main`` and end this process as an interpreter would: threads are waited for, what was to be done at exit is done,
    then ``last``. Never returns; libraries' destructors are not run, since what they would tear down is the parent's too."""
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
        # matplotlib removes a folder at exit that is the parent's, and other children's.
        atexit.unregister(shutil.rmtree)
        for step in (threading._shutdown, atexit._run_exitfuncs, last):  # type: ignore[attr-defined]
            try:
                step()
            except BaseException:  # noqa: BLE001 (the process ends with its own code whatever its last acts do)
                traceback.print_exc()
        _flush_output()
        os._exit(code & 0xFF)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # One may be closed, or None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    _flush_output()
    sys.stderr.write(f"{ended.code}\n")
    return 1
