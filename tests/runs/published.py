"""Publish earlier days without runs, as history for the anomaly check."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
from deltalake import write_deltalake

from daybook.contracts import load_table
from daybook.lake.tables import Lake
from daybook.settings import Settings


def publish_days(settings: Settings, revenues: dict[date, int], *, orders: int = 10) -> None:
    """Append days to gold.daily_sales with the given revenue; all customers are new."""
    contract = load_table("gold.daily_sales")
    rows = [
        {
            "order_date": each,
            "orders": orders,
            "cancelled_orders": 0,
            "units": orders,
            "gross_revenue": Decimal(revenue),
            "returns_amount": Decimal(0),
            "net_revenue": Decimal(revenue),
            "average_order_value": Decimal(revenue) / orders,
            "adjustments_amount": Decimal(0),
            "new_customers": orders,
            "returning_customers": 0,
        }
        for each, revenue in revenues.items()
    ]
    columns = {item.name: pa.array([row[item.name] for row in rows], item.arrow_type) for item in contract.properties}
    lake = Lake(settings.lake)
    lake.ensure_table(contract)
    write_deltalake(lake.uri("gold.daily_sales"), pa.table(columns), mode="append")
