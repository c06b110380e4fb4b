"""The figures that sum up a business date: the columns of gold.daily_sales, and how they and other values read."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

MONEY_FIGURES = ("gross_revenue", "returns_amount", "net_revenue", "average_order_value", "adjustments_amount")
SUMMARY_FIGURES = ("orders", "cancelled_orders", "units", *MONEY_FIGURES, "new_customers", "returning_customers")


def format_value(value: Any, *, percent: bool = False) -> str:
    """A value as a person reads it: thousands apart, money to the cent, no time zone noise, nothing for null."""
    if value is None or (isinstance(value, float) and value != value):
        return "·"
    if percent:
        return f"{float(value):.1%}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") if value.second or value.minute or value.hour else value.strftime("%Y-%m-%d")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def escape_control_characters(text: str, *, keep: str = "") -> str:
    """Return text from data as a terminal may show it: control, format and unassigned characters are replaced by their escapes.

    A terminal executes escape sequences, and a bidirectional mark reorders what a person reads. ``keep`` holds characters
    that stay, such as a line feed.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escape(each) for each in text)


def _escape(character: str) -> str:
    # A separator such as the no-break space only looks like a blank.
    return " " if unicodedata.category(character) == "Zs" else character.encode("unicode_escape").decode("ascii")


def format_figures(summary: Mapping[str, Any], currency: str) -> list[tuple[str, str]]:
    """(name, value with unit) of each figure; money may be decimals or, as records hold it, their text."""
    named = []
    for name in SUMMARY_FIGURES:
        value = summary.get(name)
        if name in MONEY_FIGURES and value is not None:
            named.append((name.replace("_", " "), f"{format_value(Decimal(value))} {currency}"))
        else:
            named.append((name.replace("_", " "), format_value(value)))
    return named
