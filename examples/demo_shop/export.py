"""Convert the shop's history to the rows of each entity's daily files, as text.

A file holds what was created or changed that day. Each change of an order is a row, so a file can hold one order several
times. Only ``categories`` is exported in full every day.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Dict, List, Tuple

from demo_shop.catalogue import CATEGORIES
from demo_shop.people import City
from demo_shop.trade import ShopHistory

COLUMNS: Dict[str, Tuple[str, ...]] = {
    "customers": (
        *("customer_id", "first_name", "last_name", "email", "phone", "street", "postal_code", "city", "state"),
        *("country", "registered_at", "updated_at"),
    ),
    "products": ("product_id", "name", "category_id", "list_price", "updated_at"),
    "categories": ("category_id", "category_name", "department"),
    "sellers": ("seller_id", "seller_name", "city", "country"),
    "orders": (
        *("order_id", "customer_id", "status", "ordered_at", "approved_at", "shipped_at", "delivered_at"),
        *("estimated_delivery_at", "ship_city", "ship_state", "ship_country", "updated_at"),
    ),
    "order_items": ("order_id", "line_number", "product_id", "seller_id", "quantity", "unit_price", "freight"),
    "payments": ("order_id", "sequence", "method", "installments", "amount"),
    "returns": (*("return_id", "order_id", "line_number", "product_id", "quantity", "unit_price", "returned_at", "reason"),),
    "reviews": ("review_id", "order_id", "score", "title", "comment", "created_at"),
}
KEYS: Dict[str, Tuple[str, ...]] = {
    entity: columns[: 2 if entity in ("order_items", "payments") else 1] for entity, columns in COLUMNS.items()
}

Row = List[str]
Export = Dict[str, Dict[date, List[Row]]]


def build_export(history: ShopHistory) -> Export:
    """Return ``{entity: {day: rows}}`` for every entity and day of ``history``, without later events."""
    rows: Export = {entity: {day: [] for day in history.days} for entity in COLUMNS}

    def add(entity: str, day: date, *values: object) -> None:
        if day in rows[entity]:
            rows[entity][day].append([_format_value(value) for value in values])

    for day in history.days:
        for customer in history.customers[day]:
            name = (customer.first_name, customer.last_name, customer.email, customer.phone)
            address = (customer.street, customer.postal_code, *_place(customer.city))
            add("customers", day, customer.customer_id, *name, *address, customer.registered_at, customer.updated_at)
        for product in history.products[day]:
            category, price = product.category.category_id, _euros(product.list_price)
            add("products", day, product.product_id, product.name, category, price, product.updated_at)
        for seller in history.sellers[day]:
            add("sellers", day, seller.seller_id, seller.name, seller.city, seller.country)
        for kind in CATEGORIES:
            add("categories", day, kind.category_id, kind.name, kind.department)
    for order in history.orders:
        for line in order.lines:
            product, price = line.product, _euros(line.unit_price)
            ids = (order.order_id, line.number, product.product_id, product.seller.seller_id)
            add("order_items", order.placed_at.date(), *ids, line.quantity, price, _euros(line.freight))
        paid = order.reached_at("paid")
        if paid:
            for payment in order.payments:
                method = (payment.sequence, payment.method, payment.installments)
                add("payments", paid.date(), order.order_id, *method, _euros(payment.amount))
    changes = ((at, status, order) for order in history.orders for status, at in order.events)
    for at, status, order in sorted(changes, key=itemgetter(0)):
        reached = {each: time for each, time in order.events if time <= at}
        times = (order.placed_at, reached.get("paid"), reached.get("shipped"), reached.get("delivered"), order.promised_at)
        add("orders", at.date(), order.order_id, order.customer.customer_id, status, *times, *_place(order.city), at)
    returns = sorted((each.at, order.order_id, each.line.number, each) for order in history.orders for each in order.returns)
    for number, (at, order_id, _, each) in enumerate(returns, start=1):
        goods = (each.line.number, each.line.product.product_id, each.quantity, _euros(each.line.unit_price))
        add("returns", at.date(), f"R-{number:05d}", order_id, *goods, at, each.reason)
    reviews = sorted((order.review[0], order.order_id, order.review[1]) for order in history.orders if order.review)
    for number, (at, order_id, review) in enumerate(reviews, start=1):
        add("reviews", at.date(), f"V-{number:05d}", order_id, review.score, review.title, review.comment, at)
    return rows


def _place(city: City) -> Tuple[str, str, str]:
    return city.name, city.state, city.country


def _euros(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _format_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "" if value is None else str(value)
