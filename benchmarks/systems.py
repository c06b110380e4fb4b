"""Run a date with each system: warm workers, commands from the shell, and several dates at a time."""

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
"""The ``daybook`` command of this checkout, even if another version is installed."""

_MAX_ATTEMPTS = 3


class Worker:
    """A worker process (``benchmarks.worker``) that processes one date after another."""

    def __init__(self, system: str, workspace: Workspace) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", system],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=workspace.environment(), cwd=project_root(),
        )  # fmt: skip

    def day(self, workspace: Workspace, run_date: str) -> dict[str, Any]:
        """Process one date; return ``seconds`` and the other values that the worker reports."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(_parameters_of(workspace, run_date) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the worker exited; its output is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def start_workers(workspace: Workspace, *names: str) -> Iterator[dict[str, Worker]]:
    """Start one worker per system; yield them by name and close them at the end."""
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(name, workspace)
        yield workers
    finally:
        for each in workers.values():
            each.close()


def run_cold_limit(workspace: Workspace, run_date: str) -> dict[str, Any]:
    """Run the functions written by hand in a new process."""
    arguments = [sys.executable, "-m", "benchmarks.worker", "limit", _parameters_of(workspace, run_date)]
    return {"seconds": run_command(arguments, env=workspace.environment(), cwd=project_root())}


def run_papermill_command(workspace: Workspace, run_date: str) -> dict[str, Any]:
    """Run the ``papermill`` command once per stage."""
    return {"seconds": sum(_run_papermill(workspace, run_date, notebook) for notebook in _notebooks(workspace))}


def _run_papermill(workspace: Workspace, run_date: str, notebook: Path) -> float:
    """Run one notebook and return its seconds.

    Kernels that start at the same time sometimes choose the same port. The notebook is then run again, and both count.
    """
    start = time.perf_counter()
    for remaining in reversed(range(_MAX_ATTEMPTS)):
        try:
            run_command(_papermill_arguments(workspace, run_date, notebook), env=workspace.environment(), cwd=project_root())
            break
        except RuntimeError as error:
            if not remaining or "Kernel died before replying" not in str(error):
                raise
    return time.perf_counter() - start


def _papermill_arguments(workspace: Workspace, run_date: str, notebook: Path) -> list[str]:
    out = workspace.root / "out"
    out.mkdir(exist_ok=True)
    options = [text for pair in workspace.arguments(run_date).items() for text in ("-r", *pair)]
    return [
        sys.executable, "-m", "papermill", "--no-progress-bar", *options, str(notebook),
        str(out / f"{run_date}-{notebook.name}"),
    ]  # fmt: skip


def _notebooks(workspace: Workspace) -> list[Path]:
    folder = workspace.root.parent / "notebooks-byhand"
    return sorted(folder.glob("*.ipynb")) or write_notebooks(folder, byhand)


def run_cold_daybook(workspace: Workspace, run_date: str) -> dict[str, Any]:
    """Run ``daybook run`` in a new process."""
    arguments = [*DAYBOOK, "run", "--date", run_date, "--set", f"landing={workspace.landing}"]
    return {"seconds": run_command(arguments, env=workspace.environment(), cwd=project_root())}


def run_backfill(workspace: Workspace, first: str, last: str, parallel: int) -> dict[str, Any]:
    """Run ``daybook backfill`` in a new process."""
    arguments = [
        *DAYBOOK,
        "backfill",
        first,
        last,
        "--yes",
        "--parallel",
        str(parallel),
        "--set",
        f"landing={workspace.landing}",
    ]
    return {"seconds": run_command(arguments, env=workspace.environment(), cwd=project_root())}


def run_papermill_dates(workspaces: Sequence[Workspace], run_dates: Sequence[str], at_once: int) -> float:
    """Run ``at_once`` dates at a time with the ``papermill`` command and return the seconds.

    Each date has its own workspace, because the work by hand does not support concurrent merges into one table.
    """
    for workspace in workspaces:
        _notebooks(workspace)
    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run_papermill_command, workspaces, run_dates))
    return time.perf_counter() - start


def _parameters_of(workspace: Workspace, run_date: str) -> str:
    return json.dumps({"root": str(workspace.root), "landing": str(workspace.landing), "run_date": run_date})


def prepare_workspace(
    root: Path, landing: Path, system: str, run_dates: Sequence[str], worker: Optional[Worker] = None
) -> Workspace:
    """Return a workspace in which ``system`` has processed ``run_dates``; it is prepared once and copied to measure."""
    workspace = Workspace(root, landing)
    if not (root / "prepared").exists():
        workspace.make()
        active = worker or Worker(system, workspace)
        for run_date in run_dates:
            active.day(workspace, run_date)
        if worker is None:
            active.close()
        (root / "prepared").touch()
    return workspace
