"""Test the simulated shop: order events, amounts, customers and products."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from statistics import mean

import pytest

from demo_shop.trade import ShopHistory, simulate_trade

DAYS = [date(2025, 11, 30) - timedelta(days=back) for back in reversed(range(45))]
NEXT_STATUSES = {
    "created": {"paid", "cancelled"},
    "paid": {"shipped", "cancelled"},
    "shipped": {"delivered"},
}


@pytest.fixture(scope="module")
def history() -> ShopHistory:
    return simulate_trade(7, DAYS, 200)


def test_orders_go_from_created_to_delivered_or_cancelled(history):
    for order in history.orders:
        statuses = [status for status, _ in order.events]
        assert statuses[0] == "created"
        assert statuses[-1] in {"delivered", "cancelled"}
        assert all(after in NEXT_STATUSES[before] for before, after in zip(statuses, statuses[1:]))


def test_events_are_ordered_and_avoid_the_clock_change(history):
    for order in history.orders:
        times = [at for _, at in order.events]
        assert all(before < after for before, after in zip(times, times[1:]))
        assert all(at.hour != 2 for at in times)


def test_order_numbers_follow_order_times(history):
    times = [order.placed_at for order in history.orders]
    assert times == sorted(times)
    assert [order.number for order in history.orders] == list(range(1, len(times) + 1))


def test_four_percent_of_orders_are_cancelled(history):
    cancelled = [order for order in history.orders if order.reached_at("cancelled")]
    assert len(cancelled) / len(history.orders) == pytest.approx(0.04, abs=0.01)
    assert any(order.reached_at("cancelled").date() > order.placed_at.date() for order in cancelled)


def test_seven_percent_of_lines_return_in_3_to_15_days(history):
    delivered = [order for order in history.orders if order.reached_at("delivered")]
    returns = [(order, each) for order in delivered for each in order.returns]
    assert len(returns) / sum(len(order.lines) for order in delivered) == pytest.approx(0.07, abs=0.015)
    for order, each in returns:
        assert 3 <= (each.at.date() - order.reached_at("delivered").date()).days <= 15
        assert 1 <= each.quantity <= each.line.quantity


def test_reviews_come_two_to_ten_days_after_delivery(history):
    reviewed = [order for order in history.orders if order.review]
    assert len(reviewed) > 0.2 * len(history.orders)
    assert all(2 <= (order.review[0].date() - order.reached_at("delivered").date()).days <= 10 for order in reviewed)


def test_late_deliveries_are_few_and_get_worse_scores(history):
    scores = {True: [], False: []}
    for order in history.orders:
        if order.review:
            scores[order.reached_at("delivered") > order.promised_at].append(order.review[1].score)
    assert 0.02 < len(scores[True]) / len(scores[True] + scores[False]) < 0.13
    assert mean(scores[True]) < mean(scores[False]) - 0.5


def test_payments_add_up_to_lines_and_freight_to_the_cent(history):
    for order in history.orders:
        total = sum(line.quantity * line.unit_price + line.freight for line in order.lines)
        assert sum(payment.amount for payment in order.payments) == (total if order.reached_at("paid") else 0)
        assert all(payment.amount > 0 for payment in order.payments)
    assert {len(order.payments) for order in history.orders} == {0, 1, 2}


def test_freight_is_the_country_s_rate_or_free_for_large_orders(history):
    rates = {"DE": 495, "AT": 795, "NL": 795, "CH": 1290}
    for order in history.orders:
        goods = sum(line.quantity * line.unit_price for line in order.lines)
        assert sum(line.freight for line in order.lines) == (0 if goods >= 7900 else rates[order.city.country])


def test_orders_ship_to_the_customers_newest_address(history):
    newest = {}
    orders = iter(history.orders)
    order = next(orders)
    for day in history.days:
        while order and order.placed_at.date() == day:
            known = newest.get(order.customer.number, order.customer)
            assert order.customer == known or known.updated_at < order.customer.updated_at <= order.placed_at
            assert order.city == order.customer.city
            order = next(orders, None)
        newest.update({customer.number: customer for customer in history.customers[day]})


def test_baskets_hold_one_to_six_different_products(history):
    sizes = Counter(len(order.lines) for order in history.orders)
    assert set(sizes) == {1, 2, 3, 4, 5, 6}
    assert sizes[1] > sizes[2] > sizes[3] > sizes[4]
    assert all(len({line.product.number for line in order.lines}) == len(order.lines) for order in history.orders)


def test_prices_end_in_49_or_99_and_fall_in_black_week(history):
    lines = [(order.placed_at.date(), line) for order in history.orders for line in order.lines]
    assert {line.unit_price % 100 for _, line in lines} == {49, 99}
    reduced = {day for day, line in lines if line.unit_price < line.product.list_price}
    assert reduced == {date(2025, 11, 24) + timedelta(days=days) for days in range(7)}


def test_top_tenth_of_products_has_about_half_the_sales(history):
    sold = Counter(line.product.number for order in history.orders for line in order.lines)
    top_tenth = sum(count for _, count in sold.most_common(40))
    assert 0.3 < top_tenth / sum(sold.values()) < 0.6
    assert len(sold) > 390


def test_third_of_orders_are_from_returning_customers(history):
    seen = set()
    returning = 0
    for order in history.orders:
        returning += order.customer.number in seen
        seen.add(order.customer.number)
    assert returning / len(history.orders) == pytest.approx(0.35, abs=0.04)


def test_day_exports_its_products_and_customers(history):
    for order in history.orders:
        day = order.placed_at.date()
        assert {line.product for line in order.lines} <= set(history.products[day])
        assert order.customer.number in {customer.number for customer in history.customers[day]}


def test_equal_versions_have_equal_content(history):
    for of_days in (history.customers, history.products):
        versions = {}
        for records in of_days.values():
            for record in records:
                assert versions.setdefault((record.number, record.updated_at), record) == record


def test_some_customers_change_and_some_never_order(history):
    versions = Counter()
    for records in history.customers.values():
        versions.update({(record.number, record.updated_at) for record in records})
    per_customer = Counter(number for number, _ in versions)
    buyers = {order.customer.number for order in history.orders}
    assert any(count > 1 for count in per_customer.values())
    assert set(per_customer) > buyers
