"""Execute the states of a state machine."""

from __future__ import annotations

import json
import threading
from collections import ChainMap
from dataclasses import dataclass
from random import Random
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from asl_local.clock import Clock
from asl_local.definition import StateMachine
from asl_local.error_handling import (
    DATA_LIMIT_EXCEEDED,
    NO_CHOICE_MATCHED,
    QUERY_EVALUATION_ERROR,
    RUNTIME,
    TIMEOUT,
    Failure,
    compute_backoff_delay,
    find_handler,
)
from asl_local.history import Event, History
from asl_local.map_iterations import ExecutionStopped, IterationCancelled, run_iterations
from asl_local.model import ChoiceState, FailState, MapState, State, Step, SucceedState, TaskState, Workflow
from asl_local.replay import Execution, MapProgress, Progress, Visit
from asl_local.tasks import TaskError, TaskService, TaskTimeout, split_resource
from asl_local.template import EvaluationError, Template

DATA_LIMIT_BYTES = 262_144
"""Maximum size of a state's input or output and of a task's arguments or result, as JSON in UTF-8."""
MAX_INLINE_MAP_CONCURRENCY = 40
"""Maximum number of concurrent iterations of an inline Map state in Step Functions."""

_CANCEL_CHECK_SECONDS = 1.0


class ExecutionTimedOut(Exception):
    """Report that TimeoutSeconds of the execution passed. No Catch handles it."""


@dataclass(frozen=True)
class StateResult:
    """The result of a state. ``next`` is None at the end of a workflow."""

    output: Any
    assigned: Dict[str, Any]
    next: Optional[str]


@dataclass
class Branch:
    """The position of the execution or of one Map iteration.

    ``variables`` are the branch's own, then those of the outer branches, which it can read but not set. ``item`` is
    ``Map.Item`` of the context object inside a Map state. The branch stops when one of the events in ``cancelled`` is set.
    """

    history: History
    variables: ChainMap[str, Any]
    last_event: int
    item: Optional[Mapping[str, Any]] = None
    cancelled: Tuple[threading.Event, ...] = ()

    def record(self, kind: str, details: Optional[Mapping[str, Any]] = None, **extra: Any) -> Event:
        """Record the next event of this branch and return it."""
        event = self.history.record(kind, self.last_event, details, **extra)
        self.last_event = event["id"]
        return event


