"""Test that the interpreter and moto's give the same states, attempts, arguments, waits and ends for scripted cases.

moto's interpreter comes from LocalStack and runs with the reference implementation of JSONata. `make conformance` installs both
in ``.tools/conformance``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import ours
from tests.conformance.cases import CASES, Case

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
MACHINES = PROJECT / "orchestration"
TOOLS = PROJECT / ".tools" / "conformance"


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    python, modules = TOOLS / "venv" / "bin" / "python", TOOLS / "node_modules"
    if not python.exists() or not (modules / "jsonata").is_dir() or shutil.which("node") is None:
        pytest.skip(
            "the other interpreter is not there: it takes node, and `make conformance` (a package index for Python and npm)"
        )
    command = [str(python), str(HERE / "theirs.py"), str(MACHINES), str(modules)]
    done = subprocess.run(command, input=json.dumps(CASES), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {trace["name"]: trace for trace in json.loads(done.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_interpreters_give_same_trace(case: Case, theirs: dict[str, Any], tmp_path: Path) -> None:
    mine, other = ours.run(case, MACHINES, tmp_path / "history.jsonl"), theirs[case["name"]]
    assert told(mine, case) == told(other, case)
    assert way(mine, case) == way(other, case)


def told(trace: dict[str, Any], case: Case) -> dict[str, Any]:
    """Return the end of an execution."""
    ended = {key: trace[key] for key in ("status", "output", "error")}
    return ended if "names_differ" in case else {**ended, "cause": opened(trace["cause"])}


def way(trace: dict[str, Any], case: Case) -> dict[str, Any]:
    """Return the states of an execution with input and output, its calls with arguments, failures and waits."""
    steps, calls, failures = [], [], []
    for event in trace["events"]:
        kind = event["type"]
        if kind.endswith("StateEntered"):
            steps.append((kind, event["stateEnteredEventDetails"]["name"], opened(event["stateEnteredEventDetails"]["input"])))
        elif kind.endswith("StateExited"):
            steps.append((kind, event["stateExitedEventDetails"]["name"], opened(event["stateExitedEventDetails"]["output"])))
        elif kind == "TaskScheduled":
            calls.append(opened(event["taskScheduledEventDetails"]["parameters"]))
        elif kind in ("TaskFailed", "TaskTimedOut"):
            failures.append(event[kind[0].lower() + kind[1:] + "EventDetails"]["error"])
    # Concurrent iterations have no fixed order.
    together = case["input"].get("max_concurrency", 1) > 1
    steps, calls, failures = (sorted(each, key=repr) if together else each for each in (steps, calls, failures))
    found = {"states": steps, "calls": calls, "failures": failures, "waits": trace["waits"]}
    if "names_differ" in case:
        return {"states": [step[:2] for step in steps], "calls": [call for call in calls if "--failure" not in str(call)]}
    return found


def opened(value: Any) -> Any:
    """Parse JSON texts in a value, and remove what the interpreters word differently.

    These are the causes of timeouts, the details of a service's error (status, request id) and ARNs of executions.
    """
    if isinstance(value, str) and value.startswith("arn:aws:states:"):
        return value.split(":", 5)[-1]
    if isinstance(value, str) and value.startswith(ours.CAUSE):
        return ours.CAUSE
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return opened(read) if isinstance(read, (dict, list)) else value
    if isinstance(value, list):
        return [opened(each) for each in value]
    if isinstance(value, dict):
        found = {key: opened(each) for key, each in value.items()}
        return {**found, "Cause": "…"} if found.get("Error") == "States.Timeout" else found
    return value
