"""Test that names of columns are compared as SQL compares them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.contracts.columns import (
    column_key,
    find_column,
    find_duplicate_column,
    matching_columns,
    normalize_column_name,
    normalize_sql_names,
)

SIZE = "Größe"
DECOMPOSED = unicodedata.normalize("NFD", SIZE)


@pytest.mark.parametrize("other", ["GRÖßE", DECOMPOSED, f"\u00a0{DECOMPOSED.upper().replace('SS', 'ẞ')} \t"])
def test_names_equal_in_any_case_form_and_blanks(other: str) -> None:
    assert column_key(other) == column_key(SIZE)


@pytest.mark.parametrize(("one", "other"), [("Maße", "Masse"), ("e", "é"), ("a b", "ab"), ("order_id", "order-id")])
def test_names_that_differ_in_sql_differ(one: str, other: str) -> None:
    assert column_key(one) != column_key(other)


def test_stored_name_keeps_its_case() -> None:
    assert normalize_column_name(f" {DECOMPOSED} ") == SIZE


@given(st.text())
def test_stored_name_is_stable_and_never_empty(name: str) -> None:
    assert normalize_column_name(name) and normalize_column_name(normalize_column_name(name)) == normalize_column_name(name)
    assert column_key(normalize_column_name(name)) == column_key(name)


def test_last_of_equal_names_is_found() -> None:
    assert find_column(["customer", "b", "Customer"], "CUSTOMER") == "Customer"
    assert find_column(["customer"], "client") is None


def test_columns_among_keep_their_order_and_spelling() -> None:
    assert matching_columns(["B", "c", "a"], ["A", "b"]) == ["B", "a"]


def test_first_repeated_name_is_found() -> None:
    assert find_duplicate_column(["x", "b ", "X", "B"]) == "x"
    assert find_duplicate_column(["x", "", "b"]) is None
    assert find_duplicate_column(["x", "", " "]) == ""


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f'"{DECOMPOSED} "', f'"{SIZE}"'),
        (f"{DECOMPOSED} || '{DECOMPOSED} '", f"{SIZE} || '{DECOMPOSED} '"),
        (f'\'it\'\'s "{DECOMPOSED}"\' || " a ""b"" "', f'\'it\'\'s "{DECOMPOSED}"\' || "a ""b"""'),
        ("a -- the shop's", "a -- the shop's"),
        ("", ""),
    ],
)
def test_sql_names_columns_as_they_are_stored(sql: str, expected: str) -> None:
    assert normalize_sql_names(sql) == expected
