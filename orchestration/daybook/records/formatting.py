"""Format values and a day's figures for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

_ROUNDING = Context(prec=100, rounding=ROUND_HALF_UP)
"""More digits than any DECIMAL has: ``quantize`` refuses a result of more digits than its context."""


def format_value(value: Any, *, percent: bool = False) -> str:
    """Return a value as text: thousands separated, decimals to the cent, times without a zone, ``·`` for null."""
    if value is None or (isinstance(value, float) and value != value):
        return "·"
    if percent:
        return f"{float(value):.1%}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") if value.second or value.minute or value.hour else value.strftime("%Y-%m-%d")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def format_decimal(value: Decimal, decimals: int = 2) -> str:
    """Return a number rounded half up, as money is, with thousands separators: ``12,345.68`` for 12345.675."""
    return f"{value.quantize(Decimal(1).scaleb(-decimals), context=_ROUNDING):,}"


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


def format_figure(value: Any, currency: str) -> str:
    """Format one of a day's figures: money is a decimal or, in records, its text; other numbers have no unit."""
    if isinstance(value, (Decimal, str)):
        return f"{format_value(Decimal(value))} {currency}"
    return format_value(value)


def format_figures(summary: Mapping[str, Any], currency: str) -> list[tuple[str, str]]:
    """Return the name and the text of each of a day's figures, from the lake or from a record; money is in ``currency``."""
    return [(name.replace("_", " "), format_figure(value, currency)) for name, value in summary.items()]
