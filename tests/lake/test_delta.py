"""Test that datasets equal deltalake's, and that tables are opened again only after commits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake

import daybook.lake.delta
from daybook.lake.delta import SUPPORTED_READER_VERSION, TableCache, open_dataset, read_dates
from daybook.lake.layout import list_data_files, select_files

SCHEMA = pa.schema(
    [("day", pa.date32()), ("shop name", pa.string()), ("amount", pa.decimal128(18, 4)), ("at", pa.timestamp("us", "UTC"))]
)


def sales(day: Optional[int], shop: Optional[str], *amounts: str) -> pa.Table:
    when = None if day is None else date(2025, 11, day)
    rows = [{"day": when, "shop name": shop, "amount": Decimal(each), "at": None} for each in amounts]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "with a space" / "sales")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of tables that are opened from their logs."""
    found: list[str] = []
    open_delta = daybook.lake.delta.open_table_or_none

    def note(uri: str, version: Optional[int] = None) -> Optional[DeltaTable]:
        found.append(uri if version is None else f"{uri}@{version}")
        return open_delta(uri, version)

    monkeypatch.setattr(daybook.lake.delta, "open_table_or_none", note)
    return found


def rows(dataset: Any) -> list[dict[str, Any]]:
    return sorted(dataset.to_table().to_pylist(), key=repr)


# Datasets


@pytest.mark.parametrize("partitions", [[], ["day"], ["day", "shop name"]])
def test_dataset_equals_deltalakes(uri: str, partitions: list[str]) -> None:
    for part in (sales(1, "a b", "1.5", "2"), sales(2, "100%/é", "3"), sales(None, None, "4")):
        write_deltalake(uri, part, mode="append", partition_by=partitions or None)
    delta = DeltaTable(uri)
    ours, theirs = open_dataset(delta), delta.to_pyarrow_dataset()
    assert ours.schema == theirs.schema
    assert rows(ours) == rows(theirs)
    assert len(rows(ours)) == 4


def test_table_without_files_has_columns(uri: str) -> None:
    delta = DeltaTable.create(uri, schema=SCHEMA, partition_by=["day"])
    assert open_dataset(delta).to_table() == DeltaTable(uri).to_pyarrow_table() == SCHEMA.empty_table()


def test_new_column_is_null_in_older_files(uri: str) -> None:
    write_deltalake(uri, sales(1, "a", "1").drop_columns(["at"]), partition_by=["day"])
    write_deltalake(uri, sales(2, "a", "1"), mode="append", schema_mode="merge")
    assert rows(open_dataset(DeltaTable(uri))) == rows(DeltaTable(uri).to_pyarrow_dataset())


def test_files_of_other_partitions_are_not_opened(uri: str) -> None:
    for day in (1, 2):
        write_deltalake(uri, sales(day, "a", "1"), mode="append", partition_by=["day"])
    for path in Path(uri).glob("day=2025-11-02/*.parquet"):
        path.unlink()
    dataset = open_dataset(DeltaTable(uri))
    assert dataset.to_table(filter=ds.field("day") == date(2025, 11, 1)).num_rows == 1
    with pytest.raises(FileNotFoundError):
        dataset.to_table()


@pytest.mark.parametrize("shop", ["a b", "100%/é"])
def test_dataset_of_a_date_has_only_its_files(uri: str, shop: str) -> None:
    for part in (sales(1, "a b", "1.5", "2"), sales(1, "100%/é", "3"), sales(2, shop, "4")):
        write_deltalake(uri, part, mode="append", partition_by=["day", "shop name"])
    delta = DeltaTable(uri)
    files = select_files(list_data_files(delta), [date(2025, 11, 1)])
    of_date, whole = open_dataset(delta, files), open_dataset(delta)
    assert rows(of_date) == [each for each in rows(whole) if each["day"] == date(2025, 11, 1)]
    assert {each.path for each in files} == {each.path for each in of_date.get_fragments()}
    assert (len(files), len(list_data_files(delta))) == (2, 3)


