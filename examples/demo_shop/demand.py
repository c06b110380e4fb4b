"""Plan the number of orders a day and draw their times.

All times are local times of the shop (Europe/Berlin) without an offset. No time is between 02:00 and 02:59, the hour that
daylight saving skips in spring and repeats in autumn.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from random import Random
from typing import Dict, List, Sequence

FRIDAY, SATURDAY, SUNDAY = 4, 5, 6

# Monday to Sunday.
_WEEKDAY_FACTORS = (1.08, 1.02, 0.98, 0.97, 0.92, 0.83, 1.20)
_WORKDAY_HOURS = (6, 3, 0, 1, 1, 2, 6, 12, 20, 28, 34, 38, 44, 40, 36, 36, 40, 44, 50, 62, 70, 62, 38, 18)
_SUNDAY_HOURS = (7, 4, 0, 1, 1, 1, 3, 7, 14, 24, 32, 34, 34, 34, 36, 40, 46, 56, 76, 104, 122, 96, 48, 18)
_NOISE = 0.04


def black_friday(year: int) -> date:
    """Return the day after the fourth Thursday of November."""
    first = date(year, 11, 1)
    return first + timedelta(days=(3 - first.weekday()) % 7 + 21 + 1)


def season_factor(day: date) -> float:
    """Return the seasonal factor of ``day``: 0.85 in October, 2.9 on Black Friday."""
    to_friday = (black_friday(day.year) - day).days
    peaks = {4: 1.35, 3: 1.35, 2: 1.45, 1: 1.8, 0: 2.9, -1: 2.1, -2: 1.55, -3: 2.3}
    if to_friday in peaks:
        return peaks[to_friday]
    if day.month == 12:
        if day.day <= 17:
            return 1.5
        return 1.1 if day.day <= 22 else 0.55
    if day.month == 11:
        return 0.88 + 0.3 * (day.day / 23)
    return 0.85


def plan_orders(rng: Random, days: Sequence[date], orders_per_day: int) -> Dict[date, int]:
    """Return the number of orders of each day; the average over ``days`` is close to ``orders_per_day``."""
    shares = {day: season_factor(day) * _WEEKDAY_FACTORS[day.weekday()] for day in days}
    scale = orders_per_day * len(days) / sum(shares.values())
    return {day: max(1, round(share * scale * rng.gauss(1.0, _NOISE))) for day, share in shares.items()}


def draw_order_times(rng: Random, day: date, count: int) -> List[datetime]:
    """Draw ``count`` times of ``day``, sorted, with an evening peak that is strongest on Sundays."""
    hours = _SUNDAY_HOURS if day.weekday() == SUNDAY else _WORKDAY_HOURS
    midnight = datetime.combine(day, time())
    return sorted(
        midnight + timedelta(seconds=hour * 3600 + rng.randrange(3600)) for hour in rng.choices(range(24), hours, k=count)
    )


def skip_repeated_hour(moment: datetime) -> datetime:
    """Return ``moment``, or an hour later if it is between 02:00 and 02:59."""
    return moment + timedelta(hours=1) if moment.hour == 2 else moment
