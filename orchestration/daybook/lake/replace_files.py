"""Replace data files of a table by others with the same rows, in one commit.

deltalake 1.2.1 has no such commit, and cannot change the partitions of a table. So the files and the entry of the log are
written here. An entry is created with a conditional put, as deltalake does: a commit of another writer is never replaced.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Optional

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from daybook.errors import ObjectExistsError
from daybook.lake.delta import table_files
from daybook.lake.layout import DataFile
from daybook.storage import Store, is_bucket

MAX_WRITER_VERSION = 2
"""Delta protocol version of tables that Daybook creates. Others can have rules that a log entry written here would break."""
_ROW_GROUP_ROWS = 1 << 16
_MAX_STATISTICS_CHARACTERS = 64


@dataclass(frozen=True)
class NewFile:
    """The rows of a new file, read once, and the values of partition columns as text, which are not written to the file."""

    rows: Iterable[pa.RecordBatch]
    partition: Mapping[str, str] = field(default_factory=dict)


def replace_files(
    delta: DeltaTable,
    uri: str,
    removed: Iterable[DataFile],
    new: Sequence[NewFile],
    *,
    operation: str,
    details: Mapping[str, str],
    metadata: Optional[Mapping[str, Any]] = None,
) -> bool:
    """Replace files in one commit.

    Parameters
    ----------
    delta, uri
        The table at its newest version, and its address.
    removed, new
        The files to remove, and those with the same rows to add.
    operation, details
        What the log has about the commit.
    metadata
        New metadata of the table, as the log has them (``metaData``).

    Returns
    -------
    bool
        False if another writer was first. Then nothing is changed, and the written files are removed.
    """
    properties = metadata["configuration"] if metadata else delta.metadata().configuration
    schema = pa.schema(delta.schema().to_arrow())
    columns = _statistics_columns(properties, schema.names)
    paths = [_new_path(each) for each in new]
    try:
        added = [_write_file(delta, each, path, schema, columns) for each, path in zip(new, paths)]
    except BaseException:
        _remove_files(uri, paths)
        raise
    now = int(time.time() * 1000)
    entry: list[dict[str, Any]] = [
        {"commitInfo": {"timestamp": now, "operation": operation, "operationParameters": {}, **details}},
        *([{"metaData": metadata}] if metadata else []),
        *({"remove": _removal(each, now)} for each in removed),
        *({"add": each} for each in added),
    ]
    if not _create_entry(uri, int(delta.version()) + 1, entry):
        _remove_files(uri, paths)
        return False
    delta.update_incremental()
    # Readers then need none of the earlier entries of the log.
    delta.create_checkpoint()
    return True


def _create_entry(uri: str, version: int, entry: Sequence[Mapping[str, Any]]) -> bool:
    """Write an entry of the log; return False if another writer has written this version."""
    log, name = Store(f"{uri}/_delta_log"), f"{version:020d}.json"
    data = "\n".join(json.dumps(each, separators=(",", ":")) for each in entry).encode()
    try:
        log.create(name, data)
    except ObjectExistsError:
        # A request that is repeated after a lost answer finds its own entry.
        return log.read(name) == data
    return True


def _remove_files(uri: str, paths: Iterable[str]) -> None:
    store = Store(uri)
    for path in paths:
        store.remove(path)


def _new_path(file: NewFile) -> str:
    folders = [f"{name}={value}" for name, value in file.partition.items()]
    return "/".join([*folders, f"part-00000-{uuid.uuid4()}-c000.snappy.parquet"])


def _write_file(delta: DeltaTable, file: NewFile, path: str, schema: pa.Schema, columns: Sequence[str]) -> dict[str, Any]:
    """Write a data file, and return how the log names it."""
    folder = table_files(delta)
    schema = pa.schema([each for each in schema if each.name not in file.partition])
    if file.partition and not is_bucket(delta.table_uri):
        folder.create_dir(path.rpartition("/")[0])
    with pq.ParquetWriter(path, schema, filesystem=folder, compression="snappy") as writer:
        kept: list[pa.RecordBatch] = []
        for batch in file.rows:
            kept.append(batch.select(schema.names))
            if sum(each.num_rows for each in kept) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(kept, schema))
                kept = []
        if kept:
            writer.write_table(pa.Table.from_batches(kept, schema))
    footer = pq.read_metadata(path, filesystem=folder)
    return {
        "path": path,
        "partitionValues": dict(file.partition),
        "size": folder.get_file_info(path).size,
        "modificationTime": int(time.time() * 1000),
        "dataChange": False,
        "stats": json.dumps(_read_statistics(footer, columns)),
    }


def _removal(file: DataFile, now: int) -> dict[str, Any]:
    values = {name: None if value is None else str(value) for name, value in file.partition.items()}
    return {
        "path": file.path,
        "deletionTimestamp": now,
        "dataChange": False,
        "extendedFileMetadata": True,
        "partitionValues": values,
        "size": file.size,
    }


def _statistics_columns(properties: Mapping[str, Optional[str]], names: Sequence[str]) -> list[str]:
    """Return the columns whose statistics the log has, by the properties of the table."""
    listed = properties.get("delta.dataSkippingStatsColumns")
    if listed:
        return listed.split(",")
    return [] if properties.get("delta.dataSkippingNumIndexedCols") == "0" else list(names)


def _read_statistics(footer: pq.FileMetaData, columns: Sequence[str]) -> dict[str, Any]:
    """Return the statistics of a file, from its footer, in the form of the log."""
    found: dict[str, Any] = {"numRecords": footer.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    for index in range(footer.num_columns):
        name = footer.schema.column(index).path
        parts = [group.column(index).statistics for group in groups]
        if name not in columns or not all(part is not None and part.has_null_count for part in parts):
            continue
        found["nullCount"][name] = sum(part.null_count for part in parts)
        parts = [part for part in parts if part.num_values]
        least, greatest = ([_statistic(getattr(part, name)) for part in parts if part.has_min_max] for name in ("min", "max"))
        if len(least) == len(parts) > 0 and None not in (*least, *greatest):
            found["minValues"][name], found["maxValues"][name] = min(least), max(greatest)
    return found


def _statistic(value: Any) -> Any:
    """Return a value as the log writes it; None for values that JSON or the log would round."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and len(value) > _MAX_STATISTICS_CHARACTERS:
        return None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None
