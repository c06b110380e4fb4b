"""Run the backfill and catch-up machines with scripted services."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, List, Optional, Union

from asl_local import Execution, FakeClock, StateMachine, TaskError, run_execution
from daybook.settings import project_root
from tests.asl_local.machines import GET, JOB, START, ScriptedService

ARCHIVE = {"bucket": "archive", "prefix": "in/"}
Answer = Union[str, BaseException, List[Any], Callable[..., Any]]


def build_task_error(error: str) -> TaskError:
    """Return the error of a failed execution. As in Step Functions, the cause is its description as JSON."""
    return TaskError("States.TaskFailed", json.dumps({"Status": "FAILED", "Error": error, "Cause": "scripted"}))


REJECTED = build_task_error("Daybook.Rejected")
FAILED = build_task_error("Daybook.RunFailed")


class ScriptedExecutions:
    """A service that starts executions and returns the answer for each name, by default SUCCEEDED.

    An answer is an outcome, an error, a function that gets the heartbeat, or a list of those, one for each try.
    """

    def __init__(self, **answers: Answer) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.started: List[Dict[str, Any]] = []
        self._lock = threading.Lock()

    @property
    def names(self) -> List[str]:
        return [each["Name"] for each in self.started]

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        with self._lock:
            self.started.append(arguments)
            answer = self.answers.get(arguments["Name"], "SUCCEEDED")
            if isinstance(answer, list):
                answer = answer.pop(0)
        if callable(answer):
            answer = answer(heartbeat)
        if isinstance(answer, BaseException):
            raise answer
        return {"Name": arguments["Name"], "Status": "SUCCEEDED", "Output": {"outcome": answer}}


class MachineRunner:
    """Run the project's machines over dates with a fake clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.executions = ScriptedExecutions()
        self.job = ScriptedService({"JobRunState": "SUCCEEDED"})
        self.object = ScriptedService()

    def backfill(self, dates: int, *, max_concurrency: int = 1, **more: Any) -> Execution:
        """Run the backfill machine over the first ``dates`` days of November, each a run with the name d1, d2, ..."""
        days = [{"run_date": f"2025-11-{number:02d}", "run_id": f"d{number}"} for number in range(1, dates + 1)]
        data = {"daily": "the-daily", "backfill_id": "b1", "ranges": days, "max_concurrency": max_concurrency}
        return self._run("backfill", "b1", {**data, **more})

    def catch_up(self, gaps: Any = None, **more: Any) -> Execution:
        """Run the catch-up machine. ``gaps`` is the result of the gaps job."""
        if gaps is not None:
            self.object = ScriptedService({"Body": json.dumps(gaps)})
        data = {"daily": "the-daily", "backfill": "the-backfill", "limit": 7, "max_concurrency": 2}
        return self._run("catch_up", "c1", {**data, **more})

    def _run(self, machine: str, name: str, data: Dict[str, Any]) -> Execution:
        return run_execution(
            StateMachine.load(project_root() / "orchestration" / f"{machine}.asl.json"),
            name=name,
            input={"env": "local", "overrides": {"landing": "there"}, "archive": ARCHIVE, **data},
            services={START: self.executions, JOB: self.job, GET: self.object},
            journal=self.directory / f"{name}.jsonl",
            clock=self.clock,
            random=Random(7),  # noqa: S311
        )
