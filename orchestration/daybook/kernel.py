"""What surrounds a kernel while a notebook is executed: a home of its own, and where it prints to.

Here: the kernel's environment, and keeping what its process prints off the job's own output. Not here: executing notebooks
(``daybook.execution``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST_PRINTED = 1_000_000
"""Characters of a job's output that are kept, the last ones."""


@contextmanager
def home_of_its_own(scratch: Path) -> Iterator[None]:
    """Give kernels a home under ``scratch``: a person's start-up files have no part in a run, and HOME may be read-only."""
    packages = [entry for entry in sys.path if entry and Path(entry).is_dir()]
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
def printing_to(file: Path) -> Iterator[None]:
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
            _discard_unwritten()
        for number, before in kept.items():
            os.dup2(before, number)
            os.close(before)


def _discard_unwritten() -> None:
    """Empty the buffers of what this process prints into nothing."""
    with Path(os.devnull).open("wb") as nothing:
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
    sys.stdout.flush()
    sys.stderr.flush()


def printed_in(file: Path) -> str:
    """What was printed to a file, from the beginning of a line where it is too much to keep."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    if len(text) <= _MOST_PRINTED:
        return text
    _, _, rest = text[-_MOST_PRINTED:].partition("\n")
    return f"(the first {len(text) - len(rest):,} characters are left out)\n{rest}"
