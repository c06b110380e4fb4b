"""Process one date, or a range as ``FIRST..LAST``, per input line with one system, and print how long it took.

    python -m benchmarks.worker limit

An input line is JSON (``root``, ``landing``, ``run_date``), and so is an output line (``seconds`` and, for Daybook, its
stages).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, Callable

from benchmarks.shop import Workspace

Day = Callable[[Workspace, str], dict[str, Any]]


def hand_written(module: str) -> Day:
    """Return a system that calls the stage functions of a module."""
    stages = import_module(f"benchmarks.{module}").STAGES

    def day(workspace: Workspace, run_date: str) -> dict[str, Any]:
        for stage in stages:
            stage(**workspace.arguments(run_date))
        return {}

    return day


def papermill_loop(module: str) -> Day:
    """Return a system that executes one notebook per stage with papermill in this process and saves the outputs."""
    import papermill

    from benchmarks.notebooks import write_notebooks

    source = import_module(f"benchmarks.{module}")

    def day(workspace: Workspace, run_date: str) -> dict[str, Any]:
        folder = workspace.root.parent / f"notebooks-{module}"
        notebooks = sorted(folder.glob("*.ipynb")) or write_notebooks(folder, source)
        out = workspace.root / "out"
        out.mkdir(exist_ok=True)
        for notebook in notebooks:
            papermill.execute_notebook(
                notebook, out / f"{run_date}-{notebook.name}", parameters=workspace.arguments(run_date), progress_bar=False
            )
        return {}

    return day


def daybook() -> Day:
    """Return Daybook in this process: the state machine, six stages, archive and pages."""
    from daybook.execution.local.runs import run_dates
    from daybook.records.archive import Archive
    from daybook.settings import load_settings

    def day(workspace: Workspace, run_date: str) -> dict[str, Any]:
        os.environ["DAYBOOK_HOME"] = str(workspace.root)
        settings = load_settings("local", {"landing": str(workspace.landing)})
        facts = {"env": settings.env, "title": settings.title}
        run_id = Archive(settings.archive).start_run(date.fromisoformat(run_date), facts)
        _, record = run_dates(settings, run_id)
        if record.outcome != "SUCCEEDED":
            raise AssertionError(f"{run_id} ended as {record.outcome}: {record.reasons}")
        return {
            "run_id": run_id,
            "stages": [each.model_dump(include=set(_STAGE_FIELDS)) for each in record.stages],
        }

    return day


_STAGE_FIELDS = ("stage", "seconds", "peak_memory_bytes", "phases")
SYSTEMS: dict[str, Callable[[], Day]] = {
    "limit": lambda: hand_written("byhand"),
    "pandas": lambda: hand_written("bypandas"),
    "papermill": lambda: papermill_loop("byhand"),
    "papermill-pandas": lambda: papermill_loop("bypandas"),
    "daybook": daybook,
}


def main() -> None:
    """Process the line after the system's name, or all lines of standard input."""
    day = SYSTEMS[sys.argv[1]]()
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.argv[2:] or sys.stdin:
            request = json.loads(line)
            workspace = Workspace(Path(request["root"]), Path(request["landing"]))
            start = time.perf_counter()
            result = day(workspace, request["run_date"])
            answers.write(json.dumps({"seconds": time.perf_counter() - start, **result}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
