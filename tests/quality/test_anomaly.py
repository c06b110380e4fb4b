"""Test that a figure is compared with past figures of its weekday."""

from __future__ import annotations

import random
from datetime import date, timedelta

from daybook.quality.anomaly import robust_z_score

DAY = date(2025, 11, 24)  # A Monday.


def weeks(count: int, noise: float = 0.05) -> list[tuple[date, float]]:
    """Return some weeks before ``DAY``, with half the sales on Sundays and small variations."""
    chance = random.Random(3)  # noqa: S311
    days = [DAY - timedelta(days=back) for back in range(1, 7 * count + 1)]
    return [(day, (500 if day.weekday() == 6 else 1000) * chance.uniform(1 - noise, 1 + noise)) for day in days]


def score(value: float, past: list[tuple[date, float]], day: date = DAY) -> float:
    found = robust_z_score(dict(past), day, value)
    assert found is not None
    return found.z_score


def test_drop_of_two_fifths_scores_high() -> None:
    assert abs(score(1010, weeks(4))) < 3.5
    assert score(600, weeks(4)) < -3.5
    assert score(1400, weeks(4)) > 3.5


def test_day_is_compared_with_its_weekday() -> None:
    assert score(500, weeks(4)) < -3.5
    sunday = DAY - timedelta(days=1)
    past = [(day, value) for day, value in weeks(4) if day < sunday]
    assert abs(score(500, past, sunday)) < 3.5
    assert score(1000, past, sunday) > 3.5


def test_one_outlier_in_history_changes_little() -> None:
    past = weeks(4)
    wild = [(day, value * 20 if number == 12 else value) for number, (day, value) in enumerate(past)]
    assert abs(score(1010, wild)) < 3.5
    assert score(600, wild) < -3.5


def test_expectation_is_the_weekday_share_of_last_week() -> None:
    mondays = [(DAY - timedelta(days=back), 200.0 if back % 7 == 0 else 100.0) for back in range(1, 29)]
    found = robust_z_score({day: value * 3 if day >= DAY - timedelta(days=7) else value for day, value in mondays}, DAY, 100)
    assert found is not None
    assert (found.expected, found.days) == (600, 28)


def test_drop_in_a_rising_season_scores_high() -> None:
    rising = [(day, value * (1 + 0.02 * (DAY - timedelta(days=28) - day).days * -1)) for day, value in weeks(4)]
    level = rising[6][1]
    assert abs(score(level * 1.14, rising)) < 3.5
    assert score(level * 0.6, rising) < -3.5


def test_less_than_three_weeks_has_no_score() -> None:
    assert robust_z_score(dict(weeks(2)), DAY, 600) is None
    assert robust_z_score({}, DAY, 600) is None
    assert robust_z_score(dict(weeks(3)), DAY, 600) is not None


def test_weekday_without_history_has_no_score() -> None:
    past = [(day, value) for day, value in weeks(4) if day.weekday() != 0]
    assert robust_z_score(dict(past), DAY, 600) is None


def test_history_of_zeros_has_no_score() -> None:
    assert robust_z_score({day: 0.0 for day, _ in weeks(4)}, DAY, 600) is None


def test_constant_history_tolerates_a_cent() -> None:
    past = [(day, 1000.0) for day, _ in weeks(4)]
    assert abs(score(1000.01, past)) < 3.5
    assert score(900, past) < -3.5
