"""Test the demand of the shop by season, weekday and hour."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from statistics import mean

import pytest

from demo_shop.demand import black_friday, draw_order_times, plan_orders, season_factor, skip_repeated_hour
from demo_shop.random_streams import random_stream

TWO_MONTHS = [date(2025, 12, 5) - timedelta(days=back) for back in reversed(range(60))]


@pytest.fixture
def plan():
    return plan_orders(random_stream(7, "demand"), TWO_MONTHS, 300)


@pytest.mark.parametrize("day", [date(2024, 11, 29), date(2025, 11, 28), date(2026, 11, 27), date(2029, 11, 23)])
def test_black_friday_follows_the_fourth_thursday_of_november(day):
    assert black_friday(day.year) == day


def test_average_day_has_the_given_number_of_orders(plan):
    assert mean(plan.values()) == pytest.approx(300, rel=0.03)


def test_black_friday_peaks_and_cyber_monday_is_second(plan):
    first, second = sorted(plan, key=plan.__getitem__, reverse=True)[:2]
    assert (first, second) == (date(2025, 11, 28), date(2025, 12, 1))
    assert plan[first] > 2.4 * mean(plan[day] for day in TWO_MONTHS if day.month == 10)


def test_november_grows_towards_black_week():
    assert season_factor(date(2025, 10, 15)) < season_factor(date(2025, 11, 5)) < season_factor(date(2025, 11, 20))
    assert season_factor(date(2025, 11, 23)) < season_factor(date(2025, 11, 24)) < season_factor(date(2025, 11, 27))


def test_sundays_have_most_and_saturdays_fewest_orders(plan):
    by_weekday = {
        weekday: mean(plan[day] for day in plan if day.month == 10 and day.weekday() == weekday) for weekday in range(7)
    }
    assert max(by_weekday, key=by_weekday.__getitem__) == 6
    assert min(by_weekday, key=by_weekday.__getitem__) == 5


def test_orders_peak_on_sunday_evenings():
    def evening_share(day):
        times = draw_order_times(random_stream(7, "hours"), day, 4000)
        return mean(at.hour in (19, 20, 21) for at in times)

    sunday, tuesday = evening_share(date(2025, 10, 12)), evening_share(date(2025, 10, 14))
    assert sunday > 0.3
    assert sunday > 1.2 * tuesday


def test_no_order_in_the_hour_of_the_clock_change():
    times = draw_order_times(random_stream(7, "hours"), date(2025, 10, 26), 4000)
    assert 2 not in Counter(at.hour for at in times)
    assert skip_repeated_hour(datetime(2025, 10, 26, 2, 30)) == datetime(2025, 10, 26, 3, 30)
    assert skip_repeated_hour(datetime(2025, 10, 26, 1, 30)) == datetime(2025, 10, 26, 1, 30)


def test_files_hold_as_many_new_orders_as_planned(shop):
    landed = {(row[0], day) for day in shop.summary.days for row in shop.read("order_items", day) if row[0][:3] == "DB-"}
    per_day = Counter(day for _, day in landed)
    assert per_day == plan_orders(random_stream(7, "demand"), shop.summary.days, 300)
