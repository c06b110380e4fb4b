"""Which errors a Retry or Catch takes, and how long retries wait."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asl_local.error_handling import MAX_DELAY_SECONDS, compute_backoff_delay, find_handler, matches_error
from asl_local.model import Catcher, Retrier


def chance(seed):
    return Random(seed)  # noqa: S311


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
def test_error_names_match_as_step_functions_says(error, names, expected):
    assert matches_error(error, names) is expected


def test_the_first_entry_that_matches_is_taken():
    catchers = [Catcher(("A",), "first"), Catcher(("States.TaskFailed",), "second"), Catcher(("States.ALL",), "third")]
    assert find_handler("B", catchers) == 1
    assert find_handler("States.Timeout", catchers) == 2
    assert find_handler("States.Runtime", catchers) is None


def test_delays_grow_by_the_backoff_rate_until_the_longest():
    retrier = Retrier(("States.ALL",), interval_seconds=10, backoff_rate=2.0, max_delay_seconds=60)
    delays = [compute_backoff_delay(retrier, attempt, chance(1)) for attempt in (1, 2, 3, 4, 5)]
    assert delays == [10, 20, 40, 60, 60]


@given(
    interval=st.integers(1, 99_999_999),
    rate=st.floats(1, 1e6),
    longest=st.one_of(st.none(), st.integers(1, MAX_DELAY_SECONDS)),
    attempt=st.integers(1, 10_000),
    jitter=st.booleans(),
    seed=st.integers(),
)
def test_a_delay_is_never_negative_and_never_above_max_delay(interval, rate, longest, attempt, jitter, seed):
    retrier = Retrier(("States.ALL",), interval, 99, rate, longest, jitter)
    bound = MAX_DELAY_SECONDS if longest is None else longest
    assert 0 <= compute_backoff_delay(retrier, attempt, chance(seed)) <= bound


@given(seed=st.integers(), attempt=st.integers(1, 50))
def test_full_jitter_stays_below_the_delay_without_jitter(seed, attempt):
    plain = Retrier(("States.ALL",), 5, 3, 2.0, 300)
    jittered = Retrier(("States.ALL",), 5, 3, 2.0, 300, full_jitter=True)
    assert compute_backoff_delay(jittered, attempt, chance(seed)) <= compute_backoff_delay(plain, attempt, chance(seed))


def test_full_jitter_takes_its_chance_from_the_random_it_is_given():
    retrier = Retrier(("States.ALL",), 100, 3, 2.0, None, full_jitter=True)
    assert compute_backoff_delay(retrier, 1, chance(3)) == chance(3).uniform(0, 100)
