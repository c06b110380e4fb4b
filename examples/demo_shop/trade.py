"""Simulate the shop's orders and their deliveries, returns and reviews.

Amounts of money are in cents.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Dict, List, Optional, Sequence, Tuple

from demo_shop.catalogue import Catalogue, Product, Seller, is_black_week, unit_price
from demo_shop.demand import FRIDAY, SATURDAY, SUNDAY, draw_order_times, plan_orders, skip_repeated_hour
from demo_shop.people import City, Customer, CustomerBase
from demo_shop.random_streams import random_stream
from demo_shop.reviews import ReviewContent, draw_review

CANCELLED_SHARE = 0.04
REVIEWED_SHARE = 0.28

_RETURN_REASONS = ("Gefällt nicht", "Zu klein", "Zu groß", "Defekt", "Falscher Artikel", "Zu spät geliefert")
_PAYMENT_METHODS = ("paypal", "credit_card", "invoice", "voucher")
_METHOD_WEIGHTS = (37, 34, 25, 4)
# Per country: days from order to promised delivery, days in transit with their weights, freight of an order in cents.
_PROMISED_DAYS = {"DE": 4, "AT": 5, "NL": 5, "CH": 8}
_TRANSIT_DAYS = {
    "DE": ((1, 2, 3), (50, 40, 10)),
    "AT": ((2, 3, 4), (50, 40, 10)),
    "NL": ((2, 3, 4), (50, 40, 10)),
    "CH": ((3, 4, 6), (40, 40, 20)),
}
_FREIGHT = {"DE": 495, "AT": 795, "NL": 795, "CH": 1290}
_FREE_FREIGHT_FROM = 7900


@dataclass(frozen=True)
class OrderLine:
    """One line of an order; ``unit_price`` and the line's share of the ``freight`` in cents."""

    number: int
    product: Product
    quantity: int
    unit_price: int
    freight: int


@dataclass(frozen=True)
class Payment:
    """One payment of an order; ``amount`` in cents."""

    sequence: int
    method: str
    installments: int
    amount: int


@dataclass(frozen=True)
class ReturnedLine:
    """A delivered line of which ``quantity`` pieces are returned."""

    line: OrderLine
    quantity: int
    at: datetime
    reason: str


@dataclass
class Order:
    """An order and its history; ``events`` are (status, time) in order of time, ``created`` first."""

    number: int
    customer: Customer
    city: City
    promised_at: datetime
    lines: List[OrderLine]
    payments: List[Payment]
    events: List[Tuple[str, datetime]]
    returns: List[ReturnedLine] = field(default_factory=list)
    review: Optional[Tuple[datetime, ReviewContent]] = None

    @property
    def order_id(self) -> str:
        """The id in the landing files, like ``DB-000123``."""
        return f"DB-{self.number:06d}"

    @property
    def placed_at(self) -> datetime:
        """The time of the order."""
        return self.events[0][1]

    def reached_at(self, status: str) -> Optional[datetime]:
        """Return the time at which the order reached ``status``, or None if it never did."""
        return next((at for reached, at in self.events if reached == status), None)


@dataclass
class ShopHistory:
    """The simulated history of ``days``, including events of their orders after the last day.

    ``customers``, ``products`` and ``sellers`` hold the versions that the delta export of each day contains.
    """

    days: List[date]
    orders: List[Order]
    customers: Dict[date, List[Customer]]
    products: Dict[date, List[Product]]
    sellers: Dict[date, List[Seller]]


def simulate_trade(seed: int, days: Sequence[date], orders_per_day: int) -> ShopHistory:
    """Simulate consecutive ``days``; the same arguments always give the same history."""
    rng = random_stream(seed, "trade")
    lifecycle_rng = random_stream(seed, "lifecycle")
    catalogue = Catalogue(random_stream(seed, "catalogue"), days[0])
    customers = CustomerBase(random_stream(seed, "people"), rng)
    planned = plan_orders(random_stream(seed, "demand"), days, orders_per_day)
    history = ShopHistory(list(days), [], {}, {}, {})
    for day in days:
        # The first file of a delta export contains all products and sellers.
        first = day == days[0]
        exported = {product.number for product in (catalogue.products if first else catalogue.reprice(day))}
        moved = catalogue.relocate_seller()
        history.sellers[day] = list(catalogue.sellers) if first else [moved] if moved else []
        demand = catalogue.cumulative_demand(day)
        for at in draw_order_times(rng, day, planned[day]):
            customer = customers.next(at)
            lines = _fill_basket(rng, catalogue.products, demand, day, customer.city)
            order = _place_order(rng, len(history.orders) + 1, customer, at, lines)
            _add_order_events(lifecycle_rng, order)
            history.orders.append(order)
            exported.update(line.product.number for line in lines)
        history.customers[day] = customers.close(day)
        history.products[day] = [catalogue.products[number - 1] for number in sorted(exported)]
    return history


