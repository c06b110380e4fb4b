"""Test how YAML values are compared by key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.review.yaml_diff import KeyPath, diff_values


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("a: 1", "a: 2", [(("a",), "1", "2")]),
        ("a: 1", "a: '1'", [(("a",), "1", "1")]),
        ("a: {b: 1, c: 2}", "a: {c: 2, d: 3}", [(("a", "b"), "1", ""), (("a", "d"), "", "3")]),
        ("a: [1, 2]", "a: [1, 3]", [(("a",), "[1, 2]", "[1, 3]")]),
        ("a: null", "{}", [(("a",), "null", "")]),
        (
            "a: [{name: x, v: 1}, {name: y, v: 2}]",
            "a: [{name: y, v: 3}, {name: x, v: 1}]",
            [(("a", "y", "v"), "2", "3")],
        ),
        ("a: [{v: 1}, {v: 2}]", "a: [{v: 0}, {v: 1}, {v: 3}]", [(("a", 0), "", "{v: 0}"), (("a", 2, "v"), "2", "3")]),
        ("a: [{v: 1}]", "a: []", [(("a", 0), "{v: 1}", "")]),
        ("a: x", "a: {b: 1}", [(("a",), "x", "{b: 1}")]),
        ("a: |-\n  x\n  y", "a: z", [(("a",), "x y", "z")]),
    ],
)
def test_differences_are_listed_by_key(before: str, after: str, changes: list[tuple[KeyPath, str, str]]) -> None:
    found = diff_values(yaml.safe_load(before), yaml.safe_load(after))
    assert [(each.path, each.before_text, each.after_text) for each in found] == changes


def test_values_of_secret_keys_are_not_shown() -> None:
    (change,) = diff_values({"a": {"db_password": "x1"}}, {"a": {"db_password": "x2"}})
    assert (change.before_text, change.after_text) == ("(not shown)", "(not shown)")
    (change,) = diff_values({}, {"a": [{"token": "x1", "db_secret_name": "name"}]})
    assert change.after_text == "[{token: (not shown), db_secret_name: name}]"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "type", "a", "b"]), inner, max_size=3),
)


@settings(max_examples=40)
@given(VALUES, VALUES)
def test_only_different_values_have_differences(before: Any, after: Any) -> None:
    assert list(diff_values(before, before)) == []
    assert bool(list(diff_values(before, after))) or before == after or _sorted_names(before) == _sorted_names(after)


def _sorted_names(value: Any) -> Any:
    """Return a value without the order of lists of mappings, which names can replace."""
    if isinstance(value, dict):
        return {key: _sorted_names(each) for key, each in value.items()}
    items = [_sorted_names(each) for each in value] if isinstance(value, list) else value
    return sorted(items, key=repr) if isinstance(items, list) and all(isinstance(each, dict) for each in items) else items
