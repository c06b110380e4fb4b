"""Rewrite every table of a lake, each in one commit, and remove its history."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from daybook.errors import LakeError, UsageError
from daybook.lake.delta import open_dataset, open_table
from daybook.lake.schema_evolution import unify_columns
from daybook.lake.table_properties import set_missing_properties, table_configuration
from daybook.lake.tables import SCHEMAS, write_error
from daybook.records.archive import MAX_RUN_DURATION, Archive, parse_timestamp
from daybook.storage import ObjectInfo, Store, delta_options, describe_os_error

_COMMIT_TRIES = 10
LOG_FOLDER = "_delta_log"
"""The folder of a table's log."""


@dataclass(frozen=True)
class StoredTable:
    """A table as it lies under a lake's root: published, or a person's development copy."""

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
        """The newest version."""
        return open_table(self.uri)

    @property
    def columns(self) -> list[str]:
        return [field.name for field in self.open().schema().fields]


def list_tables(root: str) -> list[StoredTable]:
    """Every table under a lake's root, sorted by place, development copies too; candidates of runs are none."""
    store = Store(root)
    found = list(_list_tables_in(store, "", ""))
    for user in store.list_folders("dev"):
        found += _list_tables_in(store, f"dev/{user}/", user)
    return found


def _list_tables_in(store: Store, prefix: str, development: str) -> Iterator[StoredTable]:
    for layer in store.list_folders(prefix.rstrip("/")):
        if layer == "dev" and not development:
            continue
        for name in store.list_folders(f"{prefix}{layer}"):
            place = f"{prefix}{layer}/{name}"
            # A folder stays where its files were removed.
            if layer != "candidate" and store.keys(f"{place}/{LOG_FOLDER}"):
                yield StoredTable(store.href(place), layer, name, development)


