"""Test that a column is stored once in any spelling, also in tables of earlier releases."""

from __future__ import annotations

import unicodedata
import warnings
from datetime import date
from typing import Any, Optional

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from daybook.engines import DuckDBEngine
from daybook.lake import schema_evolution
from daybook.lake.delta import open_dataset, stored_columns
from daybook.lake.tables import BatchSource, Lake
from tests.lake.tables import FIRST, SECOND, THIRD, read_rows
from tests.lake.writing import replace_date

TABLE = "bronze.orders"
SIZE = "Größe"
DECOMPOSED = unicodedata.normalize("NFD", SIZE)


def named(name: str, *values: Optional[str], **more: str) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()), **{each: [text] * len(values) for each, text in more.items()}})


def columns(lake: Lake) -> list[str]:
    return [each.name for each in DeltaTable(lake.uri(TABLE)).schema().fields]


def seen(lake: Lake, sql: str = "SELECT customer FROM bronze.orders ORDER BY run_date") -> list[tuple[Any, ...]]:
    return DuckDBEngine(lake, "UTC").rows(sql)


def write_as_before(lake: Lake, rows: pa.Table, day: date) -> None:
    """Write a date like earlier releases, with a column for each spelling."""
    dated = rows.add_column(0, "run_date", pa.array([day] * rows.num_rows, pa.date32()))
    write_deltalake(lake.uri(TABLE), dated, mode="append", schema_mode="merge", partition_by=["run_date"])


@pytest.fixture
def twice(lake: Lake) -> Lake:
    """Return a lake whose bronze.orders stores a column under two names, each with the values of one date."""
    write_as_before(lake, named("customer", "a", x="1"), FIRST)
    write_as_before(lake, named("Customer", "b", x="2"), SECOND)
    assert set(columns(lake)) == {"run_date", "customer", "x", "Customer"}
    return lake


@pytest.mark.parametrize("other", ["CUSTOMER", " Customer"])
def test_rows_are_written_under_the_stored_name(lake: Lake, other: str) -> None:
    replace_date(lake, TABLE, named("customer", "a"), FIRST)
    replace_date(lake, TABLE, named(other, "b"), SECOND)
    lake.append(TABLE, named(other, "c"), THIRD)
    assert columns(lake) == ["run_date", "customer"]
    assert read_rows(lake, TABLE, "customer") == [("a",), ("b",), ("c",)]


def test_batches_are_written_under_the_stored_name(lake: Lake) -> None:
    replace_date(lake, TABLE, named("customer", "a"), FIRST)
    rows = named("CUSTOMER", "b", "c")
    replace_date(lake, TABLE, BatchSource(rows.schema, lambda: rows.to_reader(max_chunksize=1)), SECOND)
    assert read_rows(lake, TABLE, "customer") == [("a",), ("b",), ("c",)]


def test_new_column_is_stored_in_composed_form(lake: Lake) -> None:
    replace_date(lake, TABLE, named("customer", "a"), FIRST)
    replace_date(lake, TABLE, named("customer", "b", **{DECOMPOSED: "XL"}), SECOND)
    assert columns(lake) == ["run_date", "customer", SIZE]
    assert seen(lake, f'SELECT "{SIZE}" FROM bronze.orders ORDER BY run_date') == [(None,), ("XL",)]


def test_columns_stored_twice_read_as_one(twice: Lake) -> None:
    assert seen(twice) == [("a",), ("b",)]
    assert seen(twice, "SELECT customer FROM bronze.orders WHERE Customer = 'a'") == [("a",)]
    assert sorted(DuckDBEngine(twice, "UTC").query("SELECT * FROM bronze.orders").columns) == ["Customer", "run_date", "x"]


