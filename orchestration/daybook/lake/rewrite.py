"""Rewrite the tables of a lake, for an erasure or new pseudonyms, and remove their history."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Callable, Literal, Optional

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from daybook.errors import LakeError, UsageError
from daybook.lake.delta import open_dataset, open_table, read_dates
from daybook.lake.layout import dates_predicate, find_stored_date_column
from daybook.lake.schema_evolution import unify_columns
from daybook.lake.table_properties import current_configuration, set_missing_properties, table_configuration
from daybook.lake.tables import SCHEMAS, CommitResult, retry_commit
from daybook.records.archive import MAX_RUN_DURATION, Archive, parse_timestamp
from daybook.storage import ObjectInfo, Store, delta_options

LOG_FOLDER = "_delta_log"
"""The folder of a table's log."""


@dataclass(frozen=True)
class StoredTable:
    """A table that is stored under a lake's root: published, or in a user's development copy."""

    uri: str
    layer: str
    name: str
    development: str = ""

    @property
    def full_name(self) -> str:
        """``layer.name``, as SQL writes it."""
        return f"{self.layer}.{self.name}"

    @property
    def display_name(self) -> str:
        """``layer.name`` with the development copy, for messages and records."""
        return f"dev/{self.development}/{self.full_name}" if self.development else self.full_name

    def open(self) -> DeltaTable:
        """Open the newest version."""
        return open_table(self.uri)

    @property
    def columns(self) -> list[str]:
        return [field.name for field in self.open().schema().fields]


def list_tables(root: str, *, candidates: bool = False) -> list[StoredTable]:
    """Return all tables under a lake's root and in its development copies.

    The candidates of runs are left out; with ``candidates``, those in development copies are included.
    """
    store = Store(root)
    found = []
    # By folder: a listing of the whole lake has all its data files.
    for user in ("", *store.list_folders("dev")):
        prefix = f"dev/{user}/" if user else ""
        for layer in store.list_folders(prefix.rstrip("/")):
            names = store.list_folders(f"{prefix}{layer}")
            if layer == "candidate":
                runs = names if candidates and user else []
                names = [f"{run}/{name}" for run in runs for name in store.list_folders(f"{prefix}{layer}/{run}")]
            elif layer == "dev" and not user:
                continue
            # A folder can remain after its files were removed.
            places = [(name, f"{prefix}{layer}/{name}") for name in names]
            found += [
                StoredTable(store.href(place), layer, name.split("/")[-1], user)
                for name, place in places
                if store.keys(f"{place}/{LOG_FOLDER}")
            ]
    return found


def rewrite_table(
    table: StoredTable,
    change: Callable[[pa.RecordBatch], pa.RecordBatch],
    *,
    by: str,
    done: Callable[[DeltaTable], bool],
    transaction: Transaction,
) -> bool:
    """Replace every row of a table in one commit.

    Parameters
    ----------
    table, change
        The table, and a function that returns the new rows of a batch. One batch is in memory at a time.
    by
        What makes the commit, for the log.
    done
        Returns whether a version has been rewritten before. Then nothing is written.
    transaction
        The transaction that marks the commit in the log.

    Returns
    -------
    bool
        Whether anything was written.
    """

    def run(delta: DeltaTable, commit: CommitProperties) -> bool:
        if done(delta):
            return False
        scanner = open_dataset(delta).scanner()
        schema = scanner.projected_schema
        changed = pa.RecordBatchReader.from_batches(schema, (change(batch) for batch in scanner.to_batches()))
        partitions = list(delta.metadata().partition_columns) or None
        write_deltalake(delta, changed, mode="overwrite", partition_by=partitions, commit_properties=commit)
        return True

    return _commit(table, run, by, transaction)


def rewrite_dates(
    table: StoredTable,
    change: Callable[[pa.Table], Optional[pa.Table]],
    *,
    by: str,
    dates: Optional[set[date]] = None,
    dry_run: bool = False,
) -> int:
    """Replace rows of a table with one commit for each date.

    Parameters
    ----------
    table, change
        The table, and a function that returns the new rows of a date, or None to leave them as they are. A table without
        dates is changed as a whole.
    by
        What makes the commits, for the log.
    dates
        The dates to read; None for all.
    dry_run
        Call ``change`` and write nothing.

    Returns
    -------
    int
        The number of commits that were made, or would be made.
    """
    commits = 0
    newest = table.open()
    column = find_stored_date_column(newest)
    days: list[Optional[date]] = [None]
    if column is not None:
        stored = read_dates(newest)
        days = [day for day in stored if dates is None or day in dates]
    for day in days:

        def run(delta: DeltaTable, commit: CommitProperties, day: Optional[date] = day) -> bool:
            chosen = open_dataset(delta)
            only = None
            if column is not None and day is not None:
                chosen = chosen.filter(pc.field(column) == pa.scalar(day))
                only = dates_predicate(column, [day])
            changed = change(chosen.to_table())
            if changed is None or dry_run:
                return changed is not None
            # The predicate is stored in the log, where personal data must not be. It has a date only.
            write_deltalake(delta, changed, mode="overwrite", predicate=only, commit_properties=commit)
            return True

        commits += bool(_commit(table, run, by))
    return commits


