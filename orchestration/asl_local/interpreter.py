"""Execute the states of a state machine."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from random import Random
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from asl_local.clock import Clock, parse_timestamp
from asl_local.definition import StateMachine
from asl_local.error_handling import NO_CHOICE_MATCHED, RUNTIME, TIMEOUT, Failure, compute_backoff_delay, find_handler
from asl_local.evaluation import Branch, Evaluator, Identity, encode_json
from asl_local.map_iterations import ExecutionStopped, IterationCancelled, run_iterations
from asl_local.model import ChoiceState, FailState, MapState, State, SucceedState, TaskState, WaitState, Workflow
from asl_local.replay import MapProgress, Progress, Visit
from asl_local.tasks import TaskError, TaskService, TaskTimeout, split_resource
from asl_local.template import Template

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


class Interpreter:
    """Run a machine from its start or from restored progress."""

    def __init__(
        self,
        machine: StateMachine,
        identity: Identity,
        services: Mapping[str, TaskService],
        clock: Clock,
        random: Random,
    ) -> None:
        self._machine = machine
        self._identity = identity
        self._services = services
        self._clock = clock
        self._random = random
        self._evaluator = Evaluator(identity, clock, random)
        self._stopping = threading.Event()
        limit = machine.timeout_seconds
        self._deadline = float("inf") if limit is None else clock.monotonic() + limit

    def run(self, branch: Branch, progress: Progress) -> Any:
        """Run from ``progress`` to the end and return the output of the execution.

        Raises
        ------
        Failure
            A state failed and no Catch handled it.
        ExecutionTimedOut
            TimeoutSeconds of the machine passed.
        """
        output = self._run_workflow(self._machine.workflow, self._identity.input, branch, progress)
        self._raise_if_stopped(branch)
        return output

    def _run_workflow(self, workflow: Workflow, data: Any, branch: Branch, progress: Progress) -> Any:
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
                visit = self._enter_state(state, data, branch)
            step = self._run_state(state, visit, branch)
            self._exit_state(state, step, branch)
            data, name, visit = step.output, step.next, None
        return data

    def _enter_state(self, state: State, data: Any, branch: Branch) -> Visit:
        event = branch.record(f"{state.type}StateEntered", {"name": state.name, "input": encode_json(data)})
        return Visit(state.name, data, event["id"], event["timestamp"])

    def _exit_state(self, state: State, step: StateResult, branch: Branch) -> None:
        details: Dict[str, Any] = {"name": state.name, "output": encode_json(step.output)}
        if step.assigned:
            details["assignedVariables"] = {name: encode_json(value) for name, value in step.assigned.items()}
        branch.record(f"{state.type}StateExited", details, next=step.next)
        branch.variables.update(step.assigned)

    def _run_state(self, state: State, visit: Visit, branch: Branch) -> StateResult:
        if isinstance(state, (TaskState, MapState)):
            return self._run_with_retry(state, visit, branch)
        if isinstance(state, ChoiceState):
            return self._run_choice(state, visit, branch)
        if isinstance(state, FailState):
            error = self._evaluator.evaluate_string(state.error, visit, branch) if state.error else None
            raise Failure(error, self._evaluator.evaluate_string(state.cause, visit, branch) if state.cause else None)
        if isinstance(state, SucceedState):
            return self._evaluate_assign_and_output(visit, branch, None, state.output, visit.input, None)
        if isinstance(state, WaitState):
            self._run_wait(state, visit, branch)
        return self._evaluate_assign_and_output(visit, branch, state.assign, state.output, visit.input, state.next)

    def _evaluate_assign_and_output(
        self,
        visit: Visit,
        branch: Branch,
        assign: Optional[Template],
        output: Optional[Template],
        default: Any,
        next_state: Optional[str],
        extra_states: Optional[Mapping[str, Any]] = None,
    ) -> StateResult:
        """Evaluate Assign and Output, both with the variables from before the state."""
        assigned = self._evaluator.evaluate(assign, visit, branch, extra_states) if assign else {}
        data = self._evaluator.evaluate(output, visit, branch, extra_states) if output else default
        for value in (data, *assigned.values()):
            encode_json(value)
        return StateResult(data, assigned, next_state)

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
                return self._evaluate_assign_and_output(
                    visit, branch, state.assign, state.output, result, state.next, {"result": result}
                )
            except Failure as failure:
                index = find_handler(failure.error, state.retry)
                if index is None or attempts[index] >= state.retry[index].max_attempts:
                    return self._apply_catch(state, failure, visit, branch)
                attempts[index] += 1
                delay = compute_backoff_delay(state.retry[index], attempts[index], self._random)
                self._wait_for_retry(delay, failure, visit, branch)

    def _wait_for_retry(self, seconds: float, failure: Failure, visit: Visit, branch: Branch) -> None:
        visit.retry_count += 1
        notice = {"stateName": visit.name, "waitSeconds": seconds, "attempt": visit.retry_count, "error": failure.error}
        branch.history.send_notice({"type": "RetryScheduled", **notice})
        self._pause(seconds, branch)

    def _apply_catch(self, state: Union[TaskState, MapState], failure: Failure, visit: Visit, branch: Branch) -> StateResult:
        index = find_handler(failure.error, state.catch)
        if index is None:
            raise failure
        catcher = state.catch[index]
        error_output = {"Error": failure.error or "", "Cause": failure.cause or ""}
        extra_states = {"errorOutput": error_output}
        return self._evaluate_assign_and_output(
            visit, branch, catcher.assign, catcher.output, error_output, catcher.next, extra_states
        )

    # -- Task -----------------------------------------------------------------------------------------------------

    def _run_task(self, state: TaskState, visit: Visit, branch: Branch) -> Any:
        if visit.result is not None:  # the task ended before a kill
            result, visit.result = visit.result, None
            return result.output
        self._raise_if_stopped(branch)
        arguments = self._evaluator.evaluate(state.arguments, visit, branch) if state.arguments else {}
        seconds = state.timeout_seconds
        timeout = None if seconds is None else self._evaluator.evaluate_integer(seconds, visit, branch, minimum=1)
        resource_type, api = split_resource(state.resource) or ("", "")
        integration = {"resourceType": resource_type, "resource": api}
        limit = {} if timeout is None else {"timeoutInSeconds": timeout}
        branch.record("TaskScheduled", {**integration, "region": "local", "parameters": encode_json(arguments), **limit})
        branch.record("TaskStarted", integration)
        error, result = self._call_service(state.resource, arguments, timeout, branch)
        if error is not None and error.error == TIMEOUT:
            branch.record("TaskTimedOut", {**integration, "error": TIMEOUT, "cause": error.cause})
        elif error is not None:
            branch.record("TaskFailed", {**integration, "error": error.error, "cause": error.cause})
        if error is not None:
            raise Failure(error.error, error.cause) from error
        output = encode_json(result)
        branch.record("TaskSucceeded", {**integration, "output": output})
        return json.loads(output)

    def _call_service(
        self, resource: str, arguments: Any, timeout: Optional[int], branch: Branch
    ) -> Tuple[Optional[TaskError], Any]:
        """Call the task's service and return its error or its result.

        Raises ``ExecutionTimedOut`` if TimeoutSeconds of the machine passed.
        """
        started = self._clock.monotonic()
        limit = min(self._deadline - started, float("inf") if timeout is None else timeout)
        error, result = None, None
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
        return error, result

    # -- Choice and Wait ------------------------------------------------------------------------------------------

    def _run_choice(self, state: ChoiceState, visit: Visit, branch: Branch) -> StateResult:
        for rule in state.rules:
            answer = self._evaluator.evaluate(rule.condition, visit, branch)
            if not isinstance(answer, bool):
                raise self._evaluator.type_failure(rule.condition.location, answer, "true or false", visit, branch)
            if answer:
                return self._evaluate_assign_and_output(visit, branch, rule.assign, rule.output, visit.input, rule.next)
        if state.default is None:
            raise Failure(NO_CHOICE_MATCHED, f"No rule of the Choice state '{state.name}' matched; it has no Default.")
        return self._evaluate_assign_and_output(visit, branch, None, None, visit.input, state.default)

    def _run_wait(self, state: WaitState, visit: Visit, branch: Branch) -> None:
        if state.timestamp is None:
            seconds = float(self._evaluator.evaluate_integer(state.seconds, visit, branch)) if state.seconds else 0.0
        else:
            text = self._evaluator.evaluate_string(state.timestamp, visit, branch)
            try:
                seconds = (parse_timestamp(text) - self._clock.now()).total_seconds()
            except ValueError as fault:
                location = state.timestamp.location
                raise self._evaluator.type_failure(location, text, "an ISO 8601 timestamp", visit, branch) from fault
        self._pause(seconds, branch)

    # -- Map ------------------------------------------------------------------------------------------------------

    def _run_map(self, state: MapState, visit: Visit, branch: Branch) -> List[Any]:
        items = self._evaluator.evaluate(state.items, visit, branch) if state.items else visit.input
        if not isinstance(items, list):
            raise self._evaluator.type_failure("Items", items, "an array", visit, branch)
        concurrency = MAX_INLINE_MAP_CONCURRENCY
        if state.max_concurrency is not None:
            chosen = self._evaluator.evaluate_integer(state.max_concurrency, visit, branch)
            concurrency = min(chosen or MAX_INLINE_MAP_CONCURRENCY, MAX_INLINE_MAP_CONCURRENCY)
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
        contexts = [{"Index": index, "Value": value} for index, value in enumerate(items)]
        selector, inputs = state.item_selector, dict(enumerate(items))
        if selector is not None:
            for index in pending:
                inputs[index] = self._evaluator.evaluate(selector, visit, branch, item=contexts[index])
        start, children, cancelled = branch.last_event, [branch], threading.Event()

        def work(index: int) -> None:
            variables, cancels = branch.variables.new_child(), (*branch.cancelled, cancelled)
            child = Branch(branch.history, variables, start, contexts[index], cancels)
            children.append(child)
            progress = past.iterations.get(index) or Progress()
            outputs[index] = self._run_iteration(state, index, inputs[index], child, progress)

        try:
            run_iterations(work, pending, concurrency, cancelled, self._stopping)
        except Failure:
            branch.last_event = max(child.last_event for child in children)
            branch.record("MapStateFailed")
            raise
        branch.last_event = max(child.last_event for child in children)
        return [outputs[index] for index in range(len(items))]

    def _run_iteration(self, state: MapState, index: int, data: Any, child: Branch, progress: Progress) -> Any:
        details = {"name": state.name, "index": index}
        self._raise_if_stopped(child)
        child.record("MapIterationStarted", details)
        child.variables.update(progress.variables)
        try:
            output = self._run_workflow(state.processor, data, child, progress)
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
