"""Read and write the Delta tables of a lake: bronze, silver, gold and quarantine under one root URI.

Tables follow their contracts. A new column is added before the first commit with it and is null in earlier rows. A removed
column stays in the files and is not read (``ensure_table``, ``dataset``). A column keeps the name that it was first stored
under: rows that spell it in another way are renamed when they are written.

A run without a name works on a development copy: it reads a published table until it writes that table, then its own copy.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar, Union

import pyarrow as pa
import pyarrow.dataset
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import matching_columns
from daybook.errors import LakeError
from daybook.lake.compaction import compact_groups, find_compaction
from daybook.lake.delta import (
    TableCache,
    column_expression,
    open_dataset,
    open_table,
    open_table_or_none,
    read_dates,
    with_columns,
)
from daybook.lake.layout import dates_predicate, find_stored_date_column, list_data_files, select_files
from daybook.lake.schema_evolution import (
    BATCH_WRITER_PROPERTIES,
    find_contract,
    find_incompatibility,
    find_missing_columns,
    has_column_spellings,
    rename_to_stored,
    stored_names,
    unify_columns,
)
from daybook.lake.table_properties import (
    RUN_DATE_COLUMN as RUN_DATE_COLUMN,
)
from daybook.lake.table_properties import (
    current_configuration,
    find_missing_properties,
    restrict_folder,
    set_missing_properties,
    table_configuration,
)
from daybook.records.clock import TimeBreakdown
from daybook.records.leases import HeldLeases
from daybook.settings import require_name
from daybook.storage import Store, delta_options, describe_os_error, is_bucket, storage_write_error

SCHEMAS = ("bronze", "versions", "silver", "gold", "quarantine", "candidate", "control")
RUN_DATE_KEY = "daybook_run_date"
"""Key of a commit's metadata with the business dates whose rows the commit replaces, separated by blanks."""
DATE_APP_ID = "daybook.date"
"""Prefix of the Delta application of a business date. The version of its transactions is the fencing token of a lease."""
_COMMIT_TRIES = 10
CommitResult = TypeVar("CommitResult")


@dataclass(frozen=True)
class BatchSource:
    """Rows that do not fit into memory: ``open`` returns them in batches, from the start for each try to commit them."""

    schema: pa.Schema
    open: Callable[[], pa.RecordBatchReader]


DEVELOPMENT_VARIABLE = "DAYBOOK_DEVELOPMENT"
"""Environment variable with the name of another development copy than the user's."""