def rewrite_table(
    table: StoredTable,
    change: Callable[[pa.RecordBatch], pa.RecordBatch],
    *,
    by: str,
    done: Callable[[DeltaTable], bool],
    transaction: Transaction,
) -> bool:
    """Put every row through ``change``, all in one commit that carries the transaction; a batch of rows at a time is in memory.

    Where ``done`` says so of the newest version nothing is written; returns whether anything was.
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

    return bool(_commit(table, run, by, transaction))


def rewrite_partitions(
    table: StoredTable,
    change: Callable[[pa.Table], Optional[pa.Table]],
    *,
    by: str,
    partitions: Optional[set[str]] = None,
    dry_run: bool = False,
) -> int:
    """Put a table's rows through ``change``, a commit a partition (the whole table where it has none); what is None stays.

    ``partitions`` names those worth looking at, by their value's text. A dry run calls ``change`` and writes nothing. Returns
    how many commits were made, or would be.
    """
    commits = 0
    columns = list(table.open().metadata().partition_columns)
    values: list[Optional[str]] = [None]
    if columns:
        values = [*sorted({str(part[columns[0]]) for part in table.open().partitions()})]
    for value in values:
        if partitions is not None and value is not None and value not in partitions:
            continue

        def run(delta: DeltaTable, commit: CommitProperties, value: Optional[str] = value) -> bool:
            chosen = open_dataset(delta)
            only = None
            if value is not None:
                typed = pa.scalar(value).cast(chosen.schema.field(columns[0]).type)
                chosen = chosen.filter(pc.field(columns[0]) == typed)
                only = f"{columns[0]} = '{value}'"
            changed = change(chosen.to_table())
            if changed is None or dry_run:
                return changed is not None
            # The predicate names a date: what stands in a log must be no person's.
            write_deltalake(delta, changed, mode="overwrite", predicate=only, commit_properties=commit)
            return True

        commits += bool(_commit(table, run, by))
    return commits


def append_rows(uri: str, rows: pa.Table, *, by: str, table: str) -> None:
    """Add rows to a table without partitions, which is made where it does not exist yet; one commit."""
    settings = _delta_properties(table, rows.schema)
    # A table that an earlier Daybook made may lack a column.
    write_deltalake(
        uri,
        rows,
        mode="append",
        schema_mode="merge",
        configuration=settings,
        storage_options=delta_options(uri),
        commit_properties=_commit_properties(by),
    )


def overwrite_rows(uri: str, rows: pa.Table, *, by: str, table: str) -> None:
    """Make these the only rows of a table without partitions, which is made where it does not exist yet; one commit."""
    settings = _delta_properties(table, rows.schema)
    write_deltalake(
        uri,
        rows,
        mode="overwrite",
        schema_mode="merge",
        configuration=settings,
        storage_options=delta_options(uri),
        commit_properties=_commit_properties(by),
    )


def read_table(uri: str) -> Optional[pa.Table]:
    """All rows of a small table; None where it was never written."""
    try:
        return open_dataset(open_table(uri)).to_table()
    except TableNotFoundError:
        return None


def upgrade_table(table: StoredTable) -> None:
    """Give a table that an earlier Daybook made the properties that a new one has, and each column one name."""

    def run(delta: DeltaTable, commit: CommitProperties) -> None:
        unify_columns(delta, table.full_name, commit)
        set_missing_properties(delta, table_configuration(table.full_name, open_dataset(delta).schema))

    _commit(table, run, "")


def remove_history(table: StoredTable) -> int:
    """Leave only the newest version: no file of an older one, none that a killed writer left, no older entry of the log.

    Returns how many files were removed. Readers of an older version are cut off, so nothing may run meanwhile.
    """
    removed = vacuum_table(table)
    newest = write_checkpoint(table)
    store = Store(f"{table.uri}/{LOG_FOLDER}")
    entries = 0
    for key in store.keys(""):
        number = re.match(r"(\d{20})\.", key)
        if (number and int(number[1]) < newest) or is_unfinished_log_file(key):
            store.remove(key)
            entries += 1
    return removed + entries


def require_intact_log(table: StoredTable) -> None:
    """Raise ``LakeError`` if an entry of the log is damaged since its newest checkpoint: deltalake would wait for its end."""
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


def is_unfinished_log_file(name: str) -> bool:
    """Whether a file of a log is what a killed writer left of an entry that it never got to make."""
    return name.endswith(".tmp") or "_commit_" in name


def vacuum_table(table: StoredTable) -> int:
    """Remove the files that the newest version does not need, whoever wrote them; returns how many."""
    try:
        removed = table.open().vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    except DeltaError as error:
        raise LakeError(f"{table.full_name} at {table.uri} could not be vacuumed: {str(error).splitlines()[0]}") from error
    return len(removed)


def write_checkpoint(table: StoredTable) -> int:
    """Write all that the log says into one file, so that its older entries can go; returns the version it stands for."""
    delta = table.open()
    delta.create_checkpoint()
    return int(delta.version())


def remove_orphan_files(root: str) -> int:
    """Remove what is under a lake and in no table: candidates of runs, which are over, and files of tables that a killed writer
    never got to be. Returns how many files there were. Folders that are no layer are not Daybook's to clear.
    """
    store = Store(root)
    left = list_orphan_files(root)
    for entry in left:
        store.remove(entry.key)
    return len(left)


def list_orphan_files(root: str) -> list[ObjectInfo]:
    """The files under a lake's layers that are in no table; candidates of runs are such, too."""
    store = Store(root)
    layers = [
        f"{prefix}{layer}" for prefix in ("", *(f"dev/{user}/" for user in store.list_folders("dev"))) for layer in SCHEMAS
    ]
    tables = [f"{table.uri}/" for table in list_tables(root)]
    below = [entry for layer in layers for entry in store.list_objects(f"{layer}/")]
    return [entry for entry in below if not store.href(entry.key).startswith(tuple(tables))]


def require_no_active_run(archive: Archive, doing: str) -> None:
    """Raise while a run is under way: it would go on with what is being changed.

    In a folder the locks of dates tell. In a bucket, a run counts that began within a day and has no closing record.
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
                f"The run {run_id} has not ended: {doing} changes what it works on; wait for it, or give --while-running if "
                "you know that it is over."
            )


def _commit(
    table: StoredTable,
    action: Callable[[DeltaTable, CommitProperties], Any],
    by: str,
    transaction: Optional[Transaction] = None,
) -> Any:
    """Run one commit on the newest version, again when another writer was first."""
    for attempt in range(1, _COMMIT_TRIES + 1):
        try:
            return action(table.open(), _commit_properties(by, transaction))
        except CommitFailedError as error:
            if describe_os_error(error):
                raise write_error(table.full_name, table.uri, error) from error
            if attempt == _COMMIT_TRIES:
                said = str(error).splitlines()[0].rstrip(".")
                raise LakeError(f"{table.full_name} was changed by others again and again ({said}); run it again.") from error
            time.sleep(0.05 * attempt)
        except (DeltaError, OSError) as error:
            raise write_error(table.full_name, table.uri, error) from error
    raise AssertionError("unreachable")


def _commit_properties(by: str, transaction: Optional[Transaction] = None) -> CommitProperties:
    # No second try by itself: it would put what was read before another's commit on top of that.
    transactions = [transaction] if transaction else None
    return CommitProperties(custom_metadata={"daybook_run_id": by}, max_commit_retries=0, app_transactions=transactions)


def _delta_properties(table: str, schema: pa.Schema) -> dict[str, Optional[str]]:
    return {name: value for name, value in table_configuration(table, schema).items() if name.startswith("delta.")}
