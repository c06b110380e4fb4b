"""The shop's trade: who orders what on each day, and how each order goes on from there.

Money is whole cents.
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

RETURNING_SHARE = 0.37  # of a day's orders, once the shop has regulars to come back
CANCELLED_SHARE = 0.04
REVIEWED_SHARE = 0.28

_RETURN_REASONS = ("Gefällt nicht", "Zu klein", "Zu groß", "Defekt", "Falscher Artikel", "Zu spät geliefert")
_PAYMENT_METHODS = ("paypal", "credit_card", "invoice", "voucher")
_METHOD_WEIGHTS = (37, 34, 25, 4)
# Per country: days from order to the promised delivery, days in transit (with weights), freight of an order in cents.
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
    """One part of how an order was paid; ``amount`` in cents."""

    sequence: int
    method: str
    installments: int
    amount: int


@dataclass(frozen=True)
class ReturnedLine:
    """A delivered line that comes back, wholly or in part."""

    line: OrderLine
    quantity: int
    at: datetime
    reason: str


@dataclass
class Order:
    """An order and all that ever happens to it; ``events`` are (status, time) in order of time, ``created`` first."""

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
        """The id as the landing files show it, like ``DB-000123``."""
        return f"DB-{self.number:06d}"

    @property
    def placed_at(self) -> datetime:
        """When the order was placed."""
        return self.events[0][1]

    def reached_at(self, status: str) -> Optional[datetime]:
        """Return when the order reached ``status``, ``None`` if it never does."""
        return next((at for reached, at in self.events if reached == status), None)


@dataclass
class ShopHistory:
    """Everything that happened in the shop over ``days``; what orders do after the last day is known here, too.

    ``customers``, ``products`` and ``sellers`` hold for each day the versions a delta export of that day carries.
    """

    days: List[date]
    orders: List[Order]
    customers: Dict[date, List[Customer]]
    products: Dict[date, List[Product]]
    sellers: Dict[date, List[Seller]]


def simulate_trade(seed: int, days: Sequence[date], orders_per_day: int) -> ShopHistory:
    """Let the shop trade over consecutive ``days``; the same arguments always give the same world."""
    chance = random_stream(seed, "trade")
    fate = random_stream(seed, "lifecycle")
    catalogue = Catalogue(random_stream(seed, "catalogue"), days[0])
    clientele = CustomerBase(random_stream(seed, "people"))
    planned = plan_orders(random_stream(seed, "demand"), days, orders_per_day)
    world = ShopHistory(list(days), [], {}, {}, {})
    shoppers = _CustomerPicker(chance, clientele)
    for day in days:
        # The first day loads products and sellers in full, as the first delivery of a delta export does.
        first = day == days[0]
        exported = {product.number for product in (catalogue.products if first else catalogue.reprice(day))}
        moved = catalogue.relocate_seller()
        world.sellers[day] = list(catalogue.sellers) if first else [moved] if moved else []
        demand = catalogue.cumulative_demand(day)
        for at in draw_order_times(chance, day, planned[day]):
            customer = shoppers.next(at)
            lines = _fill_basket(chance, catalogue.products, demand, day, customer.city)
            order = _place_order(chance, len(world.orders) + 1, customer, at, lines)
            _add_order_events(fate, order)
            world.orders.append(order)
            exported.update(line.product.number for line in lines)
        world.customers[day] = shoppers.close(day)
        world.products[day] = [catalogue.products[number - 1] for number in sorted(exported)]
    return world


class _CustomerPicker:
    """Chooses who orders next: somebody new, somebody registered but so far idle, or somebody who comes back."""

    def __init__(self, chance: Random, clientele: CustomerBase) -> None:
        self._chance = chance
        self._clientele = clientele
        self._idle: List[Customer] = []
        self._returning: List[Customer] = []
        self._regulars: List[Customer] = []
        self._new_today: List[Customer] = []
        self._seen_today: Dict[int, Customer] = {}
        self._days_closed = 0

    def next(self, at: datetime) -> Customer:
        """Return the customer who orders at ``at``, in the version of that moment."""
        # A shop that has just begun to write its daybook has few customers to return: the share grows over a week.
        if self._returning and self._chance.random() < RETURNING_SHARE * min(1.0, self._days_closed / 7):
            pool = self._regulars if self._regulars and self._chance.random() < 0.35 else self._returning
            customer = self._clientele.newest(self._chance.choice(pool))
            if self._chance.random() < 0.03:
                customer = self._clientele.move(customer, at)
        else:
            customer = self._register_customer(at)
            self._new_today.append(customer)
        self._seen_today[customer.number] = customer
        return customer

    def close(self, day: date) -> List[Customer]:
        """End ``day``: let some register or change their data without ordering; return the day's newest versions."""
        evening = datetime.combine(day, time(hour=23))
        for _ in range(len(self._new_today) // 20):
            customer = self._clientele.register(evening + timedelta(seconds=self._chance.randrange(3600)))
            self._idle.append(customer)
            self._seen_today[customer.number] = customer
        for _ in range(len(self._returning) // 1000):
            changed = self._chance.choice(self._returning)
            # One change a day: two under one time stamp would leave "the newest version" undefined.
            if changed.number not in self._seen_today:
                late = evening + timedelta(seconds=self._chance.randrange(3600))
                self._seen_today[changed.number] = self._clientele.change_phone(changed, late)
        self._returning.extend(self._new_today)
        self._regulars.extend(customer for customer in self._new_today if customer.regular)
        self._new_today = []
        self._days_closed += 1
        seen = [self._clientele.newest(customer) for _, customer in sorted(self._seen_today.items())]
        self._seen_today = {}
        return seen

    def _register_customer(self, at: datetime) -> Customer:
        if self._idle and self._chance.random() < 0.04:
            return self._idle.pop(self._chance.randrange(len(self._idle)))
        return self._clientele.register(at)


def _fill_basket(
    chance: Random, products: Sequence[Product], demand: Sequence[float], day: date, city: City
) -> List[OrderLine]:
    wanted = chance.choices((1, 2, 3, 4, 5, 6), (52, 26, 12, 6, 3, 1))[0]
    chosen: List[Product] = []
    while len(chosen) < wanted:
        product = products[min(bisect(demand, chance.random() * demand[-1]), len(products) - 1)]
        if product not in chosen:
            chosen.append(product)
    quantities = chance.choices((1, 2, 3, 4), (84, 11, 3, 2), k=wanted)
    prices = [unit_price(product, day) for product in chosen]
    goods = sum(price * quantity for price, quantity in zip(prices, quantities))
    freight = 0 if goods >= _FREE_FREIGHT_FROM else _FREIGHT[city.country]
    shares = _split_amount(freight, wanted)
    return [
        OrderLine(number, product, quantity, price, share)
        for number, (product, quantity, price, share) in enumerate(zip(chosen, quantities, prices, shares), start=1)
    ]


def _split_amount(amount: int, parts: int) -> List[int]:
    """Return ``parts`` shares of ``amount`` that differ by at most one cent and add up to it."""
    share, rest = divmod(amount, parts)
    return [share + (index < rest) for index in range(parts)]


def _place_order(chance: Random, number: int, customer: Customer, at: datetime, lines: List[OrderLine]) -> Order:
    days = _PROMISED_DAYS[customer.city.country] + (at.weekday() >= FRIDAY)  # a Sunday lies on the way
    promised = datetime.combine(at.date() + timedelta(days=days), time(hour=20))
    total = sum(line.quantity * line.unit_price + line.freight for line in lines)
    return Order(number, customer, customer.city, promised, lines, _draw_payments(chance, total), [("created", at)])


def _draw_payments(chance: Random, total: int) -> List[Payment]:
    method = chance.choices(_PAYMENT_METHODS, _METHOD_WEIGHTS)[0]
    installments = 1
    if method == "credit_card" and total >= 15000 and chance.random() < 0.35:
        installments = chance.choice((3, 6, 12))
    voucher = chance.choice((1000, 1500, 2500))
    if method != "voucher" and total > voucher and chance.random() < 0.05:
        return [Payment(1, "voucher", 1, voucher), Payment(2, method, installments, total - voucher)]
    return [Payment(1, method, installments, total)]


def _add_order_events(chance: Random, order: Order) -> None:
    """Add to ``order`` what happens after it was placed: each event strictly later than the one before."""
    cancelled = chance.random() < CANCELLED_SHARE
    if cancelled and chance.random() < 0.3:
        order.payments = []
        order.events.append(("cancelled", _add_seconds(order.placed_at, chance.randint(3600, 4 * 86400))))
        return
    on_invoice = order.payments[-1].method == "invoice"
    check = chance.randint(1800, 30 * 3600) if on_invoice else chance.randint(20, 1200)
    paid = _add_seconds(order.placed_at, check)
    order.events.append(("paid", paid))
    if cancelled:
        order.events.append(("cancelled", _add_seconds(paid, chance.randint(3600, 3 * 86400))))
        return
    shipped = _draw_shipped_at(chance, paid)
    order.events.append(("shipped", shipped))
    delivered = _draw_delivered_at(chance, shipped, order.city)
    order.events.append(("delivered", delivered))
    for line in order.lines:
        if chance.random() < line.product.category.return_rate:
            quantity = chance.randint(1, line.quantity)
            at = _draw_day(chance, delivered.date(), 3, 15)
            order.returns.append(ReturnedLine(line, quantity, at, chance.choice(_RETURN_REASONS)))
    if chance.random() < REVIEWED_SHARE:
        opinion = draw_review(chance, order.customer, late=delivered > order.promised_at)
        order.review = (_draw_day(chance, delivered.date(), 2, 10), opinion)


def _add_seconds(moment: datetime, seconds: int) -> datetime:
    return skip_repeated_hour(moment + timedelta(seconds=seconds))


def _draw_shipped_at(chance: Random, paid: datetime) -> datetime:
    """Return when the warehouse hands the parcel over: not on Sundays, and later in the crush of Black Week."""
    handling = chance.choices((0, 1, 2), (45, 45, 10))[0] + (chance.randint(0, 2) if is_black_week(paid.date()) else 0)
    if handling == 0 and paid.hour >= 13:
        handling = 1
    return _draw_working_time(chance, paid.date() + timedelta(days=handling), first_hour=14, last_hour=18)


def _draw_delivered_at(chance: Random, shipped: datetime, city: City) -> datetime:
    days, weights = _TRANSIT_DAYS[city.country]
    transit = chance.choices(days, weights)[0] + (1 if shipped.weekday() == SATURDAY else 0)
    return _draw_working_time(chance, shipped.date() + timedelta(days=transit), first_hour=9, last_hour=18)


def _draw_working_time(chance: Random, day: date, first_hour: int, last_hour: int) -> datetime:
    if day.weekday() == SUNDAY:
        day += timedelta(days=1)
    return datetime.combine(day, time(chance.randint(first_hour, last_hour), chance.randrange(60), chance.randrange(60)))


def _draw_day(chance: Random, after: date, first: int, last: int) -> datetime:
    day = after + timedelta(days=chance.randint(first, last))
    return datetime.combine(day, time(chance.randint(7, 22), chance.randrange(60), chance.randrange(60)))