def development_user() -> str:
    """Return the name of this user's development copy, or that in ``DAYBOOK_DEVELOPMENT``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", os.environ.get(DEVELOPMENT_VARIABLE) or getpass.getuser())


class Lake:
    """The tables under a root URI.

    Parameters
    ----------
    root
        Folder or URI of the lake.
    run_id
        The run, which commits are signed with; empty for a run without a name.
    development
        The user whose development copy is written; empty to write the published tables.
    leases
        The leases of the run's dates, which each commit checks; None if the dates are locked, or for no run.
    """

    def __init__(self, root: str, *, run_id: str = "", development: str = "", leases: Optional[HeldLeases] = None) -> None:
        self.root = root.rstrip("/")
        self.run_id = run_id
        self.development = development
        self.leases = leases
        self.tables_read: dict[str, int] = {}
        self.tables_written: dict[str, int] = {}
        self.pinned: dict[str, Optional[int]] = {}
        self._tables = TableCache()
        self.timings = TimeBreakdown()
        """Seconds of opening tables and of commits. Queries read the rows, so that time is not included."""

    def uri(self, table: str) -> str:
        """Return the address that ``layer.name`` is written to."""
        return f"{self._write_root}/{self._path(table)}"

    def _path(self, table: str) -> str:
        schema, _, name = table.partition(".")
        if schema not in SCHEMAS or not name:
            raise LakeError(f"{table!r} is not a table name; write layer.name, where layer is one of: {', '.join(SCHEMAS)}.")
        # Each run has its own candidates: another run may compute the same table at the same time.
        return f"candidate/{self._candidate_folder}/{name}" if schema == "candidate" else f"{schema}/{name}"

    @property
    def _candidate_folder(self) -> str:
        return self.run_id or "interactive"

    @property
    def _write_root(self) -> str:
        return f"{self.root}/dev/{self.development}" if self.development else self.root

    def exists(self, table: str) -> bool:
        return self._open(table) is not None

    def version(self, table: str) -> Optional[int]:
        """Return the newest (or pinned) version of a table; None if it does not exist."""
        delta = self._open(table)
        return None if delta is None else int(delta.version())

    def tables(self) -> list[str]:
        """Return the names of all tables that are stored or have a contract."""
        found = {name for layer in LAYERS for name in load_tables(layer)}
        for root in {self.root, self._write_root}:
            store = Store(root)
            for schema in SCHEMAS:
                if schema != "candidate":
                    found.update(f"{schema}.{name}" for name in store.list_folders(schema))
        return sorted(found)

    def table_id(self, table: str) -> str:
        """Return a table's unique id, which another table of the same name does not have; empty if it does not exist."""
        delta = self._open(table)
        return "" if delta is None else str(delta.metadata().id)

    def pin(self, versions: Mapping[str, Optional[int]]) -> None:
        """Read these tables at these versions from now on, and all others at their newest.

        A table with None is read as if it did not exist. Writes still go to the newest version.
        """
        self.pinned = dict(versions)

    def dataset(self, table: str, dates: Optional[Collection[date]] = None) -> Optional[pa.dataset.Dataset]:
        """Return the table at its pinned or newest version and record that in ``tables_read``; None if it does not exist.

        A table with a contract, and its candidate, has the contract's columns in every version, under their stored names
        (``daybook.lake.delta.column_expression``). With ``dates``, only the rows of these dates are read; a table without
        dates is read as a whole.
        """
        delta = self._open(table)
        if delta is None:
            return None
        self.tables_read[table] = int(delta.version())
        column = find_stored_date_column(delta)
        contract = find_contract(table)
        if dates is None or column is None:
            rows = self._tables.dataset(delta.table_uri, delta)
            return rows if contract is None else with_columns(rows, contract.arrow_schema)
        rows = open_dataset(delta, select_files(list_data_files(delta), dates))
        if contract is not None:
            rows = with_columns(rows, contract.arrow_schema)
        return rows.filter(column_expression(rows.schema, column).isin(pa.array(dates, pa.date32())))

    def list_files(self, table: str, dates: Collection[date]) -> frozenset[str]:
        """Return the files that ``dataset`` reads. The same files have the same rows, of these and perhaps other dates."""
        delta = self._open(table)
        if delta is None:
            return frozenset()
        return frozenset(each.path for each in select_files(list_data_files(delta), dates))

    def run_dates(self, table: str) -> list[date]:
        """Return the dates that a table has rows of, sorted (``daybook.lake.delta.read_dates``)."""
        delta = self._open(table)
        return [] if delta is None else read_dates(delta)

    def replace_dates(self, table: str, rows: Union[pa.Table, BatchSource], dates: Collection[date]) -> None:
        """Replace the rows of these dates in one commit; new columns are added.

        ``rows`` have the column ``run_date``, whose values are among the dates. A date without rows has none afterwards.
        """
        if not dates:
            return
        self._create_if_absent(table, rows.schema)
        self._add_columns(table, rows.schema)
        days = [day.isoformat() for day in sorted(dates)]
        predicate = dates_predicate(RUN_DATE_COLUMN, dates)
        details = {RUN_DATE_KEY: " ".join(days)}
        self.commit(table, lambda delta: overwrite(delta, rows, predicate, self.commit_properties(None, **details)))

    def append(self, table: str, rows: pa.Table, run_date: Optional[date] = None) -> None:
        """Add rows to those of a date; without a date, rows that have the column ``run_date``.

        Concurrent appends do not conflict.
        """
        if run_date is not None:
            rows = add_run_date(rows, run_date)
        self._create_if_absent(table, rows.schema)
        self.commit(
            table,
            lambda delta: write_deltalake(
                delta,
                rename_to_stored(rows, delta),
                mode="append",
                schema_mode="merge",
                commit_properties=self.commit_properties(),
            ),
        )

    def _create_if_absent(self, table: str, schema: pa.Schema) -> None:
        if self._open(table, own=True) is None:
            self._create(table, schema)

    def delete_rows(self, table: str, column: str, values: Sequence[str]) -> None:
        """Delete the rows whose ``column`` is one of these texts."""
        if values and self._open(table, own=True) is not None:
            listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            self.commit(
                table, lambda delta: delta.delete(f"{column} IN ({listed})", commit_properties=self.commit_properties())
            )

    def update_column(self, contract: Table, rows: Union[pa.Table, Callable[[], pa.Table]], column: str) -> int:
        """Set one column of existing rows by key where it differs; return how many changed.

        ``rows`` has the key and the column. A function is called before each attempt to commit.
        """
        self.ensure_table(contract)

        def run(delta: DeltaTable) -> dict[str, Any]:
            values = rows() if callable(rows) else rows
            if not values.num_rows:
                return {"num_target_rows_updated": 0}
            target, *key = stored_names(delta, [column, *contract.key])
            same = " AND ".join(f"t.{name} = s.{name}" for name in key)
            given = rename_to_stored(values, delta)
            return dict(
                delta.merge(
                    given, predicate=same, source_alias="s", target_alias="t", commit_properties=self.commit_properties()
                )
                .when_matched_update(updates={target: f"s.{target}"}, predicate=f"s.{target} IS DISTINCT FROM t.{target}")
                .execute()
            )

        return int(self.commit(contract.full_name, run)["num_target_rows_updated"])

    def ensure_table(self, contract: Table) -> None:
        """Create the contract's table if it does not exist, and add the contract's new columns.

        Raises ``LakeError`` if stored rows do not fit the contract (``require_compatible``).
        """
        if self._open(contract.full_name, own=True) is None:
            self._create(contract.full_name, contract.arrow_schema, contract.description)
        self.require_compatible(contract)
        self._add_columns(contract.full_name, contract.arrow_schema)

    def require_compatible(self, contract: Table) -> None:
        """Raise ``LakeError`` if stored rows do not fit the contract (``find_incompatibility``)."""
        delta = self._open(contract.full_name, own=True) or self._open(contract.full_name)
        wrong = None if delta is None else find_incompatibility(delta, contract)
        if wrong:
            raise LakeError(f"{contract.full_name} at {self.uri(contract.full_name)} does not fit {contract.file}: {wrong}.")

    def _add_columns(self, table: str, schema: pa.Schema) -> None:
        """Add missing columns and table properties. Columns that an earlier release stored under several names become one."""

        def run(delta: DeltaTable) -> None:
            lacking = find_missing_columns(delta, schema)
            properties = current_configuration(delta, table)
            if not lacking and not has_column_spellings(delta) and not find_missing_properties(delta, properties):
                return  # as nearly always, without a check of the run's leases
            unify_columns(delta, table, self.commit_properties())
            lacking = find_missing_columns(delta, schema)
            if lacking:
                delta.alter.add_columns(lacking, commit_properties=self.commit_properties())
            # Another writer may have added the columns without the properties, which must precede the first row.
            set_missing_properties(delta, current_configuration(delta, table), self.commit_properties())

        self.commit(table, run)

    def write_candidate(self, table: str, rows: pa.Table) -> None:
        """Write ``candidate.<name>``; a retry of the run replaces it."""

        def attempt() -> None:
            write_deltalake(
                self.uri(table),
                rows,
                mode="overwrite",
                schema_mode="overwrite",
                storage_options=delta_options(self.uri(table)),
                commit_properties=self.commit_properties(),
            )

        with self.timings.on("commits"):
            retry_commit(table, self.uri(table), attempt)
        self.tables_written[table] = int(open_table(self.uri(table)).version())

    def write_run_file(self, name: str, data: bytes) -> None:
        """Write a file beside this run's candidates, which is removed together with them."""
        Store(self._write_root).replace(f"candidate/{self._candidate_folder}/{name}", data)

    def read_run_file(self, name: str) -> Optional[bytes]:
        """Return the content of a file beside this run's candidates; None if there is none."""
        try:
            return Store(self._write_root).read(f"candidate/{self._candidate_folder}/{name}")
        except FileNotFoundError:
            return None

    def drop_candidates(self) -> int:
        """Remove this run's candidates; returns the number of files.

        Call this after the run's last stage: until then a retry reads the candidates again.
        """
        store = Store(self._write_root)
        keys = store.keys(f"candidate/{self._candidate_folder}")
        for key in keys:
            store.remove(key)
        return len(keys)

    def commit(self, table: str, action: Callable[[DeltaTable], CommitResult]) -> CommitResult:
        """Run an action that commits to the newest version of a table (see ``retry_commit``).

        Parameters
        ----------
        table, action
            The table's name, and a function of the table that makes at most one commit. Its result is returned. Without a
            commit, nothing is recorded in ``tables_written``.
        """

        def attempt() -> CommitResult:
            delta = self._tables.get(self.uri(table)) or open_table(self.uri(table))
            before = delta.version()
            with self._tables.committing(self.uri(table)), self.timings.on("commits"):
                result = action(delta)
            # The version of this very commit: another writer may already have added the next.
            if delta.version() > before:
                self.tables_written[table] = int(delta.version())
            return result

        return retry_commit(table, self.uri(table), attempt)

    def compact(self, table: str) -> bool:
        """Combine a table's small files if there are many, since each query opens all of them; return whether it was done.

        Earlier versions keep their files. A concurrent commit has priority: then the next run compacts the table.
        """
        delta = self._open(table, own=True)
        groups = [] if delta is None else find_compaction(delta, table)
        if delta is None or not groups:
            return False
        details = dict(self.commit_properties().custom_metadata or {})
        try:
            with self._tables.committing(self.uri(table)), self.timings.on("commits"):
                return compact_groups(delta, table, self.uri(table), groups, details)
        except (DeltaError, OSError) as error:
            raise write_error(table, self.uri(table), error) from error

    def compact_written_tables(self) -> None:
        """Compact the tables that this lake object has written, except candidates."""
        for table in sorted(self.tables_written):
            if not table.startswith("candidate."):
                self.compact(table)

    def commit_properties(self, transactions: Optional[list[Transaction]] = None, **details: str) -> CommitProperties:
        """Return the properties of a commit: the run or the user who makes it, and further details.

        Raises ``LeaseLostError`` if the run no longer holds its dates. Call this after the table was opened. Then a commit of a
        later holder is either in the opened version, and the check fails, because that run took the lease before. Or it comes
        later. Then Delta refuses this commit, because both have a transaction of the date, and the next try checks again.
        """
        if self.leases is not None:
            self.leases.check()
            tokens = [Transaction(f"{DATE_APP_ID}.{day}", token) for day, token in self.leases.tokens.items()]
            transactions = [*(transactions or []), *tokens]
        metadata = {"daybook_run_id": self.run_id or f"dev/{self.development}", **details}
        return CommitProperties(custom_metadata=metadata, app_transactions=transactions)

    def _create(self, table: str, schema: pa.Schema, description: str = "") -> None:
        try:
            self._create_if_missing(table, schema, description)
        except (DeltaError, OSError) as error:
            # Two concurrent runs can both be the first to need a table: then the other one has created it.
            if open_table_or_none(self.uri(table)) is None:
                raise write_error(table, self.uri(table), error) from error

    def _create_if_missing(self, table: str, schema: pa.Schema, description: str) -> None:
        published = f"{self.root}/{self._path(table)}"
        restrict_folder(self.uri(table), table)
        if self.development and open_table_or_none(published) is not None:
            # The development copy begins as a copy of the published table, so that its reader gets all rows.
            source = open_table(published)
            rows = open_dataset(source).scanner().to_reader()
            properties = current_configuration(source, table)
            write_deltalake(
                self.uri(table),
                rows,
                partition_by=list(source.metadata().partition_columns) or None,
                # write_deltalake accepts only properties that Delta defines.
                configuration={name: value for name, value in properties.items() if name.startswith("delta.")},
                storage_options=delta_options(self.uri(table)),
                commit_properties=self.commit_properties(),
            )
            set_missing_properties(open_table(self.uri(table)), properties, self.commit_properties())
            return
        DeltaTable.create(
            self.uri(table),
            schema=schema,
            mode="ignore",
            name=table,
            description=description or None,
            configuration=dict(table_configuration(table, schema)),
            storage_options=delta_options(self.uri(table)),
            raise_if_key_not_exists=False,
        )

    def _open(self, table: str, *, own: bool = False) -> Optional[DeltaTable]:
        """Return the Delta table to read, or with ``own`` to write; None if it does not exist."""
        pinned = not own and table in self.pinned
        version = self.pinned[table] if pinned else None
        if pinned and version is None:
            return None
        with self.timings.on("opening tables"):
            delta = self._tables.get(self.uri(table), version)
        if delta is None and self.development and not own and not table.startswith("candidate."):
            delta = self._tables.get(f"{self.root}/{self._path(table)}", version)
        return delta


