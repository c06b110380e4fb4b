"""Convert the shop's history to the rows of each entity's daily files, as text.

A file holds what was created or changed that day. Each change of an order is a row, so a file can hold one order several
times. Only ``categories`` is exported in full every day.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Dict, List, Tuple

from demo_shop.catalogue import CATEGORIES, Product, Seller
from demo_shop.people import Customer
from demo_shop.trade import Order, ShopHistory

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
    "customers": ("customer_id",),
    "products": ("product_id",),
    "categories": ("category_id",),
    "sellers": ("seller_id",),
    "orders": ("order_id",),
    "order_items": ("order_id", "line_number"),
    "payments": ("order_id", "sequence"),
    "returns": ("return_id",),
    "reviews": ("review_id",),
}

Row = List[str]
Export = Dict[str, Dict[date, List[Row]]]


def build_export(history: ShopHistory) -> Export:
    """Return ``{entity: {day: rows}}`` for every entity and day of ``history``, without later events."""
    rows: Export = {entity: {day: [] for day in history.days} for entity in COLUMNS}
    for day in history.days:
        rows["customers"][day] = [_customer_row(customer) for customer in history.customers[day]]
        rows["products"][day] = [_product_row(product) for product in history.products[day]]
        rows["sellers"][day] = [_seller_row(seller) for seller in history.sellers[day]]
        rows["categories"][day] = [[each.category_id, each.name, each.department] for each in CATEGORIES]
    for order in history.orders:
        _export_order(order, rows)
    updated_at = COLUMNS["orders"].index("updated_at")
    for of_day in rows["orders"].values():
        of_day.sort(key=lambda row: row[updated_at])
    _export_returns(history.orders, rows["returns"])
    _export_reviews(history.orders, rows["reviews"])
    return rows


def _export_order(order: Order, rows: Export) -> None:
    rows["order_items"][order.placed_at.date()].extend(
        [
            *(order.order_id, str(line.number), line.product.product_id, line.product.seller.seller_id),
            *(str(line.quantity), _format_euros(line.unit_price), _format_euros(line.freight)),
        ]
        for line in order.lines
    )
    paid = order.reached_at("paid")
    if paid and paid.date() in rows["payments"]:
        rows["payments"][paid.date()].extend(
            [order.order_id, str(each.sequence), each.method, str(each.installments), _format_euros(each.amount)]
            for each in order.payments
        )
    reached: Dict[str, str] = {}
    for status, at in order.events:
        reached[status] = _format_time(at)
        if at.date() in rows["orders"]:
            rows["orders"][at.date()].append(_order_row(order, status, at, reached))


def _order_row(order: Order, status: str, at: datetime, reached: Dict[str, str]) -> Row:
    return [
        *(order.order_id, order.customer.customer_id, status, reached["created"]),
        *(reached.get("paid", ""), reached.get("shipped", ""), reached.get("delivered", ""), _format_time(order.promised_at)),
        *(order.city.name, order.city.state, order.city.country, _format_time(at)),
    ]


def _export_returns(orders: List[Order], rows: Dict[date, List[Row]]) -> None:
    events = sorted(
        ((each.at, order.order_id, each) for order in orders for each in order.returns),
        key=lambda event: (event[0], event[1], event[2].line.number),
    )
    for number, (at, order_id, each) in enumerate(events, start=1):
        if at.date() in rows:
            rows[at.date()].append(
                [
                    *(f"R-{number:05d}", order_id, str(each.line.number), each.line.product.product_id),
                    *(str(each.quantity), _format_euros(each.line.unit_price), _format_time(at), each.reason),
                ]
            )


def _export_reviews(orders: List[Order], rows: Dict[date, List[Row]]) -> None:
    events = sorted(
        ((order.review[0], order.order_id, order.review[1]) for order in orders if order.review),
        key=lambda event: event[:2],
    )
    for number, (at, order_id, review) in enumerate(events, start=1):
        if at.date() in rows:
            rows[at.date()].append(
                [
                    *(f"V-{number:05d}", order_id, str(review.score)),
                    *(review.title or "", review.comment or "", _format_time(at)),
                ]
            )


def _customer_row(customer: Customer) -> Row:
    return [
        *(customer.customer_id, customer.first_name, customer.last_name, customer.email, customer.phone or ""),
        *(customer.street, customer.postal_code, customer.city.name, customer.city.state, customer.city.country),
        *(_format_time(customer.registered_at), _format_time(customer.updated_at)),
    ]


def _product_row(product: Product) -> Row:
    return [
        *(product.product_id, product.name, product.category.category_id),
        *(_format_euros(product.list_price), _format_time(product.updated_at)),
    ]


def _seller_row(seller: Seller) -> Row:
    return [seller.seller_id, seller.name, seller.city, seller.country]


def _format_time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _format_euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
