"""Test the figures of a business date, and the formatting of values."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.records.formatting import escape_control_characters, format_figures, format_value

SUMMARY: dict[str, Any] = {
    "orders": 1234,
    "cancelled_orders": 0,
    "units": 2000,
    "gross_revenue": Decimal("98765.4321"),
    "returns_amount": Decimal("0.0000"),
    "net_revenue": Decimal("98765.4321"),
    "average_order_value": None,
    "new_customers": 7,
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "·"),
        (float("nan"), "·"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (Decimal("1234.5000"), "1,234.50"),
        (Decimal("-0.0049"), "-0.00"),
        (Decimal("0.1250"), "0.13"),
        (Decimal("-0.1250"), "-0.13"),
        (Decimal("9" * 34 + ".9950"), "10" + ",000" * 11 + ".00"),
        (2.5, "2.50"),
        (1234567.89, "1,234,568"),
        (datetime(2025, 11, 30), "2025-11-30"),
        (datetime(2025, 11, 30, 9, 5), "2025-11-30 09:05:00"),
        (date(2025, 11, 30), "2025-11-30"),
        ("a & b", "a & b"),
    ],
)
def test_values_are_formatted_for_readers(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0534, "5.3%"), (Decimal("1"), "100.0%"), (None, "·")])
def test_shares_are_formatted_in_percent(value: Any, text: str) -> None:
    assert format_value(value, percent=True) == text


def test_counts_have_no_unit_and_money_has_its_currency() -> None:
    figures = dict(format_figures(SUMMARY, "BRL"))
    assert figures["orders"] == "1,234"
    assert figures["gross revenue"] == "98,765.43 BRL"
    assert figures["returns amount"] == "0.00 BRL"


def test_figure_without_a_value_has_no_currency() -> None:
    assert dict(format_figures(SUMMARY, "EUR"))["average order value"] == "·"


def test_figures_of_a_record_are_formatted_equally() -> None:
    record = {name: str(value) if isinstance(value, Decimal) else value for name, value in SUMMARY.items()}
    assert format_figures(record, "EUR") == format_figures(SUMMARY, "EUR")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë · 猫", "Zoë · 猫"),
        ("a\x1b[31mred\x1b]0;TITLE\x07", "a\\x1b[31mred\\x1b]0;TITLE\\x07"),
        ("one\r\ntwo", "one\\r\\ntwo"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("10\u00a0EUR", "10 EUR"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escape_control_characters(text) == shown


def test_kept_line_feeds_are_not_escaped() -> None:
    assert escape_control_characters("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert escape_control_characters(text).isprintable()
