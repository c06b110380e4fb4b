"""The tables: Delta Lake under one root URI, bronze, silver, gold and quarantine.

Here: reading a pinned version, replacing partitions, merging by key, candidates and publishing, and which versions were
read and written. Every change is one atomic commit. Not here: what rows mean (notebooks), SQL (``daybook.engines``),
whether rows may be published (``daybook.quality``).

An unnamed run works on a development copy: it reads what is published until it writes a table, and from then on its own.
"""

from __future__ import annotations

import time
from datetime import date
from typing import Any, Callable, Optional
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from daybook.contracts import LAYERS, Table, load_tables
from daybook.errors import LakeError
from daybook.storage import Store

SCHEMAS = ("bronze", "silver", "gold", "quarantine", "candidate", "control")
PARTITION = "run_date"
"""The column that bronze, quarantine and control tables are partitioned by: the business date whose run wrote the rows."""
_COMMIT_TRIES = 10


class Lake:
    """The tables under ``root``; ``development`` names a user whose copy takes all writes; ``run_id`` signs commits."""

    def __init__(self, root: str, *, run_id: str = "", development: str = "") -> None:
        self.root = root.rstrip("/")
        self.run_id = run_id
        self.development = development
        self.tables_read: dict[str, int] = {}
        self.tables_written: dict[str, int] = {}

    def uri(self, table: str) -> str:
        """Where writes to ``layer.name`` go."""
        return f"{self._write_root}/{self._path(table)}"

    def _path(self, table: str) -> str:
        schema, _, name = table.partition(".")
        if schema not in SCHEMAS or not name:
            raise LakeError(f"{table!r} is not a table's name; write layer.name with a layer of: {', '.join(SCHEMAS)}.")
        # Candidates belong to one run: two runs that compute the same table must not see each other's.
        return f"candidate/{self.run_id or 'interactive'}/{name}" if schema == "candidate" else f"{schema}/{name}"

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
                    found.update(f"{schema}.{name}" for name in store.folders(schema))
        return sorted(found)

    def dataset(self, table: str) -> Optional[pa.dataset.Dataset]:
        """The table at its newest version, which is noted in ``tables_read``; None where it has never been written."""
        delta = self._open(table)
        if delta is None:
            return None
        self.tables_read[table] = int(delta.version())
        return _dataset(delta)

    def partitions(self, table: str, column: str = PARTITION) -> list[date]:
        """The dates that a table holds rows for, sorted; from the log alone."""
        delta = self._open(table)
        if delta is None:
            return []
        return sorted({date.fromisoformat(part[column]) for part in delta.partitions()})

    def replace_partition(self, table: str, rows: pa.Table, run_date: date) -> None:
        """Make ``rows`` (with column ``run_date``) the only rows of that date, in one commit; new columns are added."""
        rows = _with_date_first(rows, run_date)
        if self._open(table, own=True) is None:
            self._create(table, rows.schema, [PARTITION])
        predicate = f"{PARTITION} = '{run_date.isoformat()}'"
        self._commit(table, lambda delta, commit: _overwrite(delta, rows, predicate, commit, new_columns=True))

    def merge(self, contract: Table, rows: pa.Table, *, landed_on: date) -> dict[str, int]:
        """Merge rows into a silver table by its key; the newest version of a row wins, whatever the order of dates.

        A version is ``(version_at, landed_on)``. Rows that this date had brought before and no longer brings are deleted, so
        a landing that is delivered again, corrected, replaces the first. Returns counts: inserted, updated, deleted.
        """
        table = contract.full_name
        self.ensure(contract)
        same = " AND ".join(f"t.{column} = s.{column}" for column in contract.key)
        newer = (
            # What the same landing said before is superseded by what it says now, whatever the versions.
            "(s.landed_on = t.landed_on OR s.version_at > t.version_at "
            "OR (s.version_at = t.version_at AND s.landed_on > t.landed_on))"
        )
        # first_order_date is not the landing's to say: update_column sets it.
        columns = [name for name in contract.columns if name != "first_order_date"]
        # The parentheses are needed: DataFusion reads IS DISTINCT FROM a OR b as IS DISTINCT FROM (a OR b).
        changed = " OR ".join(f"(s.{name} IS DISTINCT FROM t.{name})" for name in columns if name not in contract.key)
        kept = {name: f"s.{name}" for name in columns}
        new = {name: f"s.{name}" for name in contract.columns}

        def run(delta: DeltaTable, commit: CommitProperties) -> dict[str, Any]:
            return dict(
                delta.merge(rows, predicate=same, source_alias="s", target_alias="t", commit_properties=commit)
                .when_matched_update(updates=kept, predicate=f"{newer} AND ({changed})")
                .when_not_matched_insert(updates=new)
                .when_not_matched_by_source_delete(predicate=f"t.landed_on = '{landed_on.isoformat()}'")
                .execute()
            )

        metrics = self._commit(table, run)
        return {
            "inserted": int(metrics["num_target_rows_inserted"]),
            "updated": int(metrics["num_target_rows_updated"]),
            "deleted": int(metrics["num_target_rows_deleted"]),
        }

    def update_column(self, contract: Table, rows: pa.Table, column: str) -> int:
        """Set one column of existing rows by key where it differs; returns how many changed."""
        self.ensure(contract)
        same = " AND ".join(f"t.{name} = s.{name}" for name in contract.key)

        def run(delta: DeltaTable, commit: CommitProperties) -> dict[str, Any]:
            return dict(
                delta.merge(rows, predicate=same, source_alias="s", target_alias="t", commit_properties=commit)
                .when_matched_update(updates={column: f"s.{column}"}, predicate=f"s.{column} IS DISTINCT FROM t.{column}")
                .execute()
            )

        return int(self._commit(contract.full_name, run)["num_target_rows_updated"])

    def ensure(self, contract: Table) -> None:
        """Create the contract's table, empty, where it does not exist yet."""
        if self._open(contract.full_name, own=True) is None:
            self._create(contract.full_name, contract.arrow_schema, contract.partition_by, contract.description)

    def write_candidate(self, table: str, rows: pa.Table) -> None:
        """Write ``candidate.<name>``, new rows where no reader of gold looks; a retry of the run replaces them."""
        write_deltalake(self.uri(table), rows, mode="overwrite", schema_mode="overwrite", commit_properties=self._signed())
        self.tables_written[table] = int(DeltaTable(self.uri(table)).version())

    def publish(self, contract: Table, rows: pa.Table, dates: list[date]) -> bool:
        """Make a candidate's rows visible, in one commit: they become all there is for ``dates`` (or the whole table where
        it has no partitions). Idempotent within a named run: False when this run has published the table before.
        """
        table = contract.full_name
        self.ensure(contract)
        predicate = None
        if contract.partition_by:
            if not dates:
                return False
            listed = ", ".join(f"'{day.isoformat()}'" for day in dates)
            predicate = f"{contract.partition_by[0]} IN ({listed})"
        # A Delta application transaction: written with the commit, so that a retry sees that it happened.
        app_id = f"daybook.publish.{self.run_id}"
        transactions = [Transaction(app_id, 1)] if self.run_id else None
        done = False

        def run(delta: DeltaTable, commit: CommitProperties) -> dict[str, Any]:
            nonlocal done
            if self.run_id and delta.transaction_version(app_id) is not None:
                return {}
            _overwrite(delta, rows, predicate, commit)
            done = True
            return {}

        self._commit(table, run, transactions)
        return done

    def _commit(
        self,
        table: str,
        action: Callable[[DeltaTable, CommitProperties], Any],
        transactions: Optional[list[Transaction]] = None,
    ) -> Any:
        """Run one commit on the newest version, again when another writer was first."""
        for attempt in range(1, _COMMIT_TRIES + 1):
            try:
                delta = DeltaTable(self.uri(table))
                result = action(delta, self._signed(transactions))
            except CommitFailedError as error:
                if attempt == _COMMIT_TRIES:
                    raise LakeError(
                        f"{table} was changed by others {_COMMIT_TRIES} times while this run tried to "
                        f"({str(error).splitlines()[0].rstrip('.')}); run it again."
                    ) from error
                time.sleep(0.05 * attempt)
                continue
            except DeltaError as error:
                raise LakeError(f"{table} at {self.uri(table)} could not be written: {str(error).splitlines()[0]}") from error
            # The version of this very commit: another writer may already have added the next.
            self.tables_written[table] = int(delta.version())
            return result
        raise AssertionError("unreachable")

    def _signed(self, transactions: Optional[list[Transaction]] = None) -> CommitProperties:
        signature = {"daybook_run_id": self.run_id or f"dev/{self.development}"}
        return CommitProperties(custom_metadata=signature, app_transactions=transactions)

    def _create(self, table: str, schema: pa.Schema, partition_by: list[str], description: str = "") -> None:
        try:
            self._create_unless_there(table, schema, partition_by, description)
        except DeltaError as error:
            # Two dates that run side by side can both be the first to need a table: one creates it, for both.
            if _open_delta(self.uri(table)) is None:
                raise LakeError(f"{table} at {self.uri(table)} could not be made: {str(error).splitlines()[0]}") from error

    def _create_unless_there(self, table: str, schema: pa.Schema, partition_by: list[str], description: str) -> None:
        published = f"{self.root}/{self._path(table)}"
        if self.development and _open_delta(published) is not None:
            # The development copy begins as what is published, so that its reader sees whole tables.
            source = DeltaTable(published)
            write_deltalake(
                self.uri(table),
                _dataset(source).scanner().to_reader(),
                partition_by=list(source.metadata().partition_columns) or None,
                commit_properties=self._signed(),
            )
            return
        DeltaTable.create(
            self.uri(table),
            schema=schema,
            mode="ignore",
            partition_by=partition_by or None,
            name=table,
            description=description or None,
        )

    def _open(self, table: str, *, own: bool = False) -> Optional[DeltaTable]:
        """The Delta table that a reader (or, with ``own``, a writer) of this lake gets."""
        delta = _open_delta(self.uri(table))
        if delta is None and self.development and not own and not table.startswith("candidate."):
            delta = _open_delta(f"{self.root}/{self._path(table)}")
        return delta


