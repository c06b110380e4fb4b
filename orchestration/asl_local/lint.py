"""Check state machine files by rules that are stricter than Step Functions'."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Union

from asl_local.definition import StateMachine, read_definition
from asl_local.error_handling import ALL
from asl_local.model import ChoiceState, Finding, TaskState
from asl_local.tasks import split_resource

RETRY_ATTEMPTS = 3
"""Number of retries after the first attempt."""


def lint_file(path: Union[str, Path]) -> List[Finding]:
    """Return the findings in the file at ``path``, first errors in the language. A clean file has none."""
    machine, findings = read_definition(Path(path))
    return findings + (list(_check_rules(machine)) if machine is not None else [])


def _check_rules(machine: StateMachine) -> Iterator[Finding]:
    if machine.definition.timeout_seconds is None:
        yield Finding("", "the machine has no TimeoutSeconds, so an execution that hangs never ends; add TimeoutSeconds")
    for name, state in machine.definition.iter_states():
        if isinstance(state, ChoiceState) and state.default is None:
            yield Finding(name, "Choice has no Default, so an unexpected value fails the execution; add Default")
        if isinstance(state, TaskState):
            yield from (Finding(name, message) for message in _check_task(state))


def _check_task(state: TaskState) -> Iterator[str]:
    if state.timeout_seconds is None:
        yield "Task has no TimeoutSeconds, so a task that hangs blocks the execution; add TimeoutSeconds"
    retriers = [retrier for retrier in state.retry if retrier.max_attempts > 0]
    if not any(retrier.max_attempts == RETRY_ATTEMPTS for retrier in retriers):
        yield f"Task has no Retry with MaxAttempts {RETRY_ATTEMPTS}; add one"
    for retrier in retriers:
        names = ", ".join(retrier.error_equals)
        if retrier.backoff_rate <= 1:
            yield f"Retry for {names} has no BackoffRate above 1, so its delays do not grow; set BackoffRate"
        if retrier.max_delay_seconds is None:
            yield f"Retry for {names} has no MaxDelaySeconds, so its delays grow without limit; set MaxDelaySeconds"
        if retrier.jitter_strategy != "FULL":
            yield f"Retry for {names} has no JitterStrategy FULL, so parallel executions retry together; set JitterStrategy"
    if not any(ALL in catcher.error_equals for catcher in state.catch):
        yield f"Task has no Catch for {ALL}, so its failure is not reported; add a Catch"
    resource_type, api = split_resource(state.resource) or ("", "")
    if resource_type == "glue" and not api.endswith(".sync"):
        yield f"Resource {state.resource} does not end in .sync, so the execution does not wait for the job; append .sync"
