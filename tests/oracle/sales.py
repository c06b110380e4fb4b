"""Compute the gold tables by date from silver, except customer segments and cohorts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import date
from decimal import Decimal
from typing import Any, Optional

from tests.oracle.contracts import Values
from tests.oracle.texts import local_day

Silver = dict[str, list[Values]]
ZERO = Decimal(0)


def gold_rows(silver: Silver, days: Collection[date], shop: str) -> dict[str, list[Values]]:
    """Return the rows of each gold table for the given dates."""
    orders = [{**each, "counts": each["status"] not in ("cancelled", "unavailable", "adjustment")} for each in silver["orders"]]
    of_days = [each for each in orders if each["order_date"] in days]
    lines = list(_lines(silver, {each["order_id"]: each for each in of_days}))
    counted = [each for each in of_days if each["counts"]]
    return {
        "daily_sales": _daily_sales(orders, of_days, lines),
        "category_sales": _sales_by(("category",), lines),
        "product_sales": _sales_by(("product_id", "category"), lines),
        "payment_mix": _payment_mix(counted, silver["payments"]),
        "delivery_performance": _delivery_performance(counted, shop),
    }


def _lines(silver: Silver, orders: dict[str, Values]) -> Iterable[Values]:
    """Yield the lines of orders; a line, also a returned one, counts on the date of its order."""
    categories = {each["product_id"]: each["category"] for each in silver["products"]}
    for line in silver["order_items"]:
        order = orders.get(line["order_id"])
        if order:
            yield {
                **{name: line[name] for name in ("order_id", "product_id", "quantity", "line_amount")},
                "order_date": order["order_date"],
                "category": categories.get(line["product_id"]) or "(none)",
                "sold": order["counts"] and line["quantity"] > 0 and line["unit_price"] > 0,
                "returned": line["is_return"] and order["status"] != "adjustment",
                "adjusted": order["status"] == "adjustment",
            }


def _revenue(lines: Iterable[Values]) -> Values:
    lines = list(lines)
    gross = sum((each["line_amount"] for each in lines if each["sold"]), ZERO)
    returned = sum((abs(each["line_amount"]) for each in lines if each["returned"]), ZERO)
    return {
        "units": sum(each["quantity"] for each in lines if each["sold"]),
        "gross_revenue": gross,
        "returns_amount": returned,
        "net_revenue": gross - returned,
    }


def _daily_sales(orders: list[Values], of_days: list[Values], lines: list[Values]) -> list[Values]:
    first: dict[str, date] = {}
    for order in orders:
        who = order["customer_key"]
        first[who] = min(first.get(who, date.max), order["order_date"])
    rows = []
    for day, mine in _group_by(of_days, "order_date"):
        counted = [each for each in mine if each["counts"]]
        known = {each["customer_key"] for each in counted} - {None}
        revenue = _revenue(each for each in lines if each["order_date"] == day)
        has_lines = any(each["order_date"] == day for each in lines)
        rows.append(
            {
                "order_date": day,
                "orders": len(counted),
                "cancelled_orders": sum(each["status"] in ("cancelled", "unavailable") for each in mine),
                **revenue,
                "adjustments_amount": sum(
                    (each["line_amount"] for each in lines if each["adjusted"] and each["order_date"] == day), ZERO
                ),
                "average_order_value": revenue["gross_revenue"] / len(counted) if counted and has_lines else None,
                "new_customers": sum(first[who] == day for who in known),
                "returning_customers": sum(first[who] < day for who in known),
            }
        )
    return rows


def _sales_by(columns: tuple[str, ...], lines: list[Values]) -> list[Values]:
    return [
        {
            **dict(zip(("order_date", *columns), group)),
            "orders": len({each["order_id"] for each in mine if each["sold"]}),
            **_revenue(mine),
        }
        for group, mine in _group_by(lines, "order_date", *columns)
    ]


def _payment_mix(counted: list[Values], payments: list[Values]) -> list[Values]:
    days = {each["order_id"]: each["order_date"] for each in counted}
    mine = [{**each, "order_date": days[each["order_id"]]} for each in payments if each["order_id"] in days]
    rows = []
    for (day, method), some in _group_by(mine, "order_date", "method"):
        amount, whole = _sum_amounts(some), _sum_amounts([each for each in mine if each["order_date"] == day])
        rows.append(
            {
                "order_date": day,
                "method": method,
                "payments": len(some),
                "amount": amount,
                "orders": len({each["order_id"] for each in some}),
                "share": amount / whole if whole else None,
            }
        )
    return rows


def _delivery_performance(counted: list[Values], shop: str) -> list[Values]:
    delivered = [
        {**each, "country": each["country"] or "(none)", "state": each["state"] or "(none)"}
        for each in counted
        if each["delivered_at"]
    ]
    rows = []
    for (day, country, state), some in _group_by(delivered, "order_date", "country", "state"):
        promised = [each for each in some if each["estimated_delivery_at"]]
        late = sum(_day(each["delivered_at"], shop) > _day(each["estimated_delivery_at"], shop) for each in promised)
        waited = sum((_day(each["delivered_at"], shop) - day).days for each in some)
        rows.append(
            {
                "order_date": day,
                "country": country,
                "state": state,
                "delivered_orders": len(some),
                "late_orders": late,
                "on_time_share": Decimal(len(promised) - late) / len(promised) if promised else None,
                "average_days": Decimal(waited) / len(some),
            }
        )
    return rows


def _day(moment: Any, shop: str) -> date:
    found: Optional[date] = local_day(moment, shop)
    assert found is not None
    return found


def _sum_amounts(payments: list[Values]) -> Decimal:
    return sum((each["amount"] for each in payments), ZERO)


def _group_by(rows: list[Values], *columns: str) -> list[tuple[Any, list[Values]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns) if len(columns) > 1 else row[columns[0]]].append(row)
    return list(groups.items())
