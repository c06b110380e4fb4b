"""The systems that are measured, each as a call that does one day in a home and says how long it took.

Here: warm workers, commands from the shell, and several dates at a time. Not here: what a worker does (``worker``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from benchmarks import byhand
from benchmarks.measuring import run_command
from benchmarks.notebooks import write_notebooks
from benchmarks.shop import Workspace
from daybook.settings import project_root

DAYBOOK = [sys.executable, "-c", "from daybook.cli import main; main()"]
"""The ``daybook`` command, of this checkout whatever is installed."""

_MAX_ATTEMPTS = 3


class Worker:
    """A worker process (``benchmarks.worker``), kept from day to day."""

    def __init__(self, system: str, home: Workspace) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", system],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=home.environment(), cwd=project_root(),
        )  # fmt: skip

    def day(self, home: Workspace, run_date: str) -> dict[str, Any]:
        """One date in a home; returns ``seconds`` and what else the worker says."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(_parameters_of(home, run_date) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the worker ended; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def start_workers(home: Workspace, *names: str) -> Iterator[dict[str, Worker]]:
    """Workers by their system's name, ended together."""
    begun: dict[str, Worker] = {}
    try:
        for name in names:
            begun[name] = Worker(name, home)
        yield begun
    finally:
        for each in begun.values():
            each.close()


def run_cold_limit(home: Workspace, run_date: str) -> dict[str, Any]:
    """The functions written by hand in a process of their own, from the shell."""
    arguments = [sys.executable, "-m", "benchmarks.worker", "limit", _parameters_of(home, run_date)]
    return {"seconds": run_command(arguments, env=home.environment(), cwd=project_root())}


def run_papermill_command(home: Workspace, run_date: str) -> dict[str, Any]:
    """The ``papermill`` command, once a stage."""
    return {"seconds": sum(_run_papermill(home, run_date, notebook) for notebook in _notebooks(home))}


def _run_papermill(home: Workspace, run_date: str, notebook: Path) -> float:
    """Seconds of one notebook. With several at once a kernel now and then finds that another took its ports: then it is run
    again, as one would, and both count."""
    began = time.perf_counter()
    for left in reversed(range(_MAX_ATTEMPTS)):
        try:
            run_command(_papermill_arguments(home, run_date, notebook), env=home.environment(), cwd=project_root())
            break
        except RuntimeError as error:
            if not left or "Kernel died before replying" not in str(error):
                raise
    return time.perf_counter() - began


def _papermill_arguments(home: Workspace, run_date: str, notebook: Path) -> list[str]:
    out = home.place / "out"
    out.mkdir(exist_ok=True)
    given = [text for pair in home.arguments(run_date).items() for text in ("-r", *pair)]
    return [
        sys.executable, "-m", "papermill", "--no-progress-bar", *given, str(notebook), str(out / f"{run_date}-{notebook.name}"),
    ]  # fmt: skip


def _notebooks(home: Workspace) -> list[Path]:
    folder = home.place.parent / "notebooks-byhand"
    return sorted(folder.glob("*.ipynb")) or write_notebooks(folder, byhand)


def run_cold_daybook(home: Workspace, run_date: str) -> dict[str, Any]:
    """``daybook run`` from the shell."""
    arguments = [*DAYBOOK, "run", "--date", run_date, "--set", f"landing={home.landing}"]
    return {"seconds": run_command(arguments, env=home.environment(), cwd=project_root())}


def run_backfill(home: Workspace, first: str, last: str, parallel: int) -> dict[str, Any]:
    """``daybook backfill`` from the shell."""
    arguments = [*DAYBOOK, "backfill", first, last, "--yes", "--parallel", str(parallel), "--set", f"landing={home.landing}"]
    return {"seconds": run_command(arguments, env=home.environment(), cwd=project_root())}


def run_papermill_dates(homes: Sequence[Workspace], run_dates: Sequence[str], at_once: int) -> float:
    """The ``papermill`` command for each stage of each date, so many dates at once, each into a home of its own; seconds.

    By hand nothing keeps two dates from merging into one table at once, so each has its own: that flatters this system.
    """
    for home in homes:
        _notebooks(home)
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run_papermill_command, homes, run_dates))
    return time.perf_counter() - began


def _parameters_of(home: Workspace, run_date: str) -> str:
    return json.dumps({"place": str(home.place), "landing": str(home.landing), "run_date": run_date})


def prepare_workspace(
    place: Path, landing: Path, system: str, run_dates: Sequence[str], worker: Optional[Worker] = None
) -> Workspace:
    """A home that a system has worked through these dates in; made once, then copied for each measurement."""
    home = Workspace(place, landing)
    if not (place / "prepared").exists():
        home.make()
        own = worker or Worker(system, home)
        for run_date in run_dates:
            own.day(home, run_date)
        if worker is None:
            own.close()
        (place / "prepared").touch()
    return home
