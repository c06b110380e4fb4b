"""Run cases with ``asl_local`` and scripted services."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any, Optional

from asl_local import FakeClock, StateMachine, TaskError, TaskTimeout, run_execution
from tests.conformance.cases import Case

JOB = "arn:aws:states:::glue:startJobRun.sync"
GET_OBJECT = "arn:aws:states:::aws-sdk:s3:getObject"
CAUSE = "as scripted"
"""Message of a service's error, also in ``theirs``."""
START_EXECUTION = "arn:aws:states:::states:startExecution.sync:2"


class LongestJitter(random.Random):
    """Random source with the longest wait for every jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Script:
    """Return scripted answers in order and repeat the last one, in the form of ``daybook.execution.local``."""

    def __init__(self, answers: dict[str, list[Any]], clock: FakeClock) -> None:
        self.answers = {key: list(each) for key, each in answers.items()}
        self.clock = clock
        self.lock = threading.Lock()

    def next(self, key: str, service: str) -> Any:
        with self.lock:
            left = self.answers[key]
            answer = left.pop(0) if len(left) > 1 else left[0]
        if "throws" in answer:
            name = answer["throws"] if answer["throws"].endswith("Exception") else f"{answer['throws']}Exception"
            raise TaskError(f"{service}.{name}", CAUSE)
        return answer

    def job(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        answer = self.next(arguments["JobName"], "Glue")
        if "hangs" in answer:
            self.clock.advance(timeout_seconds or 0)
            raise TaskTimeout()
        run = {"Id": "jr", "JobName": arguments["JobName"], "JobRunState": answer["state"]}
        run.update({"ErrorMessage": answer["message"]} if "message" in answer else {})
        if answer["state"] not in ("SUCCEEDED", "STOPPED"):
            raise TaskError("States.TaskFailed", json.dumps(run))
        return run

    def object(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        return {"Body": self.next(arguments["Key"], "S3")["body"]}

    def execution(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Any) -> Any:
        answer = self.next(arguments["Name"], "StepFunctions")
        told = {"ExecutionArn": arguments["Name"], "Name": arguments["Name"]}
        if "output" in answer:
            return {**told, "Status": "SUCCEEDED", "Output": answer["output"]}
        told = {**told, "Status": "FAILED", "Error": answer["error"], "Cause": answer.get("cause", "")}
        raise TaskError("States.TaskFailed", json.dumps(told))


def run(case: Case, machines: Path, journal: Path) -> dict[str, Any]:
    """Run a case and return its trace in the form of ``theirs``."""
    clock = FakeClock()
    script = Script(case["script"], clock)
    heard: list[dict[str, Any]] = []
    execution = run_execution(
        StateMachine.load(machines / f"{case['machine']}.asl.json"),
        name=case["execution"],
        input=case["input"],
        services={JOB: script.job, GET_OBJECT: script.object, START_EXECUTION: script.execution},
        journal=journal,
        clock=clock,
        random=LongestJitter(),
        listener=heard.append,
    )
    return {
        "name": case["name"],
        "status": execution.status,
        "output": execution.output,
        "error": execution.error,
        "cause": execution.cause,
        "waits": [event["waitSeconds"] for event in heard if event["type"] == "RetryScheduled"],
        "events": list(execution.events),
    }