class Interpreter:
    """Run the rest of a recorded execution."""

    def __init__(
        self,
        machine: StateMachine,
        execution: Execution,
        services: Mapping[str, TaskService],
        clock: Clock,
        random: Random,
    ) -> None:
        self._definition = machine.definition
        self._execution = execution
        self._services = services
        self._clock = clock
        self._random = random
        self._stopping = threading.Event()
        limit = machine.definition.timeout_seconds
        self._deadline = float("inf") if limit is None else clock.monotonic() + limit

    def run(self, branch: Branch) -> Any:
        """Run to the end and return the output of the execution.

        Raises
        ------
        Failure
            A state failed and no Catch handled it.
        ExecutionTimedOut
            TimeoutSeconds of the machine passed.
        """
        output = self._run_workflow(self._definition, self._execution.input, branch, self._execution.progress)
        self._raise_if_stopped(branch)
        return output

    def _run_workflow(self, workflow: Workflow, data: Any, branch: Branch, progress: Progress) -> Any:
        branch.variables.update(progress.variables)
        name: Optional[str] = workflow.start_at
        visit = progress.visit
        if visit is not None:
            name = visit.name
        elif progress.exit is not None:
            name, data = progress.exit.next, progress.exit.output
        while name is not None:
            self._raise_if_stopped(branch)
            state = workflow.states[name]
            if visit is None:
                event = branch.record(f"{state.type}StateEntered", {"name": name, "input": encode_json(data)})
                visit = Visit(name, data, event["id"], event["timestamp"])
            result = self._run_state(state, visit, branch)
            details: Dict[str, Any] = {"name": name, "output": encode_json(result.output)}
            if result.assigned:
                details["assignedVariables"] = {key: encode_json(value) for key, value in result.assigned.items()}
            branch.record(f"{state.type}StateExited", details, next=result.next)
            branch.variables.update(result.assigned)
            data, name, visit = result.output, result.next, None
        return data

    def _run_state(self, state: State, visit: Visit, branch: Branch) -> StateResult:
        if isinstance(state, (TaskState, MapState)):
            return self._run_with_retry(state, visit, branch)
        if isinstance(state, ChoiceState):
            return self._run_choice(state, visit, branch)
        if isinstance(state, FailState):
            error = self._evaluate(state.error, "Error", visit, branch)
            raise Failure(error, self._evaluate(state.cause, "Cause", visit, branch))
        if isinstance(state, SucceedState):
            output = self._evaluate(state.output, "Output", visit, branch) if state.output else visit.input
            return StateResult(output, {}, None)
        return self._leave(state, visit, branch, visit.input)

    def _leave(
        self,
        step: Step,
        visit: Visit,
        branch: Branch,
        default: Any,
        extra_states: Optional[Mapping[str, Any]] = None,
        where: str = "",
    ) -> StateResult:
        """Evaluate Assign and Output of ``step``, both with the variables from before the state."""
        assigned, data = {}, default
        if step.assign:
            assigned = self._evaluate(step.assign, f"{where}Assign", visit, branch, extra_states)
        if step.output:
            data = self._evaluate(step.output, f"{where}Output", visit, branch, extra_states)
        for value in (data, *assigned.values()):
            encode_json(value)
        return StateResult(data, assigned, step.next)

    def _evaluate(
        self,
        template: Optional[Template],
        location: str,
        visit: Visit,
        branch: Branch,
        extra_states: Optional[Mapping[str, Any]] = None,
    ) -> Any:
        """Return the value of a state's field, None without a template; record and raise ``Failure`` if it fails.

        ``extra_states`` are fields of ``$states`` besides input and context.
        """
        if template is None:
            return None
        execution = self._execution
        context = {
            "Execution": {
                "Id": execution.arn,
                "Input": execution.input,
                "Name": execution.name,
                "RoleArn": "arn:aws:iam::000000000000:role/local",
                "StartTime": execution.start_time,
                "RedriveCount": execution.redrive_count,
            },
            "State": {"Name": visit.name, "EnteredTime": visit.entered_time, "RetryCount": visit.retry_count},
            "StateMachine": {
                "Id": execution.arn.replace(":execution:", ":stateMachine:").rpartition(":")[0],
                "Name": execution.machine,
            },
            **({} if branch.item is None else {"Map": {"Item": branch.item}}),
        }
        states = {"input": visit.input, "context": context, **(extra_states or {})}
        try:
            return template.evaluate(states, branch.variables, location)
        except EvaluationError as fault:
            details = {"error": QUERY_EVALUATION_ERROR, "cause": str(fault), "location": fault.location, "state": visit.name}
            branch.record("EvaluationFailed", details)
            where = f"the state '{visit.name}' (entered at the event id #{visit.event_id})"
            raise Failure(QUERY_EVALUATION_ERROR, f"An error occurred while executing {where}. {fault}") from fault

    # -- Retry and Catch ------------------------------------------------------------------------------------------

    def _run_with_retry(self, state: Union[TaskState, MapState], visit: Visit, branch: Branch) -> StateResult:
        """Run a Task or Map state with its Retry and Catch."""
        attempts = [0] * len(state.retry)
        while True:
            try:
                if isinstance(state, MapState):
                    result = self._run_map(state, visit, branch)
                else:
                    result = self._run_task(state, visit, branch)
                return self._leave(state, visit, branch, result, {"result": result})
            except Failure as failure:
                index = find_handler(failure.error, state.retry)
                if index is None or attempts[index] >= state.retry[index].max_attempts:
                    catch = find_handler(failure.error, state.catch)
                    if catch is None:
                        raise
                    output = {"Error": failure.error or "", "Cause": failure.cause or ""}
                    return self._leave(state.catch[catch], visit, branch, output, {"errorOutput": output}, f"Catch[{catch}]/")
                attempts[index] += 1
                visit.retry_count += 1
                delay = compute_backoff_delay(state.retry[index], attempts[index], self._random)
                notice = {"stateName": visit.name, "waitSeconds": delay, "attempt": visit.retry_count, "error": failure.error}
                branch.history.notify({"type": "RetryScheduled", **notice})
                self._pause(delay, branch)

    # -- Task -----------------------------------------------------------------------------------------------------

    def _run_task(self, state: TaskState, visit: Visit, branch: Branch) -> Any:
        if visit.result is not None:  # the task ended before a kill
            output, visit.result = visit.result, None
            return json.loads(output)
        self._raise_if_stopped(branch)
        arguments = self._evaluate(state.arguments, "Arguments", visit, branch)
        timeout = state.timeout_seconds
        resource_type, api = split_resource(state.resource) or ("", "")
        integration = {"resourceType": resource_type, "resource": api}
        limit = {} if timeout is None else {"timeoutInSeconds": timeout}
        branch.record("TaskScheduled", {**integration, "region": "local", "parameters": encode_json(arguments), **limit})
        branch.record("TaskStarted", integration)
        try:
            output = encode_json(self._call_service(state.resource, arguments, timeout, branch))
        except TaskError as error:
            kind = "TaskTimedOut" if error.error == TIMEOUT else "TaskFailed"
            branch.record(kind, {**integration, "error": error.error, "cause": error.cause})
            raise Failure(error.error, error.cause) from error
        branch.record("TaskSucceeded", {**integration, "output": output})
        return json.loads(output)

    def _call_service(self, resource: str, arguments: Any, timeout: Optional[int], branch: Branch) -> Any:
        """Return the result of the task's service.

        Raises
        ------
        TaskError
            The task failed or took longer than ``timeout`` seconds.
        ExecutionTimedOut
            TimeoutSeconds of the machine passed.
        """
        started = self._clock.monotonic()
        limit = min(self._deadline - started, float("inf") if timeout is None else timeout)
        error: Optional[TaskError] = None
        try:
            result = self._services[resource](
                resource,
                arguments,
                timeout_seconds=None if limit == float("inf") else limit,
                heartbeat=lambda: self._raise_if_stopped(branch),
            )
        except TaskError as fault:
            error = fault
        ended = self._clock.monotonic()
        if error is not None and ended >= self._deadline:
            raise ExecutionTimedOut
        # A service that returns after the timeout counts as timed out, as in Step Functions.
        if timeout is not None and ended - started > timeout and (error is None or error.error != TIMEOUT):
            error = TaskTimeout(f"The task took {ended - started:.1f} seconds; its limit is {timeout}.")
        if error is not None:
            raise error
        return result

    # -- Choice ---------------------------------------------------------------------------------------------------

    def _run_choice(self, state: ChoiceState, visit: Visit, branch: Branch) -> StateResult:
        for index, rule in enumerate(state.choices):
            where = f"Choices[{index}]/"
            if self._evaluate(rule.condition, f"{where}Condition", visit, branch):
                return self._leave(rule, visit, branch, visit.input, where=where)
        if state.default is None:
            raise Failure(NO_CHOICE_MATCHED, f"No rule of the Choice state '{visit.name}' matched; it has no Default.")
        return StateResult(visit.input, {}, state.default)

    # -- Map ------------------------------------------------------------------------------------------------------

    def _run_map(self, state: MapState, visit: Visit, branch: Branch) -> List[Any]:
        items = self._evaluate(state.items, "Items", visit, branch)
        limit = self._evaluate(state.max_concurrency, "MaxConcurrency", visit, branch)
        concurrency = min(limit or MAX_INLINE_MAP_CONCURRENCY, MAX_INLINE_MAP_CONCURRENCY)
        if visit.map is None:
            branch.record("MapStateStarted", {"length": len(items)})
            visit.map = MapProgress(len(items))
        past, visit.map = visit.map, None  # a retry after a failure starts all iterations again
        if past.length != len(items):
            raise Failure(RUNTIME, f"Items has {len(items)} items after the redrive and had {past.length} before.")
        outputs = self._run_iterations(state, visit, branch, items, past, concurrency)
        if not past.succeeded:
            branch.record("MapStateSucceeded")
        return outputs

    def _run_iterations(
        self, state: MapState, visit: Visit, branch: Branch, items: List[Any], past: MapProgress, concurrency: int
    ) -> List[Any]:
        """Run the iterations that ``past`` does not contain; return all outputs in the order of the items."""
        outputs = {index: iteration.output for index, iteration in past.iterations.items() if iteration.succeeded}
        pending = [index for index in range(len(items)) if index not in outputs]
        start, children, cancelled = branch.last_event, [branch], threading.Event()

        def work(index: int) -> None:
            variables, cancels = branch.variables.new_child(), (*branch.cancelled, cancelled)
            child = Branch(branch.history, variables, start, {"Index": index, "Value": items[index]}, cancels)
            children.append(child)
            progress = past.iterations.get(index) or Progress()
            outputs[index] = self._run_iteration(state, {"name": visit.name, "index": index}, items[index], child, progress)

        try:
            run_iterations(work, pending, concurrency, cancelled, self._stopping)
        except Failure:
            branch.last_event = max(child.last_event for child in children)
            branch.record("MapStateFailed")
            raise
        branch.last_event = max(child.last_event for child in children)
        return [outputs[index] for index in range(len(items))]

    def _run_iteration(self, state: MapState, details: Dict[str, Any], data: Any, child: Branch, progress: Progress) -> Any:
        self._raise_if_stopped(child)
        child.record("MapIterationStarted", details)
        try:
            output = self._run_workflow(state.item_processor, data, child, progress)
        except Failure:
            child.record("MapIterationFailed", details)
            raise
        except IterationCancelled:
            child.record("MapIterationAborted", details)
            raise
        child.record("MapIterationSucceeded", details)
        return output

    # -- time -----------------------------------------------------------------------------------------------------

    def _pause(self, seconds: float, branch: Branch) -> None:
        """Wait until ``seconds`` or the execution's deadline passed. An iteration polls for cancellation."""
        seconds = min(seconds, self._deadline - self._clock.monotonic())
        while seconds > 0:
            self._raise_if_stopped(branch)
            part = min(seconds, _CANCEL_CHECK_SECONDS) if branch.cancelled else seconds
            self._clock.sleep(part)
            seconds -= part
        self._raise_if_stopped(branch)

    def _raise_if_stopped(self, branch: Branch) -> None:
        """Raise if the execution is stopped, the branch is cancelled or the deadline passed."""
        if self._stopping.is_set():
            raise ExecutionStopped
        if any(event.is_set() for event in branch.cancelled):
            raise IterationCancelled
        if self._clock.monotonic() >= self._deadline:
            raise ExecutionTimedOut


def encode_json(data: Any) -> str:
    """Return ``data`` as JSON; raise ``Failure`` if it exceeds the size limit of Step Functions."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > DATA_LIMIT_BYTES:
        raise Failure(DATA_LIMIT_EXCEEDED, f"The data has {size} bytes; the limit is {DATA_LIMIT_BYTES}.")
    return text
