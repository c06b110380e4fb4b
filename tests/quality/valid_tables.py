"""Provide small valid tables for every contract, into which faults are inserted.

Landing rows are texts. Silver and gold rows have the contract's types. A rule with a limit on the share of failing rows gets
twenty rows, so that one failing row stays below the limit.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]

DAY = date(2025, 11, 3)
"""Business date of every table, a Monday."""
PERSONAL = ("Ingeborg", "Bachmann", "ingeborg@example.com", "+49 30 23125000", "Seestraße 1", "C-00001", "9" * 32, "77777")
"""Personal values in the landing tables, which no report on rules may contain."""
_NUMBERS = range(1, 21)
_CUSTOMER = {
    "customer_id": "C-00001",
    "first_name": "Ingeborg",
    "last_name": "Bachmann",
    "email": "ingeborg@example.com",
    "phone": "+49 30 23125000",
    "street": "Seestraße 1",
    "postal_code": "10115",
    "city": "Berlin",
    "state": "BE",
    "country": "DE",
    "registered_at": "2025-11-03 09:00:00",
    "updated_at": "2025-11-03 09:00:00",
}


def build_landing() -> dict[str, Tables]:
    """Return the entities of each source."""
    return {"demo": _build_demo(), "olist": _build_olist(), "online_retail": _build_online_retail()}


def _build_demo() -> Tables:
    at = "2025-11-03 10:00:00"
    return {
        "orders": [
            {
                "order_id": f"DB-{n:06}",
                "customer_id": "C-00001",
                "status": "paid",
                "ordered_at": at,
                "approved_at": at,
                "shipped_at": "",
                "delivered_at": "",
                "estimated_delivery_at": "2025-11-07 20:00:00",
                "ship_city": "Berlin",
                "ship_state": "BE",
                "ship_country": "DE",
                "updated_at": at,
            }
            for n in _NUMBERS
        ],
        "order_items": [
            {
                "order_id": f"DB-{n:06}",
                "line_number": "1",
                "product_id": "P-0001",
                "seller_id": "S-01",
                "quantity": "2",
                "unit_price": "9.99",
                "freight": "4.95",
            }
            for n in _NUMBERS
        ],
        "payments": [
            {"order_id": f"DB-{n:06}", "sequence": "1", "method": "paypal", "installments": "1", "amount": "24.93"}
            for n in _NUMBERS
        ],
        "returns": [
            {
                "return_id": f"R-{n:05}",
                "order_id": f"DB-{n:06}",
                "line_number": "1",
                "product_id": "P-0001",
                "quantity": "1",
                "unit_price": "9.99",
                "returned_at": at,
                "reason": "Defekt",
            }
            for n in (1, 2)
        ],
        "reviews": [
            {
                "review_id": f"V-{n:05}",
                "order_id": f"DB-{n:06}",
                "score": "5",
                "title": "Gut",
                "comment": "Danke,\nIngeborg",
                "created_at": at,
            }
            for n in (1, 2)
        ],
        "customers": [_CUSTOMER, {**_CUSTOMER, "customer_id": "C-00002"}],
        "products": [
            {"product_id": f"P-{n:04}", "name": "Teekanne", "category_id": "K-02", "list_price": "9.99", "updated_at": at}
            for n in (1, 2)
        ],
        "categories": [{"category_id": f"K-{n:02}", "category_name": "Coffee & Tea", "department": "Home"} for n in (2, 3)],
        "sellers": [{"seller_id": "S-01", "seller_name": "Möbel, Licht & Mehr", "city": "Köln", "country": "DE"}],
    }


def _build_olist() -> Tables:
    at = "2025-11-03 10:00:00"
    ids = [f"{n:032x}" for n in _NUMBERS]
    person = "9" * 32
    return {
        "orders": [
            {
                "order_id": each,
                "customer_id": person,
                "order_status": "delivered",
                "order_purchase_timestamp": at,
                "order_approved_at": at,
                "order_delivered_carrier_date": at,
                "order_delivered_customer_date": at,
                "order_estimated_delivery_date": at,
            }
            for each in ids
        ],
        "order_items": [
            {
                "order_id": each,
                "order_item_id": "1",
                "product_id": "p1",
                "seller_id": "s1",
                "shipping_limit_date": at,
                "price": "9.99",
                "freight_value": "4.95",
            }
            for each in ids
        ],
        "payments": [
            {
                "order_id": each,
                "payment_sequential": "1",
                "payment_type": "boleto",
                "payment_installments": "1",
                "payment_value": "14.94",
            }
            for each in ids
        ],
        "reviews": [
            {
                "review_id": f"v{n}",
                "order_id": each,
                "review_score": "5",
                "review_comment_title": "Ingeborg",
                "review_comment_message": "",
                "review_creation_date": at,
                "review_answer_timestamp": at,
            }
            for n, each in enumerate(ids[:2])
        ],
        "customers": [
            {
                "customer_id": person,
                "customer_unique_id": person,
                "customer_zip_code_prefix": "77777",
                "customer_city": "sao paulo",
                "customer_state": "SP",
            }
        ],
        "products": [{"product_id": "p1", "product_category_name": "cama_mesa_banho"}],
        "sellers": [{"seller_id": "s1", "seller_zip_code_prefix": "1001", "seller_city": "sao paulo", "seller_state": "SP"}],
        "categories": [{"product_category_name": "cama_mesa_banho", "product_category_name_english": "bed_bath_table"}],
    }


def _build_online_retail() -> Tables:
    return {
        "invoices": [
            {
                "InvoiceNo": f"{536000 + n}",
                "StockCode": "85123A",
                "Description": "T-LIGHT HOLDER",
                "Quantity": "6",
                "InvoiceDate": "2025-11-03 10:00:00",
                "UnitPrice": "2.55",
                "CustomerID": "77777",
                "Country": "France",
            }
            for n in _NUMBERS
        ]
    }


def build_silver() -> Tables:
    """Return new rows of every silver table."""
    at = datetime(2025, 11, 3, 9, tzinfo=timezone.utc)
    stamped: Row = {"version_at": at, "landed_on": DAY}
    keys = ["0123456789abcdef" * 2, "fedcba9876543210" * 2]
    return {
        "customers": [
            {"customer_key": key, "country": "DE", "state": "BE", "city": "Berlin", "first_order_date": DAY, **stamped}
            for key in keys
        ],
        "order_items": [
            {
                "order_id": f"o{n}", "line_number": 1, "product_id": "p1", "seller_id": "s1", "quantity": 2,
                "unit_price": Decimal("9.9900"), "freight": Decimal("4.9500"), "line_amount": Decimal("19.9800"),
                "is_return": False, "returned_at": None, **stamped,
            }
            for n in (1, 2)
        ],
        "orders": [
            {
                "order_id": f"o{n}", "customer_key": key, "ordered_at": at, "order_date": DAY, "status": "delivered",
                "country": "DE", "state": "BE", "city": "Berlin", "approved_at": at, "shipped_at": at, "delivered_at": at,
                "estimated_delivery_at": at, **stamped,
            }
            for n, key in enumerate(keys, start=1)
        ],
        "payments": [
            {
                "order_id": f"o{n}", "sequence": 1, "method": "paypal", "installments": 1, "amount": Decimal("19.9800"),
                **stamped,
            }
            for n in (1, 2)
        ],
        "products": [{"product_id": f"p{n}", "name": "Teekanne", "category": "Home", **stamped} for n in (1, 2)],
        "reviews": [
            {"review_id": f"v{n}", "order_id": f"o{n}", "score": 5, "created_at": at, **stamped} for n in (1, 2)
        ],
    }  # fmt: skip


def build_gold() -> Tables:
    """Return candidates of every gold table, computed from ``build_silver``."""
    gross, nothing = Decimal("39.9600"), Decimal("0.0000")
    sales: Row = {"units": 4, "gross_revenue": gross, "returns_amount": nothing, "net_revenue": gross}
    return {
        "category_sales": [{"order_date": DAY, "category": "Home", "orders": 2, **sales}],
        "cohort_retention": [
            {
                "cohort_month": date(2025, 11, 1),
                "months_since": months,
                "cohort_customers": 2,
                "active_customers": 2,
                "retention": Decimal("1.0000"),
            }
            for months in (0, 1)
        ],
        "customer_rfm": [
            {
                "customer_key": key * 2,
                "as_of": DAY,
                "last_order_date": DAY,
                "recency_days": 0,
                "frequency": 1,
                "monetary": Decimal("19.9800"),
                "recency_score": 5,
                "frequency_score": 1,
                "monetary_score": 3,
                "segment": "new",
            }
            for key in ("0123456789abcdef", "fedcba9876543210")
        ],
        "daily_sales": [
            {
                "order_date": DAY,
                "orders": 2,
                "cancelled_orders": 0,
                **sales,
                "average_order_value": Decimal("19.9800"),
                "adjustments_amount": nothing,
                "new_customers": 2,
                "returning_customers": 0,
            }
        ],
        "delivery_performance": [
            {
                "order_date": DAY,
                "country": "DE",
                "state": "BE",
                "delivered_orders": 2,
                "late_orders": 0,
                "on_time_share": Decimal("1.0000"),
                "average_days": Decimal("2.0000"),
            }
        ],
        "payment_mix": [
            {
                "order_date": DAY,
                "method": "paypal",
                "payments": 2,
                "orders": 2,
                "amount": gross,
                "share": Decimal("1.0000"),
            }
        ],
        "product_sales": [{"order_date": DAY, "product_id": "p1", "category": "Home", "orders": 2, **sales}],
    }


def build_history(table: str) -> list[Row]:
    """Return eight weeks of a gold table's single row before ``DAY``, with small daily variations of amounts."""
    (today,) = build_gold()[table]
    past = []
    for back in range(1, 57):
        wave = Decimal(98 + back % 5) / 100
        figures = {name: (value * wave).quantize(value) for name, value in today.items() if isinstance(value, Decimal)}
        past.append({**today, **figures, "order_date": DAY - timedelta(days=back)})
    return past