def write_rows(uri: str, rows: pa.Table, *, mode: Literal["append", "overwrite"], by: str, table: str) -> None:
    """Write rows to a table in one commit; create the table if it does not exist.

    Parameters
    ----------
    uri, table
        The table's address, and its name (``layer.name``).
    rows, mode
        The rows, and whether they are added or replace all others. Columns that the table lacks are added.
    by
        What makes the commit, for the log.
    """
    properties = table_configuration(table, rows.schema)
    write_deltalake(
        uri,
        rows,
        mode=mode,
        schema_mode="merge",
        configuration={name: value for name, value in properties.items() if name.startswith("delta.")},
        storage_options=delta_options(uri),
        commit_properties=_commit_properties(by),
    )


def read_table(uri: str) -> Optional[pa.Table]:
    """Return all rows of a small table; None if it does not exist."""
    try:
        return open_dataset(open_table(uri)).to_table()
    except TableNotFoundError:
        return None


def upgrade_table(table: StoredTable) -> None:
    """Set the properties of a new table on one of an earlier release, and give each column one name."""

    def run(delta: DeltaTable, commit: CommitProperties) -> None:
        unify_columns(delta, table.full_name, commit)
        set_missing_properties(delta, current_configuration(delta, table.full_name))

    _commit(table, run, "")


def remove_history(table: StoredTable) -> int:
    """Remove all versions except the newest: their files, files of killed writers, and older entries of the log.

    Readers of an older version fail, so no run may be in progress. Returns the number of removed files.
    """
    removed = vacuum_table(table)
    newest = write_checkpoint(table)
    store = Store(f"{table.uri}/{LOG_FOLDER}")
    obsolete = [key for key in store.keys("") if is_earlier_log_file(key, newest) or is_unfinished_log_file(key)]
    for key in obsolete:
        store.remove(key)
    return removed + len(obsolete)


def require_intact_log(table: StoredTable) -> None:
    """Raise ``LakeError`` if a log entry after the newest checkpoint is damaged. deltalake would wait forever to read it."""
    store = Store(f"{table.uri}/{LOG_FOLDER}")
    keys = store.keys("")
    checkpoint = max((key for key in keys if re.match(r"\d{20}\.checkpoint\.", key)), default="")
    for key in keys:
        if re.fullmatch(r"\d{20}\.json", key) and key > checkpoint:
            try:
                for line in store.read(key).splitlines():
                    json.loads(line)
            except ValueError as error:
                raise LakeError(f"the entry {key} of its log is damaged") from error


def is_earlier_log_file(name: str, version: int) -> bool:
    """Return whether a file of a log belongs to a version before this one."""
    number = re.match(r"(\d{20})\.", name)
    return number is not None and int(number[1]) < version


def is_unfinished_log_file(name: str) -> bool:
    """Return whether a file of a log is the rest of an entry that a killed writer did not finish."""
    return name.endswith(".tmp") or "_commit_" in name


def vacuum_table(table: StoredTable) -> int:
    """Remove all files that the newest version does not need; returns their number."""
    try:
        removed = table.open().vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    except DeltaError as error:
        raise LakeError(f"{table.full_name} at {table.uri} could not be vacuumed: {str(error).splitlines()[0]}") from error
    return len(removed)


def write_checkpoint(table: StoredTable) -> int:
    """Write a checkpoint, so that older log entries can be removed; returns its version."""
    delta = table.open()
    delta.create_checkpoint()
    return int(delta.version())


def remove_orphan_files(root: str) -> int:
    """Remove the files that belong to no table (``list_orphan_files``); returns their number."""
    store = Store(root)
    orphans = list_orphan_files(root, list_tables(root))
    for entry in orphans:
        store.remove(entry.key)
    return len(orphans)


def list_orphan_files(root: str, tables: Iterable[StoredTable]) -> list[ObjectInfo]:
    """Return the files below a lake's layers that belong to none of its tables, such as candidates and unfinished tables."""
    store = Store(root)
    below_layer = re.compile(rf"(dev/[^/]+/)?({'|'.join(SCHEMAS)})/")
    folders = tuple(f"{table.uri}/" for table in tables)
    return [
        entry
        for entry in store.list_objects()
        if below_layer.match(entry.key) and not store.href(entry.key).startswith(folders)
    ]


def require_no_active_run(archive: Archive, doing: str) -> None:
    """Raise ``UsageError`` if a run is in progress.

    In a folder the locks of dates show this. In a bucket, a run is in progress if it has no closing record and began within
    ``MAX_RUN_DURATION``.

    Parameters
    ----------
    archive, doing
        The archive of the lake, and the name of the action, for the message.
    """
    bucket = "://" in archive.store.uri
    now = datetime.now(timezone.utc)
    for run_id in archive.run_ids():
        if bucket:
            recent = now - parse_timestamp(archive.started(run_id).started_at) < MAX_RUN_DURATION
            working = recent and not archive.read_closing_records(run_id)
        else:
            working = archive.find_holder(run_id) is not None
        if working:
            raise UsageError(
                f"The run {run_id} has not ended, and {doing} changes the tables that it uses; wait for its end, or give "
                "--while-running if it cannot continue."
            )


def _commit(
    table: StoredTable,
    action: Callable[[DeltaTable, CommitProperties], CommitResult],
    by: str,
    transaction: Optional[Transaction] = None,
) -> CommitResult:
    return retry_commit(table.full_name, table.uri, lambda: action(table.open(), _commit_properties(by, transaction)))


def _commit_properties(by: str, transaction: Optional[Transaction] = None) -> CommitProperties:
    # deltalake's own retries would write rows that were read before another writer's commit.
    transactions = [transaction] if transaction else None
    return CommitProperties(custom_metadata={"daybook_run_id": by}, max_commit_retries=0, app_transactions=transactions)
