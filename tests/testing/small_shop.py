"""Store a small shop in silver: a day with sales, a cancelled order and a return."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
from deltalake import write_deltalake

from daybook.contracts import load_table
from daybook.settings import Settings

CASES = """
notebook: 4_aggregate
table: gold.daily_sales
parameters: {run_date: 2025-11-30}
cases:
  - {name: a day without orders, expect: []}
  - name: a wrong figure
    given: {silver.orders: [{order_id: a, order_date: 2025-11-30, status: paid}]}
    expect: [{order_date: 2025-11-30, orders: 7}]
"""
"""A file of two cases: one passes, one fails."""

DAY = date(2025, 11, 30)
CITY, PERSON = "Entenhausen", "0123456789abcdef0123456789abcdef"


def write_small_shop(settings: Settings) -> None:
    """Store orders, their lines and products."""
    orders = [_build_order(f"new{number}", person=f"{number:032x}") for number in range(6)]
    orders += [_build_order("again", person=PERSON), _build_order("cancelled", "cancelled"), _build_order("back")]
    orders += [_build_order("before", person=PERSON, day=date(2025, 11, 1)), _build_order("other", day=date(2025, 11, 29))]
    lines = [_build_line(f"new{number}", line) for number in range(6) for line in range(1, 5)]
    came_back = datetime(2025, 11, 30, 9, tzinfo=timezone.utc)
    lines += [{**_build_line("other", 1, -1), "returned_at": came_back}]
    lines += [_build_line("again", 1), _build_line("cancelled", 1), _build_line("back", 1, -1), _build_line("before", 1)]
    _write_silver(settings, "silver.orders", orders)
    _write_silver(settings, "silver.order_items", lines)
    _write_silver(settings, "silver.products", [{"product_id": f"SKU-{number}", "category": "toys"} for number in range(9)])


def _write_silver(settings: Settings, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Store rows as a table of silver."""
    schema = load_table(table).arrow_schema
    path = Path(settings.lake) / table.replace(".", "/")
    path.mkdir(parents=True)
    write_deltalake(str(path), pa.Table.from_pylist(list(rows), schema=schema))


def _build_order(name: str, status: str = "delivered", person: Optional[str] = None, day: date = DAY) -> dict[str, Any]:
    ordered = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
    return {
        "order_id": f"SHOP-{name}",
        "status": status,
        "customer_key": person,
        "order_date": day,
        "ordered_at": ordered,
        "city": CITY,
    }


def _build_line(order: str, number: int, quantity: int = 1) -> dict[str, Any]:
    return {
        "order_id": f"SHOP-{order}",
        "line_number": number,
        "product_id": f"SKU-{number}",
        "quantity": quantity,
        "unit_price": Decimal("2.5000"),
        "line_amount": Decimal("2.5000") * quantity,
        "is_return": quantity < 0,
    }
