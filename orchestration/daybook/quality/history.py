"""Is a day's figure unlike the days before? A robust z-score that compares each day with its own weekday.

Here: the arithmetic. Not here: which figures are watched (contracts), fetching their past (``daybook.notebook.quality``).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Optional

_SCALE = 0.6745
"""Makes the median absolute deviation comparable to a standard deviation. Source: Iglewicz and Hoaglin, 1993."""
_LEAST_SPREAD = 0.01
"""A history steadier than 1 % counts as this steady: else a cent would be unusual where nothing ever changes."""


@dataclass(frozen=True)
class Score:
    """How far a figure is from what its weekday lets expect."""

    z: float
    expected: float
    days: int


def robust_score(past: Sequence[tuple[date, float]], day: date, value: float) -> Optional[Score]:
    """Score a day's figure against those of earlier days.

    Each day is taken as its relative distance from the median of its weekday (of the other weeks, for a past day), so that
    quiet Sundays do not make Mondays unusual; the score is the day's distance in median absolute deviations. None where there
    are fewer than two weeks, or fewer than two days of the weekday, to compare with.
    """
    weekdays: dict[int, list[tuple[date, float]]] = defaultdict(list)
    for each in past:
        weekdays[each[0].weekday()].append(each)
    distances = []
    for others in weekdays.values():
        for when, figure in others:
            rest = [other for other_day, other in others if other_day != when]
            if rest and statistics.median(rest):
                middle = statistics.median(rest)
                distances.append((figure - middle) / abs(middle))
    same = [figure for _, figure in weekdays[day.weekday()]]
    if len(past) < 14 or len(same) < 2 or len(distances) < 7 or not statistics.median(same):
        return None
    expected = statistics.median(same)
    centre = statistics.median(distances)
    spread = max(statistics.median(abs(each - centre) for each in distances), _LEAST_SPREAD)
    distance = (value - expected) / abs(expected)
    return Score(_SCALE * (distance - centre) / spread, expected, len(past))
