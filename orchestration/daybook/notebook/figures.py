"""The figures that sum up a business date: the columns of gold.daily_sales, and how they read.

Here: names, order and units. Not here: computing them (the aggregate notebook).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from daybook.notebook.display import format_value

MONEY = ("gross_revenue", "returns_amount", "net_revenue", "average_order_value")
FIGURES = ("orders", "cancelled_orders", "units", *MONEY, "new_customers", "returning_customers")


def named_figures(summary: Mapping[str, Any], currency: str) -> list[tuple[str, str]]:
    """(name, value with unit) of each figure; money may be decimals or, as records hold it, their text."""
    named = []
    for name in FIGURES:
        value = summary.get(name)
        if name in MONEY and value is not None:
            named.append((name.replace("_", " "), f"{format_value(Decimal(value))} {currency}"))
        else:
            named.append((name.replace("_", " "), format_value(value)))
    return named
