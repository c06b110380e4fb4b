"""Lineage as records hold it: how kinds combine along a path, and the walk from gold to bronze."""

from __future__ import annotations

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
def test_once_indirect_always_indirect(inner: list[str], outer: str, expected: set[str]) -> None:
    assert combine_kinds(inner, outer) == expected


def test_a_column_depends_on_its_own_sources_and_on_what_decides_its_rows() -> None:
    assert find_sources(LINEAGE, "gold.sales.revenue") == {
        "silver.items.amount": {"AGGREGATION"},
        "silver.items.sold": {"FILTER"},
        "days.day": {"FILTER"},
    }
    assert find_sources(LINEAGE, "bronze.items.id") == {}


def test_a_trace_goes_through_all_layers() -> None:
    assert trace_sources(LINEAGE, "gold.sales.revenue") == {
        "silver.items.amount": {"AGGREGATION"},
        "silver.items.sold": {"FILTER"},
        "days.day": {"FILTER"},
        "bronze.items.id": {"WINDOW"},
        "bronze.items.pieces": {"AGGREGATION", "FILTER"},
        "bronze.items.price": {"AGGREGATION"},
    }


def test_a_trace_through_tables_that_read_each_other_ends() -> None:
    circle = {
        "silver.a": {"rows": {}, "columns": {"x": {"silver.b.y": ["IDENTITY"]}}},
        "silver.b": {"rows": {}, "columns": {"y": {"silver.a.x": ["TRANSFORMATION"]}}},
    }
    assert trace_sources(circle, "silver.a.x") == {
        "silver.b.y": {"IDENTITY", "TRANSFORMATION"},
        "silver.a.x": {"TRANSFORMATION"},
    }


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"gold\.sales has no column 'profit'; its columns are: revenue, lines\."):
        trace_sources(LINEAGE, "gold.sales.profit")


def test_the_tables_that_a_query_reads_include_those_that_only_filter() -> None:
    assert list_source_tables(LINEAGE, "gold.sales") == ["days", "silver.items"]


def test_the_last_attempt_that_knows_a_table_counts_and_columns_stand_in_their_tables_order() -> None:
    first = {"details": {"lineage": {"gold.sales": {"rows": {}, "columns": {"old": {}}}}}}
    second = {"details": {"lineage": {"gold.sales": {"rows": {}, "columns": {"a": {}, "b": {}, "extra": {}}}}}}
    withheld: dict[str, object] = {"details": None}
    found = collect_lineage([first, second, withheld], {"gold.sales": ["b", "a"]})
    assert list(found["gold.sales"]["columns"]) == ["b", "a", "extra"]


def test_a_runs_record_holds_the_lineage_once() -> None:
    attempt = {"stage": "aggregate", "details": {"lineage": LINEAGE, "candidates": {}}}
    assert without_lineage(attempt) == {"stage": "aggregate", "details": {"candidates": {}}}
    assert "lineage" in attempt["details"]


def test_columns_are_found_in_any_case() -> None:
    entry = {"rows": {}, "columns": {"status": {"silver.orders.STATUS": ["IDENTITY"]}}}
    found = collect_lineage([{"details": {"lineage": {"gold.sales": entry}}}], {"gold.sales": ["Status"]})
    assert list(found["gold.sales"]["columns"]) == ["Status"]
    assert find_sources(found, "gold.sales.STATUS") == {"silver.orders.STATUS": {"IDENTITY"}}
