"""Combine small files of a table into larger ones, sorted by date or key, in one commit that changes no row.

deltalake 1.2.1 sorts a table only as a whole, and its compaction combines files of distant dates. So the files and the log
entry are written here. An entry is created with a conditional put, as deltalake does: a commit that another writer has made
meanwhile is never replaced.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Optional

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from daybook.errors import ObjectExistsError
from daybook.lake.delta import open_dataset, table_files
from daybook.lake.layout import DataFile, find_stored_date_column, list_data_files
from daybook.lake.schema_evolution import find_contract, stored_names
from daybook.storage import Store

COMPACTION_MIN_FILES = 16
"""Number of small files from which they are combined. Each run adds one or more."""
_MIN_FILES = {"gold": 4}
"""The same for layers whose tables are read as a whole."""
COMPACTED_FILE_BYTES = 1 << 23
"""Size from which a file is not small. Larger files are not rewritten, so the cost does not grow with the history."""
_FILE_BYTES = {"silver": 1 << 21, "gold": 1 << 21}
"""The same for layers whose runs replace single rows or earlier dates, and so rewrite files."""
_ROW_GROUP_ROWS = 1 << 16
_MAX_STATISTICS_CHARACTERS = 64
_MAX_WRITER_VERSION = 2
"""Delta protocol version of tables that Daybook creates. Others can have rules that a log entry written here would break."""


def small_file_bytes(table: str) -> int:
    """Return the size from which a file of a table is not small."""
    return _FILE_BYTES.get(table.split(".")[0], COMPACTED_FILE_BYTES)


def find_compaction(delta: DeltaTable, table: str) -> list[list[DataFile]]:
    """Return the groups of small files to combine, each into one file; none if there are too few. Only the log is read."""
    if delta.metadata().partition_columns or delta.protocol().min_writer_version > _MAX_WRITER_VERSION:
        return []
    limit = small_file_bytes(table)
    groups = [each for each in group_files([f for f in list_data_files(delta) if f.size < limit], limit) if len(each) > 1]
    enough = sum(map(len, groups)) >= _MIN_FILES.get(table.split(".")[0], COMPACTION_MIN_FILES)
    return groups if enough else []


def group_files(files: Iterable[DataFile], size: int) -> list[list[DataFile]]:
    """Divide files, in the order of their dates, into groups of about this size in bytes."""
    groups: list[list[DataFile]] = [[]]
    for each in sorted(files, key=lambda each: (each.first or date.min, each.last or date.min)):
        if sum(other.size for other in groups[-1]) >= size:
            groups.append([])
        groups[-1].append(each)
    return groups if groups[0] else []


def replace_files(
    delta: DeltaTable,
    table: str,
    uri: str,
    groups: Sequence[Sequence[DataFile]],
    *,
    operation: str,
    details: Mapping[str, str],
    metadata: Optional[Mapping[str, Any]] = None,
) -> bool:
    """Write each group of files as one sorted file, and replace them in one commit.

    Parameters
    ----------
    delta, table, uri
        The table at its newest version, its name and its address.
    groups
        The files to replace.
    operation, details
        What the log has about the commit.
    metadata
        New metadata of the table, as the log writes them.

    Returns
    -------
    bool
        False if another writer was first. Then nothing is changed, and the written files are removed.
    """
    paths = [f"part-00000-{uuid.uuid4()}-c000.snappy.parquet" for _ in groups]
    try:
        added = [_write_file(delta, _read_sorted(delta, table, group), path) for group, path in zip(groups, paths)]
    except BaseException:
        _remove_files(uri, paths)
        raise
    now = int(time.time() * 1000)
    entry: list[dict[str, Any]] = [
        {"commitInfo": {"timestamp": now, "operation": operation, "operationParameters": {}, **details}},
        *([{"metaData": metadata}] if metadata else []),
        *({"remove": _removal(each, now)} for group in groups for each in group),
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


def _read_sorted(delta: DeltaTable, table: str, files: Sequence[DataFile]) -> Iterator[pa.RecordBatch]:
    """Read the rows of files in the order of their dates, or of their keys in a table without dates."""
    rows, column = open_dataset(delta, files), find_stored_date_column(delta)
    if column is not None and all(each.has_one_date for each in files):
        yield from rows.scanner(batch_readahead=2, fragment_readahead=1).to_batches()
        return
    contract = find_contract(table)
    order = [column] if column else stored_names(delta, contract.key) if contract else []
    found = rows.to_table()
    if order:
        found = found.sort_by([(name, "ascending") for name in order])
    yield from found.to_batches()


def _write_file(delta: DeltaTable, batches: Iterable[pa.RecordBatch], path: str) -> dict[str, Any]:
    """Write a data file, and return how the log names it."""
    folder, schema = table_files(delta), pa.schema(delta.schema().to_arrow())
    with pq.ParquetWriter(path, schema, filesystem=folder, compression="snappy") as writer:
        kept: list[pa.RecordBatch] = []
        for batch in batches:
            kept.append(batch)
            if sum(each.num_rows for each in kept) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(kept, schema))
                kept = []
        if kept:
            writer.write_table(pa.Table.from_batches(kept, schema))
    footer = pq.read_metadata(path, filesystem=folder)
    return {
        "path": path,
        "partitionValues": {},
        "size": folder.get_file_info(path).size,
        "modificationTime": int(time.time() * 1000),
        "dataChange": False,
        "stats": json.dumps(_read_statistics(footer, _statistics_columns(delta))),
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


def _statistics_columns(delta: DeltaTable) -> list[str]:
    """Return the columns whose statistics the log has, by the properties of the table."""
    properties = delta.metadata().configuration
    if "delta.dataSkippingStatsColumns" in properties:
        return str(properties["delta.dataSkippingStatsColumns"]).split(",")
    if properties.get("delta.dataSkippingNumIndexedCols") == "0":
        return []
    return [each.name for each in delta.schema().fields]


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