def test_date_without_files_has_no_rows(uri: str) -> None:
    write_deltalake(uri, sales(1, "a", "1"), partition_by=["day"])
    delta = DeltaTable(uri)
    assert select_files(list_data_files(delta), [date(2025, 11, 2)]) == []
    assert open_dataset(delta, []).to_table() == SCHEMA.empty_table()


def test_newer_protocol_table_is_read(uri: str) -> None:
    # A timestamp without a zone needs reader version 3.
    schema = pa.schema([("day", pa.date32()), ("at", pa.timestamp("us"))])
    for day in (1, 2):
        part = pa.table({"day": [date(2025, 11, day)], "at": [datetime(2025, 11, day)]}, schema=schema)
        write_deltalake(uri, part, mode="append", partition_by=["day"])
    delta = DeltaTable(uri)
    assert delta.protocol().min_reader_version > SUPPORTED_READER_VERSION
    assert read_dates(delta) == [date(2025, 11, 1), date(2025, 11, 2)]
    assert open_dataset(delta).count_rows() == 2
    first = open_dataset(delta, select_files(list_data_files(delta), [date(2025, 11, 1)]))
    assert first.to_table()["at"].to_pylist() == [datetime(2025, 11, 1)]


# Open tables


@pytest.fixture
def tables(uri: str) -> Iterator[TableCache]:
    write_deltalake(uri, sales(1, "a", "1"))
    yield TableCache()


def test_unchanged_table_is_opened_once(uri: str, tables: TableCache, opened: list[str]) -> None:
    assert [rows(tables.dataset(uri, tables.get(uri) or pytest.fail())) for _ in range(3)] == [
        rows(open_dataset(DeltaTable(uri)))
    ] * 3
    assert opened == [uri]


def test_commits_of_others_are_seen(uri: str, tables: TableCache) -> None:
    for version in (0, 1, 2):
        delta = tables.get(uri)
        assert delta is not None and delta.version() == version
        assert tables.dataset(uri, delta).count_rows() == version + 1
        write_deltalake(uri, sales(1, "a", "1"), mode="append")


def test_own_commits_do_not_reopen_the_table(uri: str, tables: TableCache, opened: list[str]) -> None:
    delta = tables.get(uri)
    assert delta is not None
    with tables.committing(uri):
        write_deltalake(delta, sales(2, "b", "2"), mode="append")
    assert tables.get(uri) is delta
    assert tables.dataset(uri, delta).count_rows() == 2
    assert opened == [uri]


def test_commit_after_another_writers_reopens_the_table(uri: str, tables: TableCache) -> None:
    delta = tables.get(uri)
    assert delta is not None
    write_deltalake(uri, sales(2, "b", "2"), mode="append")
    with tables.committing(uri):
        write_deltalake(delta, sales(3, "c", "3"), mode="append")
    after = tables.get(uri)
    assert after is not None and after.version() == 2
    assert tables.dataset(uri, after).count_rows() == 3


def test_failed_commit_reopens_the_table(uri: str, tables: TableCache, opened: list[str]) -> None:
    delta = tables.get(uri)
    with pytest.raises(RuntimeError), tables.committing(uri):
        raise RuntimeError("the disk is full")
    assert tables.get(uri) is not delta
    assert opened == [uri, uri]


def test_recreated_table_is_opened_again(uri: str, tables: TableCache) -> None:
    before = tables.get(uri)
    assert before is not None and tables.dataset(uri, before).count_rows() == 1
    shutil.rmtree(uri)
    assert tables.get(uri) is None
    write_deltalake(uri, sales(1, "a", "1", "2", "3"))
    after = tables.get(uri)
    assert after is not None and after.version() == 0
    assert tables.dataset(uri, after).count_rows() == 3


def test_earlier_version_does_not_change(uri: str, tables: TableCache, opened: list[str]) -> None:
    write_deltalake(uri, sales(2, "b", "2"), mode="append")
    for _ in range(2):
        earlier = tables.get(uri, 0)
        assert earlier is not None and tables.dataset(uri, earlier).count_rows() == 1
    newest = tables.get(uri)
    assert newest is not None and tables.get(uri, 1) is newest
    assert opened == [f"{uri}@0", uri]
