"""Failures inside an execution: their names, which Retry or Catch takes them, how long a retry waits."""

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
"""A year, the longest that Step Functions lets a retry wait."""

_TERMINAL = frozenset({RUNTIME, DATA_LIMIT_EXCEEDED})

_Handler = TypeVar("_Handler", Catcher, Retrier)


class Failure(Exception):
    """A state failed, and with it the execution unless a Retry or a Catch takes it.

    ``error`` may be None only for a Fail state that names none.
    """

    def __init__(self, error: Optional[str], cause: Optional[str]) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


def matches_error(error: Optional[str], error_equals: Sequence[str]) -> bool:
    """Return whether a failure named ``error`` is among ``error_equals``, wildcards understood.

    The wildcards pass over the terminal errors ``States.Runtime`` and ``States.DataLimitExceeded``, and
    ``States.TaskFailed`` over ``States.Timeout``.
    """
    if error == RUNTIME:
        return False
    if error is not None and error in error_equals:
        return True
    if error in _TERMINAL:
        return False
    return ALL in error_equals or (TASK_FAILED in error_equals and error != TIMEOUT)


def find_handler(error: Optional[str], handlers: Sequence[_Handler]) -> Optional[int]:
    """Return the place of the first of ``handlers`` that takes ``error``, or None."""
    return next((place for place, handler in enumerate(handlers) if matches_error(error, handler.error_equals)), None)


def compute_backoff_delay(retrier: Retrier, attempt: int, random: Random) -> float:
    """Return how many seconds to wait before the ``attempt``-th retry, counted from 1."""
    longest = MAX_DELAY_SECONDS if retrier.max_delay_seconds is None else retrier.max_delay_seconds
    try:
        delay = min(retrier.interval_seconds * retrier.backoff_rate ** (attempt - 1), longest)
    except OverflowError:
        delay = longest
    return random.uniform(0, delay) if retrier.full_jitter else float(delay)
