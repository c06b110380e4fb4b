"""Test that two versions of a table are compared by key, value and schema, exactly and without personal values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any, NamedTuple, Optional

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.review.table_diff import Comparison, RowSample, SchemaChange, TableDiff, ValueChange, diff_tables
from tests.review.relations import build_contract, create_table

COLUMNS = {"day": "BIGINT", "shop": "VARCHAR", "sold": "BIGINT", "revenue": "DECIMAL(18,4)"}
KEY = ["day", "shop"]
Row = tuple[Optional[int], Optional[str], Optional[int], Optional[Decimal]]


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    opened.execute("SET TimeZone = 'UTC'")
    return opened


def diff(
    database: duckdb.DuckDBPyConnection,
    before: Optional[Sequence[Sequence[Any]]],
    after: Optional[Sequence[Sequence[Any]]],
    *,
    columns_before: dict[str, str] = COLUMNS,
    columns_after: dict[str, str] = COLUMNS,
    key: Sequence[str] = KEY,
    **classes: str,
) -> TableDiff:
    return diff_tables(
        database,
        build_contract(columns_after, key, **classes),
        None if before is None else create_table(database, "before", columns_before, before),
        None if after is None else create_table(database, "after", columns_after, after),
    )


def test_equal_tables_have_no_changes(database: duckdb.DuckDBPyConnection) -> None:
    rows = [(1, "a", None, Decimal("1.0050")), (1, None, 2, None)]
    found = diff(database, rows, list(reversed(rows)))
    assert (found.added, found.removed, found.changed, found.has_changes) == (0, 0, 0, False)
    assert (found.rows_before, found.rows_after, found.samples) == (2, 2, [])


def test_rows_are_paired_by_key(database: duckdb.DuckDBPyConnection) -> None:
    before = [(1, "a", 5, Decimal("10.1000")), (1, "b", 1, Decimal("2")), (2, "a", None, Decimal("3"))]
    after = [(1, "a", 5, Decimal("10.1001")), (2, "a", 7, Decimal("3")), (3, "a", 1, Decimal("1"))]
    found = diff(database, before, after)
    assert (found.added, found.removed, found.changed) == (1, 1, 2)
    sold, revenue = found.columns
    assert (sold.column, sold.changed, sold.total_before, sold.total_after) == ("sold", 1, Decimal(6), Decimal(13))
    assert (revenue.changed, revenue.total_before, revenue.total_after) == (1, Decimal("15.1000"), Decimal("14.1001"))
    assert sold.largest == [ValueChange(key={"day": "2", "shop": "a"}, before=None, after="7")]
    assert found.samples == [
        RowSample(
            change="changed",
            key={"day": "1", "shop": "a"},
            before={"revenue": "10.1000"},
            after={"revenue": "10.1001"},
        ),
        RowSample(change="changed", key={"day": "2", "shop": "a"}, before={"sold": None}, after={"sold": "7"}),
        RowSample(change="added", key={"day": "3", "shop": "a"}, before={}, after={"sold": "1", "revenue": "1.0000"}),
        RowSample(change="removed", key={"day": "1", "shop": "b"}, before={"sold": "1", "revenue": "2.0000"}, after={}),
    ]


def test_largest_differences_come_first(database: duckdb.DuckDBPyConnection) -> None:
    before = [(day, "a", day, Decimal(0)) for day in range(5)]
    after = [(day, "a", day + (-1) ** day * day, Decimal(0)) for day in range(5)]
    assert [each.key["day"] for each in diff(database, before, after).columns[0].largest] == ["4", "3", "2"]


def test_columns_of_one_side_are_schema_changes(database: duckdb.DuckDBPyConnection) -> None:
    columns = {"day": "BIGINT", "shop": "VARCHAR", "revenue": "DECIMAL(18,4)", "tax": "DECIMAL(18,4)"}
    before, after = [(1, "a", 5, Decimal("1"))], [(1, "a", Decimal("1"), Decimal("0.19"))]
    found = diff(database, before, after, columns_after=columns)
    assert (found.changed, found.has_changes) == (0, True)
    assert found.schema_changes == [
        SchemaChange(column="tax", before=None, after="DECIMAL(18,4)"),
        SchemaChange(column="sold", before="BIGINT", after=None),
    ]
    totals = {each.column: (each.total_before, each.total_after) for each in found.columns}
    assert totals == {"revenue": (1, 1), "tax": (None, Decimal("0.19")), "sold": (5, None)}


@pytest.mark.parametrize(
    ("one", "other", "value", "equal", "different"),
    [
        ("BIGINT", "DECIMAL(18,4)", 5, Decimal("5.0000"), Decimal("5.0001")),
        ("INTEGER", "BIGINT", 5, 5, 2**40),
        ("BIGINT", "VARCHAR", 5, "5", "five"),
        ("BOOLEAN", "DATE", True, None, "2025-11-30"),
        ("DATE", "TIMESTAMPTZ", "2025-11-30", "2025-11-30T00:00:00Z", "2025-11-30T00:00:01Z"),
        ("DECIMAL(18,4)", "DOUBLE", Decimal("0.1"), 0.1, 0.1000001),
    ],
)
def test_types_are_compared_as_the_wider(
    database: duckdb.DuckDBPyConnection, one: str, other: str, value: Any, equal: Any, different: Any
) -> None:
    before, after = {**COLUMNS, "sold": one}, {**COLUMNS, "sold": other}
    rows = [(1, "a", value, None), (2, "a", value, None)]
    found = diff(database, rows, [(1, "a", equal, None), (2, "a", different, None)], columns_before=before, columns_after=after)
    assert [(each.column, each.before) for each in found.schema_changes] == [("sold", one)]
    assert found.changed == (2 if equal is None else 1)


def test_rows_of_one_key_are_paired_after_equal_ones(database: duckdb.DuckDBPyConnection) -> None:
    before = [(1, "a", 1, None), (1, "a", 9, None)]
    after = [(1, "a", 0, None), (1, "a", 9, None), (1, "a", 9, None)]
    found = diff(database, before, after)
    assert (found.added, found.removed, found.changed) == (1, 0, 1)
    assert found.columns[0].largest[0].after == "0"


def test_rows_without_key_are_compared_as_a_whole(database: duckdb.DuckDBPyConnection) -> None:
    rows = [(1, "a", 5, Decimal(1)), (1, "a", 5, Decimal(1)), (2, "a", 5, Decimal(1))]
    after = {"day": "BIGINT", "sold": "BIGINT", "revenue": "DECIMAL(18,4)"}
    found = diff_tables(
        database,
        build_contract(COLUMNS, KEY),
        create_table(database, "before", COLUMNS, rows),
        create_table(database, "after", after, [(1, 5, Decimal(1)), (2, 6, Decimal(1))]),
    )
    assert (found.key, found.added, found.removed, found.changed) == ([], 1, 2, 0)
    assert found.samples[0].after == {"day": "2", "sold": "6", "revenue": "1.0000"}


def test_table_of_one_side_only(database: duckdb.DuckDBPyConnection) -> None:
    rows = [(1, "a", 5, Decimal("1.50"))]
    created, dropped = diff(database, None, rows), diff(database, rows, None)
    assert (created.rows_before, created.rows_after, created.added) == (0, 1, 1)
    assert [each.before for each in created.schema_changes] == [None] * 4
    assert (created.columns[1].total_before, created.columns[1].total_after) == (None, Decimal("1.5000"))
    assert (dropped.rows_after, dropped.removed, dropped.columns[1].total_after) == (0, 1, None)


def test_float_totals_are_finite_or_absent(database: duckdb.DuckDBPyConnection) -> None:
    columns = {"day": "BIGINT", "weight": "DOUBLE", "ratio": "DOUBLE"}
    rows = [(day, 0.1, float("nan")) for day in range(3)]
    found = diff(database, rows, rows, columns_before=columns, columns_after=columns, key=["day"])
    weight, ratio = found.columns
    assert (weight.total_before, ratio.total_before, found.changed) == (Decimal("0.3"), None, 0)


def test_personal_values_are_not_shown(database: duckdb.DuckDBPyConnection) -> None:
    columns = {"buyer": "VARCHAR", "phone": "BIGINT", "note": "VARCHAR", "city": "VARCHAR"}
    pseudonym = "0123456789abcdef" * 2
    before = [(pseudonym, 491701234, "Ana Lima", "Berlin")]
    after = [(pseudonym, 491705678, "Ana Souza", "Bonn"), ("ana@example.org", 5, None, None)]
    found = diff_tables(
        database,
        build_contract(
            {"buyer": "VARCHAR", "phone": "BIGINT", "city": "VARCHAR"}, ["buyer"], buyer="pseudonym", phone="restricted"
        ),
        create_table(database, "before", columns, before),
        create_table(database, "after", columns, after),
    )
    text = found.model_dump_json()
    assert not [each for each in (pseudonym, "4917", "Ana", "ana@") if each in text]
    changed, added = found.samples
    assert (changed.key, changed.after) == ({"buyer": "012345…"}, {"phone": "…", "note": "…", "city": "Bonn"})
    assert (added.key, added.after) == ({"buyer": "…"}, {"phone": "…", "note": None, "city": None})
    assert (found.columns[0].total_before, found.columns[0].changed) == (None, 1)


def test_json_has_exact_decimals_and_no_rows(database: duckdb.DuckDBPyConnection) -> None:
    columns = {"day": "BIGINT", "revenue": "DECIMAL(38,10)"}
    found = diff(
        database, [(1, Decimal(0))], [(1, Decimal("1e-10"))], columns_before=columns, columns_after=columns, key=["day"]
    )
    comparison = Comparison(before="a", after="b", dates=None, tables=[found])
    assert comparison.has_changes
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    (table,) = comparison.without_rows().model_dump(mode="json")["tables"]
    assert (table["samples"], table["columns"][0]["largest"]) == ([], [])
    assert (table["columns"][0]["total_before"], table["columns"][0]["total_after"]) == ("0.0000000000", "0.0000000001")


class Expected(NamedTuple):
    """What a comparison finds: rows added, removed and changed, and changed values by column."""

    added: int
    removed: int
    changed: int
    values: dict[str, int]


def compare_in_python(before: list[Row], after: list[Row], keyed: bool) -> Expected:
    """Return the differences of rows, computed without a database."""
    only_before, only_after = Counter(before) - Counter(after), Counter(after) - Counter(before)
    if not keyed:
        return Expected(sum(only_after.values()), sum(only_before.values()), 0, {"sold": 0, "revenue": 0})
    added = removed = changed = sold = revenue = 0
    for key in {row[:2] for row in (*before, *after)}:
        sides = [
            sorted((row for row in rows.elements() if row[:2] == key), key=nulls_last) for rows in (only_before, only_after)
        ]
        for old, new in zip_longest(*sides):
            added, removed, changed = added + (old is None), removed + (new is None), changed + bool(old and new)
            sold += bool(old and new and old[2] != new[2])
            revenue += bool(old and new and old[3] != new[3])
    return Expected(added, removed, changed, {"sold": sold, "revenue": revenue})


def nulls_last(row: Row) -> list[tuple[bool, Any]]:
    return [(value is None, value or 0) for value in row[2:]]


def add_up(rows: list[Row], place: int) -> Decimal:
    return sum((Decimal(row[place] or 0) for row in rows), Decimal(0))


ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 0, 5]),
        st.sampled_from([None, Decimal(0), Decimal("0.0001"), Decimal("99999999999999.9999")]),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(before=ROWS, after=ROWS, keyed=st.booleans())
def test_random_tables_compare_as_in_python(
    database: duckdb.DuckDBPyConnection, before: list[Row], after: list[Row], keyed: bool
) -> None:
    found = diff(database, before, after, key=KEY if keyed else [])
    values = {each.column: each.changed for each in found.columns if each.column in ("sold", "revenue")}
    assert Expected(found.added, found.removed, found.changed, values) == compare_in_python(before, after, keyed)
    for column, place in (("sold", 2), ("revenue", 3)):
        diffed = next(each for each in found.columns if each.column == column)
        assert (diffed.total_before, diffed.total_after) == (add_up(before, place), add_up(after, place))
    assert found.has_changes == (Counter(before) != Counter(after))