def _open_delta(uri: str) -> Optional[DeltaTable]:
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def _dataset(delta: DeltaTable) -> pa.dataset.Dataset:
    """The table's files through Arrow's own filesystem.

    deltalake's default one calls back into Python from Arrow's reading threads, and those abort the process (exit code 134,
    a quarter of all tries here) when they are still about at the interpreter's end.
    """
    uri = delta.table_uri
    # deltalake writes a folder of this machine without scheme and yet with a space as %20, which Arrow takes at its word.
    filesystem, path = pa.fs.FileSystem.from_uri(uri) if "://" in uri else (pa.fs.LocalFileSystem(), unquote(uri))
    return delta.to_pyarrow_dataset(filesystem=pa.fs.SubTreeFileSystem(path, filesystem))


def _overwrite(
    delta: DeltaTable, rows: pa.Table, predicate: Optional[str], commit: CommitProperties, *, new_columns: bool = False
) -> None:
    """Replace what the predicate selects (None: everything) with rows, in one commit."""
    if predicate and not delta.file_uris():
        # deltalake 1.2.1 panics on a predicate where a table has no files; there is nothing to replace then.
        write_deltalake(delta, rows, mode="append", schema_mode="merge" if new_columns else None, commit_properties=commit)
        return
    write_deltalake(
        delta,
        rows,
        mode="overwrite",
        predicate=predicate,
        schema_mode="merge" if new_columns else None,
        commit_properties=commit,
    )


def _with_date_first(rows: pa.Table, run_date: date) -> pa.Table:
    if PARTITION in rows.column_names:
        rows = rows.drop_columns([PARTITION])
    return rows.add_column(0, PARTITION, pa.array([run_date] * rows.num_rows, pa.date32()))
