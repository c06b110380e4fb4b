"""Combine small files of a table into larger ones, sorted by date or key. No row changes.

deltalake 1.2.1 sorts a table only as a whole, and its compaction combines files of distant dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import pyarrow as pa
from deltalake import DeltaTable

from daybook.lake.delta import open_dataset
from daybook.lake.layout import DataFile, find_stored_date_column, list_data_files
from daybook.lake.replace_files import MAX_WRITER_VERSION, NewFile, replace_files
from daybook.lake.schema_evolution import find_contract, stored_names

COMPACTION_MIN_FILES = 16
"""Number of small files from which they are combined. Each run adds one or more."""
_MIN_FILES = {"gold": 4}
"""The same for layers whose tables are read as a whole."""
COMPACTED_FILE_BYTES = 1 << 23
"""Size from which a file is not small. Larger files are not rewritten, so the cost does not grow with the history."""
_FILE_BYTES = {"silver": 1 << 21, "gold": 1 << 21}
"""The same for layers whose runs replace single rows or earlier dates, and so rewrite files."""


def small_file_bytes(table: str) -> int:
    """Return the size from which a file of a table is not small."""
    return _FILE_BYTES.get(table.split(".")[0], COMPACTED_FILE_BYTES)


def find_compaction(delta: DeltaTable, table: str) -> list[list[DataFile]]:
    """Return the groups of small files to combine, each into one file; none if there are too few. Only the log is read."""
    if delta.metadata().partition_columns or delta.protocol().min_writer_version > MAX_WRITER_VERSION:
        return []
    limit = small_file_bytes(table)
    small = [each for each in list_data_files(delta) if each.size < limit]
    if len(small) < _MIN_FILES.get(table.split(".")[0], COMPACTION_MIN_FILES):
        return []
    return [each for each in group_files(small, limit) if len(each) > 1]


def group_files(files: Iterable[DataFile], size: int) -> list[list[DataFile]]:
    """Divide files, in the order of their dates, into groups of about this size in bytes."""
    groups: list[list[DataFile]] = [[]]
    for each in sorted(files, key=lambda each: (each.first or date.min, each.last or date.min)):
        if sum(other.size for other in groups[-1]) >= size:
            groups.append([])
        groups[-1].append(each)
    return groups if groups[0] else []


def compact_groups(
    delta: DeltaTable, table: str, uri: str, groups: Sequence[Sequence[DataFile]], details: Mapping[str, str]
) -> bool:
    """Combine each group of files in one commit; return False if another writer was first, and nothing was changed."""
    new = [NewFile(read_sorted(delta, table, group)) for group in groups]
    removed = [each for group in groups for each in group]
    return replace_files(delta, uri, removed, new, operation="OPTIMIZE", details=details)


def read_sorted(delta: DeltaTable, table: str, files: Sequence[DataFile]) -> Iterator[pa.RecordBatch]:
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
