"""Compare a day's figure with the days before: a robust z-score by weekday and level of the last week."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Optional

_MAD_SCALE = 0.6745
"""Makes the median absolute deviation comparable to a standard deviation. Source: Iglewicz and Hoaglin, 1993."""
_MIN_SPREAD = 0.01
"""Lower bound of the spread (1 %): without it, a cent would be unusual for a figure that never changes."""
_DAYS_PER_WEEK = 7
_MIN_DAYS_IN_WEEK = 4
"""Minimum number of days with a figure among the seven before, for a shop that is closed on some days."""


@dataclass(frozen=True)
class AnomalyScore:
    """How far a figure is from the one expected from its weekday and the week before, over ``days`` days."""

    z_score: float
    expected: float
    days: int


def robust_z_score(past: Mapping[date, float], day: date, value: float) -> Optional[AnomalyScore]:
    """Score a day's figure against those of earlier days.

    Each figure is divided by the level of the seven days before it, so that a rising season is not unusual. This share is
    divided by the median share of its weekday, so that quiet Sundays do not make Mondays unusual. The score is the distance of
    the day from the median, in median absolute deviations of the past days, scaled as a standard deviation.

    Parameters
    ----------
    past
        The figures of earlier days, in any unit.
    day, value
        The day to score and its figure.

    Returns
    -------
    AnomalyScore or None
        None if there is too little to compare with: fewer than two days of the weekday that have a week before them, or fewer
        than seven days in all.
    """
    shares: dict[int, dict[date, float]] = defaultdict(dict)
    for when, figure in past.items():
        level = _trimmed_weekly_mean(past, when)
        if level:
            shares[when.weekday()][when] = figure / level
    level, same = _trimmed_weekly_mean(past, day), list(shares[day.weekday()].values())
    distances = []
    for of_weekday in shares.values():
        for when, share in of_weekday.items():
            others = [other for other_day, other in of_weekday.items() if other_day != when]
            if others and statistics.median(others):
                distances.append(share / statistics.median(others) - 1)
    if not level or len(same) < 2 or len(distances) < _DAYS_PER_WEEK or not statistics.median(same):
        return None
    centre = statistics.median(distances)
    spread = max(statistics.median(abs(each - centre) for each in distances), _MIN_SPREAD)
    expected = level * statistics.median(same)
    return AnomalyScore(_MAD_SCALE * (value / expected - 1 - centre) / spread, expected, len(past))


def _trimmed_weekly_mean(figures: Mapping[date, float], day: date) -> Optional[float]:
    """Return the mean of the seven days before a day without the highest and the lowest; None if too few have a figure.

    In a rising season it finds a day of two fifths less about twice as often as a median does, with as few false alarms.
    Without dropping the extremes, one outlier would make the days of a week after it look unusual.
    """
    before = sorted(figure for when, figure in figures.items() if 0 < (day - when).days <= _DAYS_PER_WEEK)
    return statistics.fmean(before[1:-1]) if len(before) >= _MIN_DAYS_IN_WEEK else None
