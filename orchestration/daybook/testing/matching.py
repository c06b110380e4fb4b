"""Match the expected rows of a case with the rows of a result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

Values = dict[str, Any]
"""A row: values by column."""


class Match(NamedTuple):
    """Pairs of an expected row and a row of the result that differ, and the rows without a counterpart."""

    differing: list[tuple[Values, Values]]
    missing: list[Values]
    unexpected: list[Values]


def match_rows(expected: Sequence[Values], actual: Sequence[Values], key: Sequence[str]) -> Match:
    """Pair expected rows with rows of the result.

    Equal rows are paired first. Of the others, rows of one key belong together. Without a key, an expected row belongs to the
    row with most equal values.

    Parameters
    ----------
    expected
        Rows with the columns to compare, which may differ from row to row.
    actual
        Rows with all columns.
    key
        The columns that identify a row; they are in every expected row.
    """
    left = list(actual)
    unequal: list[Values] = []
    # Rows that name more columns first: a row that names few may be equal to several.
    for row in sorted(expected, key=len, reverse=True):
        place = next((place for place, each in enumerate(left) if not differing_columns(row, each)), None)
        if place is None:
            unequal.append(row)
        else:
            del left[place]
    differing, missing = [], []
    for row in unequal:
        place = _find_counterpart(row, left, key)
        if place is None:
            missing.append(row)
        else:
            differing.append((row, left.pop(place)))
    return Match(differing, missing, left)


def differing_columns(expected: Values, actual: Values) -> list[str]:
    """Return the expected columns of which the result has another value."""
    return [name for name, value in expected.items() if not _equals(value, actual[name])]


def _find_counterpart(row: Values, others: Sequence[Values], key: Sequence[str]) -> Optional[int]:
    """Return the place of the row of the same key, or without a key of the row with most equal values, if any is equal."""
    if key:
        return next((place for place, each in enumerate(others) if not set(key) & set(differing_columns(row, each))), None)
    unequal = [len(differing_columns(row, each)) for each in others]
    least = min(unequal, default=len(row))
    return unequal.index(least) if least < len(row) else None


def _equals(expected: Any, actual: Any) -> bool:
    """Return whether a result has the expected value. Numbers compare by value; a DOUBLE may differ in its last digits."""
    if isinstance(expected, float) and isinstance(actual, float):
        return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)
    return bool(expected == actual)