def _fill_basket(rng: Random, products: Sequence[Product], demand: Sequence[float], day: date, city: City) -> List[OrderLine]:
    count = rng.choices((1, 2, 3, 4, 5, 6), (52, 26, 12, 6, 3, 1))[0]
    chosen: List[Product] = []
    while len(chosen) < count:
        product = products[min(bisect(demand, rng.random() * demand[-1]), len(products) - 1)]
        if product not in chosen:
            chosen.append(product)
    quantities = rng.choices((1, 2, 3, 4), (84, 11, 3, 2), k=count)
    prices = [unit_price(product, day) for product in chosen]
    goods = sum(price * quantity for price, quantity in zip(prices, quantities))
    freight = 0 if goods >= _FREE_FREIGHT_FROM else _FREIGHT[city.country]
    shares = _split_amount(freight, count)
    return [
        OrderLine(number, product, quantity, price, share)
        for number, (product, quantity, price, share) in enumerate(zip(chosen, quantities, prices, shares), start=1)
    ]


def _split_amount(amount: int, parts: int) -> List[int]:
    """Return ``parts`` shares of ``amount`` that differ by at most one cent and add up to it."""
    share, rest = divmod(amount, parts)
    return [share + (index < rest) for index in range(parts)]


def _place_order(rng: Random, number: int, customer: Customer, at: datetime, lines: List[OrderLine]) -> Order:
    days = _PROMISED_DAYS[customer.city.country] + (at.weekday() >= FRIDAY)  # no delivery on Sundays
    promised = datetime.combine(at.date() + timedelta(days=days), time(hour=20))
    total = sum(line.quantity * line.unit_price + line.freight for line in lines)
    return Order(number, customer, customer.city, promised, lines, _draw_payments(rng, total), [("created", at)])


def _draw_payments(rng: Random, total: int) -> List[Payment]:
    method = rng.choices(_PAYMENT_METHODS, _METHOD_WEIGHTS)[0]
    installments = 1
    if method == "credit_card" and total >= 15000 and rng.random() < 0.35:
        installments = rng.choice((3, 6, 12))
    voucher = rng.choice((1000, 1500, 2500))
    if method != "voucher" and total > voucher and rng.random() < 0.05:
        return [Payment(1, "voucher", 1, voucher), Payment(2, method, installments, total - voucher)]
    return [Payment(1, method, installments, total)]


def _add_order_events(rng: Random, order: Order) -> None:
    """Add the events of ``order`` after ``created``, each strictly later than the one before."""
    cancelled = rng.random() < CANCELLED_SHARE
    if cancelled and rng.random() < 0.3:
        order.payments = []
        order.events.append(("cancelled", _add_seconds(order.placed_at, rng.randint(3600, 4 * 86400))))
        return
    on_invoice = order.payments[-1].method == "invoice"
    check = rng.randint(1800, 30 * 3600) if on_invoice else rng.randint(20, 1200)
    paid = _add_seconds(order.placed_at, check)
    order.events.append(("paid", paid))
    if cancelled:
        order.events.append(("cancelled", _add_seconds(paid, rng.randint(3600, 3 * 86400))))
        return
    shipped = _draw_shipped_at(rng, paid)
    order.events.append(("shipped", shipped))
    delivered = _draw_delivered_at(rng, shipped, order.city)
    order.events.append(("delivered", delivered))
    for line in order.lines:
        if rng.random() < line.product.category.return_rate:
            quantity = rng.randint(1, line.quantity)
            at = _draw_day(rng, delivered.date(), 3, 15)
            order.returns.append(ReturnedLine(line, quantity, at, rng.choice(_RETURN_REASONS)))
    if rng.random() < REVIEWED_SHARE:
        review = draw_review(rng, order.customer, late=delivered > order.promised_at)
        order.review = (_draw_day(rng, delivered.date(), 2, 10), review)


def _add_seconds(moment: datetime, seconds: int) -> datetime:
    return skip_repeated_hour(moment + timedelta(seconds=seconds))


def _draw_shipped_at(rng: Random, paid: datetime) -> datetime:
    """Draw the time of shipping: never on Sundays, and up to two days later in Black Week."""
    handling = rng.choices((0, 1, 2), (45, 45, 10))[0] + (rng.randint(0, 2) if is_black_week(paid.date()) else 0)
    if handling == 0 and paid.hour >= 13:
        handling = 1
    return _draw_working_time(rng, paid.date() + timedelta(days=handling), first_hour=14, last_hour=18)


def _draw_delivered_at(rng: Random, shipped: datetime, city: City) -> datetime:
    days, weights = _TRANSIT_DAYS[city.country]
    transit = rng.choices(days, weights)[0] + (1 if shipped.weekday() == SATURDAY else 0)
    return _draw_working_time(rng, shipped.date() + timedelta(days=transit), first_hour=9, last_hour=18)


def _draw_working_time(rng: Random, day: date, first_hour: int, last_hour: int) -> datetime:
    if day.weekday() == SUNDAY:
        day += timedelta(days=1)
    return datetime.combine(day, time(rng.randint(first_hour, last_hour), rng.randrange(60), rng.randrange(60)))


def _draw_day(rng: Random, after: date, first: int, last: int) -> datetime:
    day = after + timedelta(days=rng.randint(first, last))
    return datetime.combine(day, time(rng.randint(7, 22), rng.randrange(60), rng.randrange(60)))
