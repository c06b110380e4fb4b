"""Test error matching of Retry and Catch, and retry delays."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asl_local.error_handling import MAX_DELAY_SECONDS, compute_backoff_delay, find_handler, matches_error
from asl_local.model import Catcher, Retrier


def seeded_random(seed):
    return Random(seed)  # noqa: S311


def make_retrier(interval, rate, max_delay, jitter=False):
    # Without validation, because the values of a property test may contradict each other.
    return Retrier.model_construct(
        error_equals=["States.ALL"],
        interval_seconds=interval,
        backoff_rate=rate,
        max_delay_seconds=max_delay,
        jitter_strategy="FULL" if jitter else "NONE",
    )


@pytest.mark.parametrize(
    ("error", "names", "expected"),
    [
        ("Glue.ConcurrentRunsExceededException", ("Glue.ConcurrentRunsExceededException",), True),
        ("Glue.ConcurrentRunsExceededException", ("Glue.EntityNotFoundException",), False),
        ("Anything", ("States.ALL",), True),
        (None, ("States.ALL",), True),
        ("Anything", ("States.TaskFailed",), True),
        ("States.Timeout", ("States.TaskFailed",), False),
        ("States.Timeout", ("States.ALL",), True),
        ("States.Timeout", ("States.Timeout",), True),
        ("States.QueryEvaluationError", ("States.ALL",), True),
        ("States.DataLimitExceeded", ("States.ALL",), False),
        ("States.DataLimitExceeded", ("States.DataLimitExceeded",), True),
        ("States.Runtime", ("States.ALL",), False),
        ("States.Runtime", ("States.Runtime",), False),
    ],
)
def test_error_names_match_as_in_step_functions(error, names, expected):
    assert matches_error(error, names) is expected


def test_first_matching_handler_is_used():
    catchers = [Catcher(ErrorEquals=[name], Next="B") for name in ("A", "States.TaskFailed", "States.ALL")]
    assert find_handler("B", catchers) == 1
    assert find_handler("States.Timeout", catchers) == 2
    assert find_handler("States.Runtime", catchers) is None


def test_delays_grow_up_to_max_delay():
    retrier = make_retrier(10, 2.0, 60)
    delays = [compute_backoff_delay(retrier, attempt, seeded_random(1)) for attempt in (1, 2, 3, 4, 5)]
    assert delays == [10, 20, 40, 60, 60]


@given(
    interval=st.integers(1, 99_999_999),
    rate=st.floats(1, 1e6),
    max_delay=st.one_of(st.none(), st.integers(1, MAX_DELAY_SECONDS)),
    attempt=st.integers(1, 10_000),
    jitter=st.booleans(),
    seed=st.integers(),
)
def test_delay_is_between_zero_and_max_delay(interval, rate, max_delay, attempt, jitter, seed):
    retrier = make_retrier(interval, rate, max_delay, jitter)
    bound = MAX_DELAY_SECONDS if max_delay is None else max_delay
    assert 0 <= compute_backoff_delay(retrier, attempt, seeded_random(seed)) <= bound


@given(seed=st.integers(), attempt=st.integers(1, 50))
def test_full_jitter_does_not_exceed_plain_delay(seed, attempt):
    plain = make_retrier(5, 2.0, 300)
    jittered = make_retrier(5, 2.0, 300, jitter=True)
    assert compute_backoff_delay(jittered, attempt, seeded_random(seed)) <= compute_backoff_delay(
        plain, attempt, seeded_random(seed)
    )


def test_full_jitter_uses_injected_random():
    retrier = make_retrier(100, 2.0, None, jitter=True)
    assert compute_backoff_delay(retrier, 1, seeded_random(3)) == seeded_random(3).uniform(0, 100)
