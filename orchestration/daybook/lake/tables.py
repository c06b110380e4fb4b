"""The tables: Delta Lake under one root URI, bronze, silver, gold and quarantine.

Contracts change, and tables follow: a column that a contract gained is added before the first commit that has it, and reads as
null in all rows of before; one that a contract lost stays in the files and is no longer read (``ensure_table``, ``dataset``). A
column keeps the name that it was first stored under: rows that spell it in another way are renamed as they are written.

An unnamed run works on a development copy: it reads what is published until it writes a table, and from then on its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Callable, Optional, TypeVar, Union

import pyarrow as pa
import pyarrow.dataset
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import find_column, matching_columns
from daybook.errors import LakeError
from daybook.lake.delta import (
    TableCache,
    list_partition_files,
    list_partition_values,
    open_dataset,
    open_table,
    open_table_or_none,
    with_columns,
)
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
    current_configuration,
    find_missing_properties,
    restrict_folder,
    set_missing_properties,
    table_configuration,
)
from daybook.records.clock import TimeBreakdown
from daybook.storage import Store, delta_options, describe_os_error, storage_write_error

SCHEMAS = ("bronze", "versions", "silver", "gold", "quarantine", "candidate", "control")
PARTITION_COLUMN = "run_date"
"""What all tables but silver and gold are partitioned by: the business date whose run wrote the rows."""
COMPACTION_MIN_FILES = 16
"""As many small files make a table worth compacting: a merge a day adds one."""
COMPACTED_FILE_BYTES = 1 << 21
"""Bytes from which on a file is small no more: what is written again and again does not grow with the history."""
_COMMIT_TRIES = 10
CommitResult = TypeVar("CommitResult")


@dataclass(frozen=True)
class BatchSource:
    """Rows that are too many to hold: ``open`` gives them a batch at a time, from the start for each try to commit them."""

    schema: pa.Schema
    open: Callable[[], pa.RecordBatchReader]


class Lake:
    """The tables under ``root``; ``development`` names a user whose copy takes all writes; ``run_id`` signs commits."""

    def __init__(self, root: str, *, run_id: str = "", development: str = "") -> None:
        self.root = root.rstrip("/")
        self.run_id = run_id
        self.development = development
        self.tables_read: dict[str, int] = {}
        self.tables_written: dict[str, int] = {}
        self.pinned: dict[str, Optional[int]] = {}
        self._tables = TableCache()
        self.timings = TimeBreakdown()
        """What the tables cost: seconds of opening them and of commits (reading their rows is the queries')."""

    def uri(self, table: str) -> str:
        """Where writes to ``layer.name`` go."""
        return f"{self._write_root}/{self._path(table)}"

    def _path(self, table: str) -> str:
        schema, _, name = table.partition(".")
        if schema not in SCHEMAS or not name:
            raise LakeError(f"{table!r} is not a table's name; write layer.name with a layer of: {', '.join(SCHEMAS)}.")
        # Candidates belong to one run: two runs that compute the same table must not see each other's.
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
        """The version a reader would get now, or None without such a table."""
        delta = self._open(table)
        return None if delta is None else int(delta.version())

    def tables(self) -> list[str]:
        """Every table a query can name: those stored under the root, and those with a contract."""
        found = {name for layer in LAYERS for name in load_tables(layer)}
        for root in {self.root, self._write_root}:
            store = Store(root)
            for schema in SCHEMAS:
                if schema != "candidate":
                    found.update(f"{schema}.{name}" for name in store.list_folders(schema))
        return sorted(found)

    def table_id(self, table: str) -> str:
        """What tells a table from another that once had its name; empty without such a table."""
        delta = self._open(table)
        return "" if delta is None else str(delta.metadata().id)

    def pin(self, versions: Mapping[str, Optional[int]]) -> None:
        """From now on read these tables, and no others, at these versions, as if what came later were not there.

        A table with None is read as if it had never been written. Writes go on being made on the newest version.
        """
        self.pinned = dict(versions)

    def dataset(self, table: str, landed: Optional[date] = None) -> Optional[pa.dataset.Dataset]:
        """The table at its pinned or else newest version, noted in ``tables_read``; None where it has never been written. With
        ``landed``, the files of that ``run_date`` alone, where ``run_date`` divides the table.

        A table with a contract, and its candidate, has the contract's columns, whatever it had when that version was written,
        under the names that they are stored under (``daybook.lake.delta.column_expression``).
        """
        delta = self._open(table)
        if delta is None:
            return None
        self.tables_read[table] = int(delta.version())
        rows = (
            self._tables.dataset(delta.table_uri, delta)
            if landed is None
            else open_dataset(delta, _date_partition(delta, landed))
        )
        contract = find_contract(table)
        return rows if contract is None else with_columns(rows, contract.arrow_schema)

    def files(self, table: str, landed: date) -> frozenset[str]:
        """The files that ``dataset`` reads; none without such a table. Where they are the same, the rows are."""
        delta = self._open(table)
        return frozenset() if delta is None else list_partition_files(delta, _date_partition(delta, landed))

    def partitions(self, table: str, column: str = PARTITION_COLUMN) -> list[date]:
        """The dates that a table holds rows for, sorted; from the log alone."""
        delta = self._open(table)
        if delta is None:
            return []
        return sorted(list_partition_values(delta, find_column(delta.metadata().partition_columns, column) or column))

    def replace_partition(self, table: str, rows: Union[pa.Table, BatchSource], run_date: date) -> None:
        """Make ``rows`` (with column ``run_date``) the only rows of that date, in one commit; new columns are added."""
        rows = _add_run_date(rows, run_date)
        if self._open(table, own=True) is None:
            self._create(table, rows.schema, [PARTITION_COLUMN])
        self._add_columns(table, rows.schema)
        predicate = f"{PARTITION_COLUMN} = '{run_date.isoformat()}'"
        self.commit(table, lambda delta: overwrite(delta, rows, predicate, self.commit_properties()))

    def append(self, table: str, rows: pa.Table, run_date: date) -> None:
        """Add rows to a date's. Others' additions are never in the way of it, nor it in theirs."""
        rows = _add_run_date(rows, run_date)
        if self._open(table, own=True) is None:
            self._create(table, rows.schema, [PARTITION_COLUMN])
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

    def remove(self, table: str, column: str, values: Sequence[str]) -> None:
        """Remove the rows whose ``column`` is one of these texts."""
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
        """Have the contract's table: created empty where it does not exist, with the columns added that the contract gained.

        Raises ``LakeError`` where its rows cannot become the contract's, see ``require_compatible``.
        """
        if self._open(contract.full_name, own=True) is None:
            self._create(contract.full_name, contract.arrow_schema, contract.partition_by, contract.description)
        self.require_compatible(contract)
        self._add_columns(contract.full_name, contract.arrow_schema)

    def require_compatible(self, contract: Table) -> None:
        """Raise ``LakeError`` where rows that are stored cannot become rows of the contract: a column has another type, a
        required one (or one of the key) is new, other columns divide the table, or pseudonyms would be out of sight."""
        delta = self._open(contract.full_name, own=True) or self._open(contract.full_name)
        wrong = None if delta is None else find_incompatibility(delta, contract)
        if wrong:
            raise LakeError(f"{contract.full_name} at {self.uri(contract.full_name)} does not fit {contract.file}: {wrong}.")

    def _add_columns(self, table: str, schema: pa.Schema) -> None:
        """Add the columns that the table lacks, and keep statistics of pseudonyms among them out of the log. Columns that an
        earlier release stored under several names become one."""

        def run(delta: DeltaTable) -> None:
            unify_columns(delta, table, self.commit_properties())
            lacking = find_missing_columns(delta, schema)
            if lacking:
                delta.alter.add_columns(lacking, commit_properties=self.commit_properties())
            # Also where another writer has added them and not yet said so: no row is written before.
            set_missing_properties(delta, current_configuration(delta, table), self.commit_properties())

        delta = self._open(table, own=True)
        if delta is not None and (
            has_column_spellings(delta)
            or find_missing_columns(delta, schema)
            or find_missing_properties(delta, current_configuration(delta, table))
        ):
            self.commit(table, run)

    def write_candidate(self, table: str, rows: pa.Table) -> None:
        """Write ``candidate.<name>``, new rows where no reader of gold looks; a retry of the run replaces them."""
        try:
            with self.timings.on("commits"):
                write_deltalake(
                    self.uri(table),
                    rows,
                    mode="overwrite",
                    schema_mode="overwrite",
                    storage_options=delta_options(self.uri(table)),
                    commit_properties=self.commit_properties(),
                )
        except (DeltaError, OSError) as error:
            raise write_error(table, self.uri(table), error) from error
        self.tables_written[table] = int(open_table(self.uri(table)).version())

    def drop_candidates(self) -> int:
        """Remove this run's candidates, if they are still there; returns how many files there were.

        Once the run has published and its last stage is done: before, another try reads them again.
        """
        store = Store(self._write_root)
        keys = store.keys(f"candidate/{self._candidate_folder}")
        for key in keys:
            store.remove(key)
        return len(keys)

    def commit(self, table: str, action: Callable[[DeltaTable], CommitResult]) -> CommitResult:
        """Run one commit on the newest version, again from the start when another writer was first.

        An action that only looks commits nothing, and then nothing is noted as written.
        """
        for attempt in range(1, _COMMIT_TRIES + 1):
            try:
                delta = self._tables.get(self.uri(table)) or open_table(self.uri(table))
                before = delta.version()
                with self._tables.committing(self.uri(table)), self.timings.on("commits"):
                    result = action(delta)
            except CommitFailedError as error:
                if describe_os_error(error):  # Nobody was first: the log itself could not be written.
                    raise write_error(table, self.uri(table), error) from error
                if attempt == _COMMIT_TRIES:
                    raise LakeError(
                        f"{table} was changed by others {_COMMIT_TRIES} times while this run tried to "
                        f"({str(error).splitlines()[0].rstrip('.')}); run it again."
                    ) from error
                time.sleep(0.05 * attempt)
                continue
            except (DeltaError, OSError) as error:
                raise write_error(table, self.uri(table), error) from error
            # The version of this very commit: another writer may already have added the next.
            if delta.version() > before:
                self.tables_written[table] = int(delta.version())
            return result
        raise AssertionError("unreachable")

    def compact(self, table: str) -> bool:
        """Make few files of a table's many small ones: every query opens each of them. Whether it did.

        The rows stay the same, and earlier versions keep their files. Others that write at the same time go first: then the
        next run does it.
        """
        delta = self._open(table, own=True)
        # deltalake 1.2.1 panics on the actions of a table without files.
        if delta is None or not delta.file_uris():
            return False
        sizes = pa.record_batch(delta.get_add_actions()).column("size_bytes")
        if sum(size < COMPACTED_FILE_BYTES for size in sizes.to_pylist()) < COMPACTION_MIN_FILES:
            return False
        try:
            with self._tables.committing(self.uri(table)), self.timings.on("commits"):
                delta.optimize.compact(target_size=COMPACTED_FILE_BYTES, commit_properties=self.commit_properties())
        except CommitFailedError as error:
            if describe_os_error(error):
                raise write_error(table, self.uri(table), error) from error
            return False
        except (DeltaError, OSError) as error:
            raise write_error(table, self.uri(table), error) from error
        return True

    def commit_properties(self, transactions: Optional[list[Transaction]] = None, **said: str) -> CommitProperties:
        """What goes into the log with a commit of this lake's: whose it is, and what else is ``said``."""
        signature = {"daybook_run_id": self.run_id or f"dev/{self.development}", **said}
        return CommitProperties(custom_metadata=signature, app_transactions=transactions)

    def _create(self, table: str, schema: pa.Schema, partition_by: list[str], description: str = "") -> None:
        try:
            self._create_if_missing(table, schema, partition_by, description)
        except (DeltaError, OSError) as error:
            # Two dates that run side by side can both be the first to need a table: one creates it, for both.
            if open_table_or_none(self.uri(table)) is None:
                raise write_error(table, self.uri(table), error) from error

    def _create_if_missing(self, table: str, schema: pa.Schema, partition_by: list[str], description: str) -> None:
        published = f"{self.root}/{self._path(table)}"
        restrict_folder(self.uri(table), table)
        if self.development and open_table_or_none(published) is not None:
            # The development copy begins as what is published, so that its reader sees whole tables.
            source = open_table(published)
            rows = open_dataset(source).scanner().to_reader()
            properties = table_configuration(table, rows.schema)
            write_deltalake(
                self.uri(table),
                rows,
                partition_by=list(source.metadata().partition_columns) or None,
                # write_deltalake takes Delta's own properties only.
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
            partition_by=partition_by or None,
            name=table,
            description=description or None,
            configuration=dict(table_configuration(table, schema)),
            storage_options=delta_options(self.uri(table)),
            raise_if_key_not_exists=False,
        )

    def _open(self, table: str, *, own: bool = False) -> Optional[DeltaTable]:
        """The Delta table that a reader (or, with ``own``, a writer) of this lake gets."""
        pinned = not own and table in self.pinned
        version = self.pinned[table] if pinned else None
        if pinned and version is None:
            return None
        with self.timings.on("opening tables"):
            delta = self._tables.get(self.uri(table), version)
        if delta is None and self.development and not own and not table.startswith("candidate."):
            delta = self._tables.get(f"{self.root}/{self._path(table)}", version)
        return delta


def _date_partition(delta: DeltaTable, run_date: date) -> dict[str, object]:
    """The partition of a date, of a table that has such."""
    return {PARTITION_COLUMN: run_date} if PARTITION_COLUMN in delta.metadata().partition_columns else {}


def write_error(table: str, uri: str, error: Exception) -> LakeError:
    """The sentence for a table that could not be written: nothing of the commit is in it."""
    return LakeError(f"{table} at {storage_write_error(uri, error)}")


def overwrite(
    delta: DeltaTable, rows: Union[pa.Table, BatchSource], predicate: Optional[str], commit: CommitProperties
) -> None:
    """Replace what the predicate selects (None: everything) with rows, in one commit. Columns that they lack are null, columns
    that the table lacks are added."""
    given = rename_to_stored(rows.open() if isinstance(rows, BatchSource) else rows, delta)
    files: Any = BATCH_WRITER_PROPERTIES if isinstance(rows, BatchSource) else None
    if predicate and not delta.file_uris():
        # deltalake 1.2.1 panics on a predicate where a table has no files; there is nothing to replace then.
        write_deltalake(delta, given, mode="append", schema_mode="merge", writer_properties=files, commit_properties=commit)
        return
    write_deltalake(
        delta,
        given,
        mode="overwrite",
        predicate=predicate,
        schema_mode="merge",
        writer_properties=files,
        commit_properties=commit,
    )


def _add_run_date(rows: Union[pa.Table, BatchSource], run_date: date) -> Any:
    if isinstance(rows, BatchSource):
        return BatchSource(
            _add_run_date_to_table(rows.schema.empty_table(), run_date).schema,
            lambda: _add_run_date_to_batches(rows.open(), run_date),
        )
    return _add_run_date_to_table(rows, run_date)


def _add_run_date_to_batches(rows: pa.RecordBatchReader, run_date: date) -> pa.RecordBatchReader:
    schema = _add_run_date_to_table(rows.schema.empty_table(), run_date).schema
    dated = (_add_run_date_to_table(pa.Table.from_batches([each]), run_date) for each in rows)
    return pa.RecordBatchReader.from_batches(schema, (batch for table in dated for batch in table.to_batches()))


def _add_run_date_to_table(rows: pa.Table, run_date: date) -> pa.Table:
    rows = rows.drop_columns(matching_columns(rows.column_names, [PARTITION_COLUMN]))
    return rows.add_column(0, PARTITION_COLUMN, pa.repeat(pa.scalar(run_date, pa.date32()), rows.num_rows))