def test_columns_stored_twice_read_as_one_with_little_memory(twice: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DuckDBEngine(twice, "UTC")
    monkeypatch.setattr(engine, "_has_memory_limit", True)
    assert engine.rows("SELECT customer FROM bronze.orders WHERE Customer = 'a'") == [("a",)]


@pytest.mark.parametrize("old", [DECOMPOSED, f" {SIZE}", ""])
def test_name_of_an_earlier_release_is_normalized(lake: Lake, old: str) -> None:
    new = SIZE if old else "unnamed"
    write_as_before(lake, named(old, "S", x="1"), FIRST)
    assert seen(lake, f'SELECT "{new}" FROM bronze.orders') == [("S",)]
    replace_date(lake, TABLE, named(old, "M", x="1"), SECOND)
    assert sorted(columns(lake)) == sorted([new, "run_date", "x"])
    assert seen(lake, f'SELECT "{new}" FROM bronze.orders ORDER BY run_date') == [("S",), ("M",)]


def test_next_write_unifies_columns_in_one_commit(twice: Lake) -> None:
    version = DeltaTable(twice.uri(TABLE)).version()
    replace_date(twice, TABLE, named("customer", "c", x="3"), THIRD)
    assert sorted(columns(twice)) == ["Customer", "run_date", "x"]
    assert read_rows(twice, TABLE, "run_date", "Customer", "x") == [(FIRST, "a", "1"), (SECOND, "b", "2"), (THIRD, "c", "3")]
    delta = DeltaTable(twice.uri(TABLE))
    assert delta.metadata().partition_columns == ["run_date"]
    assert [each.get("daybook_run_id") for each in delta.history(delta.version() - version)] == [twice.run_id] * (
        delta.version() - version
    )
    before = open_dataset(DeltaTable(twice.uri(TABLE), version=version)).to_table(columns=["customer", "Customer"])
    assert sorted(before.to_pylist(), key=repr) == [{"customer": "a", "Customer": None}, {"customer": None, "Customer": "b"}]


def test_pinned_version_reads_as_one_column(twice: Lake) -> None:
    version = DeltaTable(twice.uri(TABLE)).version()
    replace_date(twice, TABLE, named("customer", "c", x="3"), THIRD)
    late = Lake(twice.root)
    late.pin({TABLE: version})
    assert seen(late) == [("a",), ("b",)]


def test_columns_of_an_emptied_table_are_unified(twice: Lake) -> None:
    DeltaTable(twice.uri(TABLE)).delete()
    replace_date(twice, TABLE, named("customer", "c", x="3"), THIRD)
    assert sorted(columns(twice)) == ["Customer", "run_date", "x"]
    assert seen(twice) == [("c",)]


def test_development_copy_has_all_values(twice: Lake) -> None:
    copy = Lake(twice.root, development="eve")
    assert seen(copy) == [("a",), ("b",)]
    replace_date(copy, TABLE, named("customer", "c", x="3"), THIRD)
    assert seen(copy) == [("a",), ("b",), ("c",)]
    assert "customer" in columns(twice)


def test_concurrent_write_is_kept(twice: Lake, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes between the reading of the rows and the commit."""
    tell, others = schema_evolution._warn_of_conflicting_values, [THIRD]

    def write_first(*looked: Any) -> None:
        tell(*looked)
        if others:
            write_as_before(twice, named("customer", "of another", x="3"), others.pop())

    monkeypatch.setattr(schema_evolution, "_warn_of_conflicting_values", write_first)
    replace_date(twice, TABLE, named("customer", "d", x="4"), date(2025, 11, 4))
    assert seen(twice) == [("a",), ("b",), ("of another",), ("d",)]
    assert len(waits) == 1


def test_rows_with_different_values_are_a_warning(twice: Lake) -> None:
    both = named("customer", "old", x="3").append_column("Customer", pa.array(["new"]))
    write_as_before(twice, both, THIRD)
    with pytest.warns(UserWarning, match=r"bronze.orders has 1 rows with different values in 'Customer', 'customer'"):
        replace_date(twice, TABLE, named("customer", "c", x="3"), date(2025, 11, 4))
    assert seen(twice) == [("a",), ("b",), ("new",), ("c",)]


def test_rows_with_equal_values_are_not_a_warning(twice: Lake) -> None:
    write_as_before(twice, named("customer", "same", x="3").append_column("Customer", pa.array(["same"])), THIRD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace_date(twice, TABLE, named("customer", "c", x="3"), date(2025, 11, 4))


def test_names_of_another_type_are_left_out() -> None:
    schema = pa.schema([("size", pa.string()), ("at", pa.date32()), ("SIZE", pa.int64()), ("Size", pa.int64())])
    assert stored_columns(schema) == {"size": ["Size", "SIZE"], "at": ["at"]}


def test_value_can_be_stored_under_three_names(twice: Lake) -> None:
    write_as_before(twice, named("CUSTOMER", "c", x="3"), THIRD)
    assert seen(twice) == [("a",), ("b",), ("c",)]
    replace_date(twice, TABLE, named("customer", "d", x="4"), date(2025, 11, 4))
    assert sorted(pc.unique(open_dataset(DeltaTable(twice.uri(TABLE))).to_table()["CUSTOMER"]).to_pylist()) == [
        "a",
        "b",
        "c",
        "d",
    ]