def remove_development_copy(root: str, name: str) -> None:
    """Remove all tables of a development copy, also those that a killed process has written in part."""
    folder = f"dev/{require_name(name, 'a development copy')}"
    if not is_bucket(root):
        shutil.rmtree(Path(root) / folder, ignore_errors=True)
        return
    store = Store(root)
    for key in store.keys(folder):
        store.remove(key)


def write_error(table: str, uri: str, error: Exception) -> LakeError:
    """Return the error for a table that could not be written."""
    return LakeError(f"{table} at {storage_write_error(uri, error)}")


def overwrite(
    delta: DeltaTable, rows: Union[pa.Table, BatchSource], predicate: Optional[str], commit: CommitProperties
) -> None:
    """Replace the rows that the predicate selects (None: all rows) in one commit.

    Columns that the new rows lack are null; columns that the table lacks are added.
    """
    given = rename_to_stored(rows.open() if isinstance(rows, BatchSource) else rows, delta)
    files: Any = BATCH_WRITER_PROPERTIES if isinstance(rows, BatchSource) else None
    # deltalake 1.2.1 panics on a predicate if the table has no files; then there is nothing to replace.
    empty = bool(predicate) and not delta.file_uris()
    mode: Any = {"mode": "append"} if empty else {"mode": "overwrite", "predicate": predicate}
    write_deltalake(delta, given, **mode, schema_mode="merge", writer_properties=files, commit_properties=commit)


