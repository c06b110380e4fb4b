"""Test how kinds of dependence combine along a path, and how columns are traced."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.errors import UsageError
from daybook.lake.lineage.graph import (
    collect_lineage,
    combine_kinds,
    find_sources,
    list_source_tables,
    trace_sources,
    without_lineage,
)
from tests.sample_records import attempt_record

LINEAGE = {
    "silver.items": {
        "rows": {"bronze.items.id": ["WINDOW"]},
        "columns": {
            "amount": {"bronze.items.price": ["TRANSFORMATION"], "bronze.items.pieces": ["TRANSFORMATION"]},
            "sold": {"bronze.items.pieces": ["TRANSFORMATION"]},
        },
    },
    "gold.sales": {
        "rows": {"silver.items.sold": ["FILTER"], "days.day": ["FILTER"]},
        "columns": {"revenue": {"silver.items.amount": ["AGGREGATION"]}, "lines": {}},
    },
}


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (["IDENTITY"], "IDENTITY", {"IDENTITY"}),
        (["IDENTITY"], "AGGREGATION", {"AGGREGATION"}),
        (["AGGREGATION"], "TRANSFORMATION", {"AGGREGATION"}),
        (["TRANSFORMATION"], "CONDITIONAL", {"CONDITIONAL"}),
        (["CONDITIONAL"], "AGGREGATION", {"CONDITIONAL"}),
        (["FILTER"], "JOIN", {"FILTER"}),
        (["IDENTITY", "JOIN"], "WINDOW", {"WINDOW", "JOIN"}),
    ],
)
def test_path_with_an_indirect_kind_is_indirect(inner: list[str], outer: str, expected: set[str]) -> None:
    assert combine_kinds(inner, outer) == expected


def test_column_depends_on_its_values_and_its_rows() -> None:
    assert find_sources(LINEAGE, "gold.sales.revenue") == {
        "silver.items.amount": {"AGGREGATION"},
        "silver.items.sold": {"FILTER"},
        "days.day": {"FILTER"},
    }
    assert find_sources(LINEAGE, "bronze.items.id") == {}


def test_trace_goes_through_all_layers() -> None:
    assert trace_sources(LINEAGE, "gold.sales.revenue") == {
        "silver.items.amount": {"AGGREGATION"},
        "silver.items.sold": {"FILTER"},
        "days.day": {"FILTER"},
        "bronze.items.id": {"WINDOW"},
        "bronze.items.pieces": {"AGGREGATION", "FILTER"},
        "bronze.items.price": {"AGGREGATION"},
    }


def test_trace_of_a_cycle_ends() -> None:
    circle = {
        "silver.a": {"rows": {}, "columns": {"x": {"silver.b.y": ["IDENTITY"]}}},
        "silver.b": {"rows": {}, "columns": {"y": {"silver.a.x": ["TRANSFORMATION"]}}},
    }
    assert trace_sources(circle, "silver.a.x") == {
        "silver.b.y": {"IDENTITY", "TRANSFORMATION"},
        "silver.a.x": {"TRANSFORMATION"},
    }


def test_unknown_column_lists_the_columns() -> None:
    with pytest.raises(UsageError, match=r"gold\.sales has no column 'profit'; its columns are: revenue, lines\."):
        trace_sources(LINEAGE, "gold.sales.profit")


def test_source_tables_include_filters() -> None:
    assert list_source_tables(LINEAGE, "gold.sales") == ["days", "silver.items"]


def test_last_attempt_counts_in_column_order() -> None:
    first = attempt_record(details={"lineage": {"gold.sales": {"rows": {}, "columns": {"old": {}}}}})
    columns: dict[str, Any] = {"a": {}, "b": {}, "extra": {}}
    second = attempt_record(details={"lineage": {"gold.sales": {"rows": {}, "columns": columns}}})
    withheld = attempt_record(details={})
    found = collect_lineage([first, second, withheld], {"gold.sales": ["b", "a"]})
    assert list(found["gold.sales"]["columns"]) == ["b", "a", "extra"]


def test_run_record_has_the_lineage_once() -> None:
    attempt = attempt_record("aggregate", details={"lineage": LINEAGE, "candidates": {}, "other": 1})
    assert without_lineage(attempt).to_json()["details"] == {"candidates": {}, "other": 1}
    assert attempt.details.lineage == LINEAGE


def test_column_names_ignore_case() -> None:
    entry = {"rows": {}, "columns": {"status": {"silver.orders.STATUS": ["IDENTITY"]}}}
    found = collect_lineage([attempt_record(details={"lineage": {"gold.sales": entry}})], {"gold.sales": ["Status"]})
    assert list(found["gold.sales"]["columns"]) == ["Status"]
    assert find_sources(found, "gold.sales.STATUS") == {"silver.orders.STATUS": {"IDENTITY"}}
