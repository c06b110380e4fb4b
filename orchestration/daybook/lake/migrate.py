"""Convert tables with a partition for each date, which earlier releases wrote, to few files sorted by date, and back.

Each table is converted in one commit that changes no row. Its earlier versions stay readable until a vacuum. A killed
conversion leaves each table as it was or converted; the next one continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from daybook.errors import LakeError
from daybook.lake.compaction import group_files, read_sorted, small_file_bytes
from daybook.lake.delta import open_dataset, read_dates
from daybook.lake.layout import DataFile, find_stored_date_column, list_data_files, select_files
from daybook.lake.replace_files import MAX_WRITER_VERSION, NewFile, replace_files
from daybook.lake.rewrite import StoredTable, list_tables
from daybook.lake.table_properties import DATE_COLUMN_PROPERTY, find_date_column, table_configuration

MIGRATION_WRITER = "migrate"
"""What signs the commits of a migration in the log of a table."""


@dataclass(frozen=True)
class TableMigration:
    """A table to convert: its number of files before and after, and the bytes to rewrite."""

    table: StoredTable
    files_before: int
    files_after: int
    bytes: int


def plan_migration(root: str, *, back: bool = False) -> list[TableMigration]:
    """Return the tables under a root to convert; with ``back``, those to give a partition for each date again."""
    found = []
    for table in list_tables(root):
        delta = table.open()
        if not _is_to_convert(delta, table.full_name, back=back):
            continue
        files = list_data_files(delta)
        after = len(read_dates(delta)) if back else len(group_files(files, small_file_bytes(table.full_name)))
        found.append(TableMigration(table, len(files), after, sum(each.size for each in files)))
    return found


def migrate_table(table: StoredTable, *, back: bool = False) -> bool:
    """Convert a table in one commit; return False if it was converted before.

    Raises ``LakeError`` if another writer has changed the table meanwhile.
    """
    delta = table.open()
    if not _is_to_convert(delta, table.full_name, back=back):
        return False
    if delta.protocol().min_writer_version > MAX_WRITER_VERSION:
        raise LakeError(
            f"{table.display_name} at {table.uri} was written by a tool with another protocol; convert it with that tool."
        )
    schema = pa.schema(delta.schema().to_arrow())
    properties = {**delta.metadata().configuration}
    for name in (DATE_COLUMN_PROPERTY, "delta.dataSkippingStatsColumns", "delta.dataSkippingNumIndexedCols"):
        properties.pop(name, None)
    properties.update(table_configuration(table.full_name, schema, partitioned=back))
    files, column = list_data_files(delta), str(find_stored_date_column(delta))
    if back:
        new = list(_list_partitions(delta, column, files))
    else:
        groups = group_files(files, small_file_bytes(table.full_name))
        new = [NewFile(read_sorted(delta, table.full_name, group)) for group in groups]
    converted = replace_files(
        delta,
        table.uri,
        files,
        new,
        operation="MIGRATE",
        details={"daybook_run_id": MIGRATION_WRITER},
        metadata=_metadata(delta, [column] if back else [], properties),
    )
    if not converted:
        raise LakeError(f"{table.display_name} was changed by another writer during its migration; run the migration again.")
    return True


def _is_to_convert(delta: DeltaTable, name: str, *, back: bool) -> bool:
    if not back:
        by = list(delta.metadata().partition_columns)
        return bool(by) and by == [find_date_column(name, pa.schema(delta.schema().to_arrow()))]
    return not delta.metadata().partition_columns and find_stored_date_column(delta) is not None


def _list_partitions(delta: DeltaTable, column: str, files: list[DataFile]) -> Iterator[NewFile]:
    for day in read_dates(delta):
        yield NewFile(_read_date(delta, column, day, files), {column: day.isoformat()})


def _read_date(delta: DeltaTable, column: str, day: date, files: list[DataFile]) -> Iterator[pa.RecordBatch]:
    rows = open_dataset(delta, select_files(files, [day]))
    yield from rows.scanner(filter=pc.field(column) == pa.scalar(day), batch_readahead=2, fragment_readahead=1).to_batches()


def _metadata(delta: DeltaTable, partition_columns: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a table with other partitions and properties, as the log has them."""
    known = delta.metadata()
    return {
        "id": str(known.id),
        **({"name": known.name} if known.name else {}),
        **({"description": known.description} if known.description else {}),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": delta.schema().to_json(),
        "partitionColumns": partition_columns,
        **({"createdTime": known.created_time} if known.created_time else {}),
        "configuration": properties,
    }