def retry_commit(table: str, uri: str, attempt: Callable[[], CommitResult]) -> CommitResult:
    """Call ``attempt``, which commits to the newest version of a table, again each time that another writer was first."""
    for number in range(1, _COMMIT_TRIES + 1):
        try:
            return attempt()
        except (DeltaError, OSError) as error:
            if not _is_conflict(error):
                raise write_error(table, uri, error) from error
            if number == _COMMIT_TRIES:
                reason = str(error).splitlines()[0].rstrip(".")
                raise LakeError(
                    f"{table} was changed by another writer during each of {_COMMIT_TRIES} tries to commit ({reason}); "
                    "run it again."
                ) from error
            time.sleep(0.05 * number)
    raise AssertionError("unreachable")


def _is_conflict(error: Exception) -> bool:
    """Return whether another writer was first. deltalake also raises this error if the log itself could not be written."""
    return isinstance(error, CommitFailedError) and not describe_os_error(error)


def add_run_date(rows: Union[pa.Table, BatchSource], run_date: date) -> Any:
    """Return rows with their date in the column ``run_date``, which replaces one of that name."""

    def dated(part: Any) -> Any:
        part = part.drop_columns(matching_columns(part.schema.names, [RUN_DATE_COLUMN]))
        return part.add_column(0, RUN_DATE_COLUMN, pa.repeat(pa.scalar(run_date, pa.date32()), part.num_rows))

    if isinstance(rows, pa.Table):
        return dated(rows)
    schema = dated(rows.schema.empty_table()).schema
    return BatchSource(schema, lambda: pa.RecordBatchReader.from_batches(schema, map(dated, rows.open())))
