"""Find which files of a table hold which business dates, from the statistics in its log.

A file holds one or several dates. Tables of earlier releases have a partition for each date until they are migrated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import repeat
from typing import Any, Optional
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from daybook.lake.table_properties import DATE_COLUMN_PROPERTY


@dataclass(frozen=True)
class DataFile:
    """A data file of a table, with its first and last date.

    ``first`` and ``last`` are None if the log does not have them: the file can hold any date. ``partition`` has the values of
    partition columns, which are not in the file.
    """

    path: str
    size: int
    first: Optional[date] = None
    last: Optional[date] = None
    partition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_one_date(self) -> bool:
        return self.first is not None and self.first == self.last

    def may_hold(self, day: date) -> bool:
        """Return whether the file can have rows of a date."""
        return self.first is None or self.last is None or self.first <= day <= self.last


def find_stored_date_column(delta: DeltaTable) -> Optional[str]:
    """Return the column whose dates select the files of a table; None for a table that is written as a whole."""
    metadata = delta.metadata()
    by = list(metadata.partition_columns)
    return by[0] if by else metadata.configuration.get(DATE_COLUMN_PROPERTY)


def list_data_files(delta: DeltaTable) -> list[DataFile]:
    """Return the files of a table with their dates. Only the log is read."""
    if not delta.file_uris():  # deltalake 1.2.1 panics on the actions of a table without files.
        return []
    actions = pa.table(delta.get_add_actions())
    column = find_stored_date_column(delta)
    first, last = _read_dates(actions, column)
    paths = [unquote(each) for each in actions.column("path").to_pylist()]
    partitions = actions.column("partition").to_pylist() if "partition" in actions.schema.names else repeat({})
    return [DataFile(*each) for each in zip(paths, actions.column("size_bytes").to_pylist(), first, last, partitions)]


def _read_dates(actions: pa.Table, column: Optional[str]) -> tuple[list[Any], list[Any]]:
    """Return the first and the last date of each file, by its partition or its statistics."""
    unknown: list[Any] = [None] * actions.num_rows
    dates, least, greatest, nulls = (_read_field(actions, name, column) for name in ("partition", "min", "max", "null_count"))
    if dates is not None:
        return dates, dates
    if least is None or greatest is None or nulls is None:
        return unknown, unknown
    # Rows without a date are in no range.
    first, last = ([None if count else day for day, count in zip(days, nulls)] for days in (least, greatest))
    return first, last


def _read_field(actions: pa.Table, name: str, column: Optional[str]) -> Optional[list[Any]]:
    if column is None or name not in actions.schema.names:
        return None
    found = actions.column(name)
    if found.type.get_field_index(column) < 0:
        return None
    return list(pc.struct_field(found, column).to_pylist())


def dates_predicate(column: str, dates: Iterable[date]) -> str:
    """Return a SQL predicate for the rows of these dates, by which deltalake skips files."""
    days = sorted(set(dates))
    listed = f"{column} IN ({', '.join(repr(day.isoformat()) for day in days)})"
    # deltalake uses long lists only to select rows.
    return f"{column} >= '{days[0]}' AND {column} <= '{days[-1]}' AND {listed}" if len(days) > 1 else listed


def select_files(files: Collection[DataFile], days: Optional[Collection[date]]) -> list[DataFile]:
    """Return the files that can have rows of any of these dates; all files for None."""
    if days is None:
        return list(files)
    return [each for each in files if any(each.may_hold(day) for day in days)]
