"""Match failures with Retry and Catch entries, and compute retry delays."""

from __future__ import annotations

from random import Random
from typing import Optional, Sequence, TypeVar

from asl_local.model import Catcher, Retrier

ALL = "States.ALL"
TIMEOUT = "States.Timeout"
TASK_FAILED = "States.TaskFailed"
RUNTIME = "States.Runtime"
DATA_LIMIT_EXCEEDED = "States.DataLimitExceeded"
QUERY_EVALUATION_ERROR = "States.QueryEvaluationError"
NO_CHOICE_MATCHED = "States.NoChoiceMatched"

MAX_DELAY_SECONDS = 31_622_400
"""Maximum retry delay of Step Functions, one year."""

_TERMINAL = frozenset({RUNTIME, DATA_LIMIT_EXCEEDED})

_Handler = TypeVar("_Handler", Catcher, Retrier)


class Failure(Exception):
    """Report a failed state. The execution fails unless a Retry or a Catch handles it.

    ``error`` is None only for a Fail state without an Error field.
    """

    def __init__(self, error: Optional[str], cause: Optional[str]) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


def matches_error(error: Optional[str], error_equals: Sequence[str]) -> bool:
    """Return whether ``error_equals`` matches the failure ``error``.

    The wildcards do not match the terminal errors ``States.Runtime`` and ``States.DataLimitExceeded``.
    ``States.TaskFailed`` does not match ``States.Timeout``.
    """
    if error == RUNTIME:
        return False
    if error is not None and error in error_equals:
        return True
    if error in _TERMINAL:
        return False
    return ALL in error_equals or (TASK_FAILED in error_equals and error != TIMEOUT)


def find_handler(error: Optional[str], handlers: Sequence[_Handler]) -> Optional[int]:
    """Return the index of the first of ``handlers`` that matches ``error``, or None."""
    return next((index for index, handler in enumerate(handlers) if matches_error(error, handler.error_equals)), None)


def compute_backoff_delay(retrier: Retrier, attempt: int, random: Random) -> float:
    """Return the seconds to wait before the ``attempt``-th retry, counted from 1."""
    max_delay = MAX_DELAY_SECONDS if retrier.max_delay_seconds is None else retrier.max_delay_seconds
    try:
        delay = min(retrier.interval_seconds * retrier.backoff_rate ** (attempt - 1), max_delay)
    except OverflowError:
        delay = max_delay
    return random.uniform(0, delay) if retrier.jitter_strategy == "FULL" else float(delay)
