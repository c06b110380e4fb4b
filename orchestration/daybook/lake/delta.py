"""Open Delta tables at a version, and their files as Arrow datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import reduce
from operator import and_
from types import SimpleNamespace
from typing import Any, Optional
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from daybook.contracts.columns import column_key
from daybook.lake.layout import DataFile, find_stored_date_column, list_data_files
from daybook.storage import Store, arrow_options, delta_options, is_bucket, storage_read_error

SUPPORTED_READER_VERSION = 1
"""Delta protocol version without deletion vectors and column mapping, which Daybook does not write."""


def open_table(uri: str, version: Optional[int] = None) -> DeltaTable:
    """Open a table at its newest or another version. Raises deltalake's errors."""
    return DeltaTable(uri, version=version, storage_options=delta_options(uri))


def open_table_or_none(uri: str, version: Optional[int] = None) -> Optional[DeltaTable]:
    """Open a table; None if it does not exist. Raises ``StorageError`` if a bucket cannot be read."""
    try:
        return open_table(uri, version)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        if not is_bucket(uri):
            raise
        raise storage_read_error(uri, error) from error


class SequentialDataset(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """Files that are read one row group at a time, on demand.

    Arrow's own scans read ahead up to a gigabyte, whatever their readahead options are.
    """

    def scanner(self, columns: Optional[list[str]] = None, filter: Optional[ds.Expression] = None) -> Any:  # noqa: A002
        """Return the part of a scanner's interface that DuckDB uses."""
        names = self.schema.names if columns is None else columns
        batches = (
            batch
            for fragment in self.get_fragments(filter=filter)
            for group in fragment.split_by_row_group(filter, schema=self.schema)
            for batch in group.to_table(schema=self.schema, columns=columns, filter=filter).to_batches()
        )
        reader = pa.RecordBatchReader.from_batches(pa.schema([self.schema.field(name) for name in names]), batches)
        return SimpleNamespace(to_reader=lambda: reader)


def sequential_dataset(rows: ds.Dataset) -> ds.Dataset:
    """Return the dataset in a form that reads one row group at a time."""
    if not isinstance(rows, ds.FileSystemDataset):
        return rows
    return SequentialDataset(list(rows.get_fragments()), rows.schema, rows.format, rows.filesystem)


def table_files(delta: DeltaTable) -> pa.fs.FileSystem:
    """Return the folder of a table as a filesystem."""
    # deltalake writes a space as %20, which Arrow would not decode. It puts a scheme before a local path since 1.3.
    path = unquote(delta.table_uri).removeprefix("file://")
    filesystem: pa.fs.FileSystem = pa.fs.LocalFileSystem()
    if is_bucket(path):
        filesystem, path = pa.fs.S3FileSystem(**arrow_options()), path[len("s3://") :].rstrip("/")
    return pa.fs.SubTreeFileSystem(path, filesystem)


def open_dataset(delta: DeltaTable, files: Optional[Iterable[DataFile]] = None) -> ds.Dataset:
    """Return a table's files as a dataset with their dates, through Arrow's own filesystem.

    deltalake's filesystem calls Python from Arrow's reading threads, which abort the process (exit code 134, in a quarter of
    all tries) if they still run when the interpreter ends. Its fragments also have the minimum and maximum of each column as
    expressions, which take 0.6 ms a file to make; the footers of files have the same values. These have the dates only, so a
    query for some dates opens no other files.

    Parameters
    ----------
    delta
        The table at a version.
    files
        The files to read; None for all.
    """
    folder = table_files(delta)
    if delta.protocol().min_reader_version > SUPPORTED_READER_VERSION:
        rows = delta.to_pyarrow_dataset(filesystem=folder)
        chosen = None if files is None else {each.path for each in files}
        fragments = [each for each in rows.get_fragments() if chosen is None or each.path in chosen]
        return ds.FileSystemDataset(fragments, rows.schema, rows.format, rows.filesystem)
    schema = pa.schema(delta.schema().to_arrow())
    # A bucket's files are read with few requests; their data stays in memory until the file is read to its end.
    options = ds.ParquetFragmentScanOptions(pre_buffer=is_bucket(delta.table_uri))
    layout = ds.ParquetFileFormat(default_fragment_scan_options=options)
    column = find_stored_date_column(delta)
    fragments = [
        layout.make_fragment(each.path, filesystem=folder, partition_expression=_file_expression(column, each))
        for each in (list_data_files(delta) if files is None else files)
    ]
    return ds.FileSystemDataset(fragments, schema, layout, folder)


def read_dates(delta: DeltaTable) -> list[date]:
    """Return the dates that a table has rows of, sorted; none for a table without dates.

    The log has them for files of one date. Of other files, the column of the date is read.
    """
    column = find_stored_date_column(delta)
    if column is None:
        return []
    files = list_data_files(delta)
    found = {each.first for each in files if each.has_one_date}
    mixed = [each for each in files if not each.has_one_date]
    for batch in open_dataset(delta, mixed).to_batches(columns=[column]) if mixed else ():
        found.update(batch.column(0).unique().to_pylist())
    return sorted(day for day in found if day is not None)


def _file_expression(column: Optional[str], file: DataFile) -> Optional[ds.Expression]:
    """Return an expression that is true for all rows of a file, by its partition or its dates; None without both."""
    if file.partition:
        named = ((ds.field(name), value) for name, value in file.partition.items())
        return reduce(and_, (each.is_null() if value is None else each == value for each, value in named))
    if column is None or file.first is None or file.last is None:
        return None
    field = ds.field(column)
    return field == file.first if file.has_one_date else (field >= file.first) & (field <= file.last)


def with_columns(rows: ds.Dataset, schema: pa.Schema) -> ds.Dataset:
    """Return the rows with exactly the columns of a schema, in its order; columns that are not stored are null.

    A stored column keeps its stored name and type. A column that is stored under several names has all of them
    (``stored_columns``). A filtered dataset would lose its filter.
    """
    stored: dict[str, list[pa.Field]] = {}
    for each in rows.schema:
        stored.setdefault(column_key(each.name), []).append(each)
    wanted = pa.schema([field for each in schema for field in stored.get(column_key(each.name), [each])])
    return rows if wanted.equals(rows.schema) else rows.replace_schema(wanted)


def stored_columns(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names that each column is stored under, newest first, by column key.

    Earlier releases stored another spelling of a name as another column, so the values of a column can be divided among
    several names. Names with another type than the newest are left out.
    """
    found: dict[str, list[pa.Field]] = {}
    for each in schema:
        found.setdefault(column_key(each.name), []).insert(0, each)
    return {key: [each.name for each in fields if each.type == fields[0].type] for key, fields in found.items()}


def column_expression(schema: pa.Schema, name: str) -> ds.Expression:
    """Return an expression for the values of a column, which can be stored under several names."""
    names = stored_columns(schema)[column_key(name)]
    return ds.field(names[0]) if len(names) == 1 else pc.coalesce(*map(ds.field, names))


def scanner_columns(schema: pa.Schema, names: list[str]) -> Any:
    """Return the ``columns`` argument of a scanner that gives exactly these columns."""
    exact = len(stored_columns(schema)) == len(schema) and set(names) <= set(schema.names)
    return names if exact else {name: column_expression(schema, name) for name in names}


class TableCache:
    """Open tables. A table is opened again only after its log has changed.

    A stage uses the same tables about a hundred times, and opening a table reads its log from the last checkpoint on. Two
    requests for objects of the log show whether a version is still the newest.
    """

    def __init__(self) -> None:
        self._newest: dict[str, tuple[DeltaTable, str]] = {}
        self._earlier: dict[tuple[str, int], DeltaTable] = {}
        self._datasets: dict[tuple[str, str, int], ds.Dataset] = {}
        self._logs: dict[str, Store] = {}

    def get(self, uri: str, version: Optional[int] = None) -> Optional[DeltaTable]:
        """Return a table at a version or at its newest; None if it does not exist."""
        if version is not None:
            return self._at(uri, version)
        kept = self._newest.get(uri)
        if kept is not None and self._mark(uri, kept[0].version()) == kept[1] and not self._mark(uri, kept[0].version() + 1):
            return kept[0]
        delta = open_table_or_none(uri)
        self._newest.pop(uri, None)
        if delta is not None:
            self._newest[uri] = (delta, self._mark(uri, delta.version()))
        return delta

    def _at(self, uri: str, version: int) -> Optional[DeltaTable]:
        newest = self._newest.get(uri)
        if newest is not None and newest[0].version() == version:
            return newest[0]
        delta = self._earlier.get((uri, version)) or open_table_or_none(uri, version)
        if delta is not None:
            self._earlier[uri, version] = delta
        return delta

    @contextmanager
    def committing(self, uri: str) -> Iterator[None]:
        """Enclose a commit through the newest version of a table, whose object then has the new version.

        The object is dropped if the commit failed or another writer came between: its state is then unknown.
        """
        kept = self._newest.pop(uri, None)
        before = -1 if kept is None else kept[0].version()
        yield
        if kept is not None and kept[0].version() <= before + 1:
            self._newest[uri] = (kept[0], self._mark(uri, kept[0].version()))

    def dataset(self, uri: str, delta: DeltaTable) -> ds.Dataset:
        """Return the files of a table from ``get`` as a dataset. Footers stay in memory once read."""
        # With the id: a table that was deleted and created again has the same versions.
        key = (uri, str(delta.metadata().id), delta.version())
        if key not in self._datasets:
            self._datasets[key] = open_dataset(delta)
        return self._datasets[key]

    def _mark(self, uri: str, version: int) -> str:
        """Return the version tag of a log entry, which identifies its content; empty if it does not exist."""
        log = self._logs.get(uri) or self._logs.setdefault(uri, Store(f"{uri}/_delta_log"))
        try:
            return log.version_tag(f"{version:020d}.json")
        except FileNotFoundError:
            return ""
