"""Run cases with moto's interpreter. It runs in a Python environment that has moto.

    python theirs.py FOLDER_OF_STATE_MACHINES FOLDER_OF_JSONATA < cases.json > traces.json

It does not import Daybook. The patches of moto's interpreter only remove stops, sleeps and crashes, each with a comment.
Services return the answers of the case's script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.common.retry import jitter_strategy_decl, retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk as aws_sdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_callback as callback,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_glue as glue,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_sfn as sfn,
)
from moto.stepfunctions.parser.asl.eval import states as states_module
from moto.stepfunctions.parser.asl.eval import variable_store
from moto.stepfunctions.parser.asl.jsonata import jsonata

ROLE = "arn:aws:iam::123456789012:role/any"
HANG_SECONDS = 0.4
"""Replaces TimeoutSeconds of states if the script has a job that hangs."""


class Script:
    """Clients that return scripted answers in order and repeat the last one.

    Step Functions capitalises field names of services and reads bodies as text. moto does not, so this class and
    ``patch_interpreter`` do it.
    """

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers = {key: list(each) for key, each in answers.items()}
        self.running: dict[str, Any] = {}
        self.lock = threading.Lock()

    def next(self, key: str) -> Any:
        with self.lock:
            left = self.answers[key]
            answer = left.pop(0) if len(left) > 1 else left[0]
        if "throws" in answer:
            meta = {"HTTPStatusCode": 400, "RequestId": "r"}
            error = {"Error": {"Code": answer["throws"], "Message": "as scripted"}, "ResponseMetadata": meta}
            raise error_class(answer["throws"])(error, "Call")
        return answer

    def start_job_run(self, JobName: str, **_: Any) -> dict[str, Any]:
        answer = self.next(JobName)
        with self.lock:
            name = f"jr_{len(self.running)}"
            self.running[name] = answer
        return {"JobRunId": name}

    def get_job_run(self, JobName: str, RunId: str) -> dict[str, Any]:
        answer = self.running[RunId]
        run = {"Id": "jr", "JobName": JobName, "JobRunState": "RUNNING" if "hangs" in answer else answer["state"]}
        return {"JobRun": {**run, **({"ErrorMessage": answer["message"]} if "message" in answer else {})}}

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        return {"Body": self.next(Key)["body"]}

    def start_execution(self, Name: str, **_: Any) -> dict[str, Any]:
        answer = self.next(Name)
        self.running[Name] = answer
        return {"ExecutionArn": Name}

    def describe_execution(self, executionArn: str) -> dict[str, Any]:
        answer = self.running[executionArn]
        told = {"executionArn": executionArn, "name": executionArn, "status": "SUCCEEDED" if "output" in answer else "FAILED"}
        if "output" in answer:
            return {**told, "output": json.dumps(answer["output"])}
        return {**told, "error": answer["error"], "cause": answer.get("cause", "")}


def error_class(code: str) -> type[ClientError]:
    """Create an error class. botocore has one for each error in a service description, and SDK errors use its name."""
    return type(code, (ClientError,), {})


class Jsonata:
    """The reference implementation of JSONata in a Node.js process."""

    def __init__(self, folder: str) -> None:
        here = Path(__file__).resolve().parent
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            ["node", str(here / "jsonata_lines.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NODE_PATH": folder},
        )

    def __call__(self, expression: str) -> Any:
        with self.lock:
            self.process.stdin.write(json.dumps(expression) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise jsonata.JSONataException("UNKNOWN", answer["error"])
        return answer["result"]


def patch_interpreter(evaluate: Jsonata) -> SimpleNamespace:
    """Replace services and sleeps of the interpreter; return an object with the recorded waits."""
    noted = SimpleNamespace(waits=[], script=None, hangs=False)

    # LocalStack uses a JVM for JSONata; moto has no implementation.
    jsonata._eval_jsonata = evaluate

    # The interpreter does not escape quotes in texts.
    def declare(bindings: dict[str, Any]) -> str:
        return "".join(f"{name}:={json.dumps(value, default=str)};" for name, value in bindings.items())

    states_module.encode_jsonata_variable_declarations = declare
    variable_store.encode_jsonata_variable_declarations = declare

    # The interpreter interrupts the endpoint for task tokens even if the integration has none.
    def wait_for_job(
        self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
    ) -> None:
        resolver = self._build_sync_resolver(env, resource_runtime_part, normalised_parameters, state_credentials)
        env.stack.append(self._eval_sync(env, resolver, None, None, None))

    glue.StateTaskServiceGlue._eval_integration_pattern = wait_for_job

    # Field and error names of Step Functions (see Script).
    def capitalise(self: Any, response: dict[str, Any], **_: Any) -> None:
        for key in list(response):
            response[key[0].upper() + key[1:]] = response.pop(key)

    sfn.StateTaskServiceSfn._normalise_response = lambda self, response, **given: capitalise(self, response) if given else None
    aws_sdk._SERVICE_ERROR_NAMES["s3"] = "S3"

    # Waits of retries are recorded instead of slept, with the longest jitter.
    retrier_decl.time = SimpleNamespace(sleep=noted.waits.append)
    jitter_strategy_decl.random = SimpleNamespace(uniform=lambda _, most: most)
    callback.time = SimpleNamespace(sleep=lambda _: time.sleep(0.01))

    # Timeouts would take an hour.
    class Event(threading.Event().__class__):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(HANG_SECONDS if noted.hangs else timeout)

    execute_state.threading = SimpleNamespace(Event=Event)

    def client(**_: Any) -> Script:
        return noted.script

    for module in (glue, sfn, aws_sdk):
        module.boto_client_for = client
    return noted


def run(case: dict[str, Any], definition: str, noted: SimpleNamespace) -> dict[str, Any]:
    """Run a case and return its trace: its end and its history."""
    noted.waits.clear()
    noted.script = Script(case["script"])
    noted.hangs = any("hangs" in answer for each in case["script"].values() for answer in each)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        client = boto3.client("stepfunctions", "us-east-1")
        machine = client.create_state_machine(name=case["machine"], definition=definition, roleArn=ROLE)["stateMachineArn"]
        started = client.start_execution(stateMachineArn=machine, name=case["execution"], input=json.dumps(case["input"]))
        arn = started["executionArn"]
        deadline = time.monotonic() + 60
        while (told := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{case['name']} did not end")
            time.sleep(0.01)
        history = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    return {
        "name": case["name"],
        "status": told["status"],
        "output": json.loads(told["output"]) if "output" in told else None,
        "error": told.get("error"),
        "cause": told.get("cause"),
        "waits": list(noted.waits),
        "events": [{key: value for key, value in event.items() if key != "timestamp"} for event in history],
    }


def main() -> None:
    machines, folder = Path(sys.argv[1]), sys.argv[2]
    noted = patch_interpreter(Jsonata(folder))
    traces = []
    for case in json.load(sys.stdin):
        definition = (machines / f"{case['machine']}.asl.json").read_text(encoding="utf-8")
        traces.append(run(case, definition, noted))
    json.dump(traces, sys.stdout)


if __name__ == "__main__":
    os.environ.update(AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none", AWS_DEFAULT_REGION="us-east-1")  # noqa: S106
    main()
