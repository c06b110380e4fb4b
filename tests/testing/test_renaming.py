"""Ids and texts of recorded rows get other names."""

from __future__ import annotations

from daybook.testing.renaming import rename_values
from daybook.testing.samples import Sample

COLUMNS = {"silver.orders": ["order_id", "status", "city"], "silver.order_items": ["order_id", "line_number"]}
SAMPLE: Sample = {
    "silver.orders": [
        {"order_id": "B", "status": "paid", "city": "Graz", "country": "AT"},
        {"order_id": "A", "status": "unheard of", "city": None, "country": "AT"},
        {"order_id": "C", "status": "paid", "city": "(none)", "country": "AT"},
    ],
    "silver.order_items": [{"order_id": "C", "line_number": 7}, {"order_id": "A", "line_number": 8}],
}


def test_references_keep_pointing_to_their_rows() -> None:
    renamed = rename_values(SAMPLE, COLUMNS, {"(none)"})
    assert [row["order_id"] for row in renamed["silver.orders"]] == ["o2", "o1", "o3"]
    assert renamed["silver.order_items"] == [{"order_id": "o3", "line_number": 7}, {"order_id": "o1", "line_number": 8}]


def test_only_valid_values_and_kept_texts_stay() -> None:
    renamed = rename_values(SAMPLE, COLUMNS, {"(none)"})
    assert [(row["status"], row["city"]) for row in renamed["silver.orders"]] == [
        ("paid", "c1"),
        ("s1", None),
        ("paid", "(none)"),
    ]


def test_other_columns_are_left_out() -> None:
    assert all(list(row) == COLUMNS["silver.orders"] for row in rename_values(SAMPLE, COLUMNS, set())["silver.orders"])
