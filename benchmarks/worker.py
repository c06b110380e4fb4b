"""One system in a process of its own, kept warm: it does a day for each line it is given, and says how long that took.

    python -m benchmarks.worker limit

A line is JSON (``place``, ``landing``, ``run_date``); so is the answer (``seconds`` and, for Daybook, its stages). Here: the
systems that live in one process. Not here: those that are commands, and starting workers (``systems``).
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
    """The functions of a module, one after the other."""
    stages = import_module(f"benchmarks.{module}").STAGES

    def day(home: Workspace, run_date: str) -> dict[str, Any]:
        for stage in stages:
            stage(**home.arguments(run_date))
        return {}

    return day


def papermill_loop(module: str) -> Day:
    """papermill in this process, a notebook a stage: their outputs are kept, as one does."""
    import papermill

    from benchmarks.notebooks import write_notebooks

    source = import_module(f"benchmarks.{module}")

    def day(home: Workspace, run_date: str) -> dict[str, Any]:
        folder = home.place.parent / f"notebooks-{module}"
        notebooks = sorted(folder.glob("*.ipynb")) or write_notebooks(folder, source)
        out = home.place / "out"
        out.mkdir(exist_ok=True)
        for notebook in notebooks:
            papermill.execute_notebook(
                notebook, out / f"{run_date}-{notebook.name}", parameters=home.arguments(run_date), progress_bar=False
            )
        return {}

    return day


def daybook() -> Day:
    """A date in a running command: the state machine, six stages, archive and pages."""
    from daybook.execution.local import run_day
    from daybook.records.archive import Archive
    from daybook.settings import load_settings

    def day(home: Workspace, run_date: str) -> dict[str, Any]:
        os.environ["DAYBOOK_HOME"] = str(home.place)
        settings = load_settings("local", {"landing": str(home.landing)})
        facts = {"env": settings.env, "title": settings.title}
        run_id = Archive(settings.archive).start_run(date.fromisoformat(run_date), facts)
        _, record = run_day(settings, run_id)
        if record["outcome"] != "SUCCEEDED":
            raise AssertionError(f"{run_id} ended as {record['outcome']}: {record['reasons']}")
        return {
            "run_id": run_id,
            "stages": [{key: each[key] for key in _STAGE_FIELDS if key in each} for each in record["stages"]],
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
    """Answer lines until there are no more, or only the one that follows the system's name."""
    day = SYSTEMS[sys.argv[1]]()
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.argv[2:] or sys.stdin:
            asked = json.loads(line)
            home = Workspace(Path(asked["place"]), Path(asked["landing"]))
            began = time.perf_counter()
            told = day(home, asked["run_date"])
            answers.write(json.dumps({"seconds": time.perf_counter() - began, **told}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
