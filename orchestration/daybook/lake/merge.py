"""Which version of a row is the newest: what every date brought is kept, and silver holds the newest row of each key.

Rows without a key of their own form groups, such as the lines of an order: a date's rows of a group replace all its rows.

A version is ``(version_at, landed_on)``. Most keys need no more than a look at the row the table has. Those of which a date
now says less than it said before need all versions: what it once superseded comes back.

Rows are compared in a DuckDB database, which keeps what does not fit into memory on disk, and go to tables a batch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Callable, Optional, Union

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, Transaction, write_deltalake

from daybook.contracts import Table
from daybook.contracts.columns import column_key, matching_columns
from daybook.errors import LakeError
from daybook.lake.delta import column_expression, open_dataset, scanner_columns, with_columns
from daybook.lake.schema_evolution import BATCH_WRITER_PROPERTIES, rename_to_stored, stored_names
from daybook.lake.tables import PARTITION_COLUMN, BatchSource, Lake
from daybook.sources.mapping import literal

DERIVED_COLUMN = "first_order_date"
"""Not a landing's to say: rows bring it along for keys that are new, and ``Lake.update_column`` sets it."""
_WITHDRAWN_COLUMN = "withdrawn"
"""Whether the date has said something newer of this key before. It stays so: whoever comes after a crash looks again."""
_APP_ID = "daybook.merge"
"""Delta refuses two commits at once that bear a transaction of one application: of two merges the second begins anew, where
neither replaces a file of the other too."""
_MAX_LISTED_KEYS = 10_000
"""So many keys are named to the files that may hold them; more are told by the first and the last."""
_READ_BATCH_ROWS = 1 << 16
_WRITE_BATCH_ROWS = 1 << 11
"""Rows that go to a table at a time: deltalake takes in some hundred batches ahead of what it has written."""
_SCHEMA = "merging"
_TEMPORARY_TABLES = ("given", "prior", "kept", "withdrawn", "held", "restored", "losing", "replaced", "after")


@dataclass(frozen=True)
class RowChanges:
    """What a merge changes: rows as the table has them (of what is replaced or goes), and as it will have them.

    ``before_sql``, ``after_sql`` and ``deleted_sql`` select them in the ``database`` of the merge, until the next one there.
    """

    database: duckdb.DuckDBPyConnection
    before_sql: str
    after_sql: str
    deleted_sql: str
    counts: dict[str, int]
    """Rows inserted, updated and deleted."""

    @property
    def before(self) -> pa.Table:
        return self.database.execute(self.before_sql).arrow()

    @property
    def gone(self) -> pa.Table:
        """Those of ``before`` whose key will not be there."""
        return self.database.execute(self.deleted_sql).arrow()

    @property
    def after(self) -> pa.Table:
        return self.database.execute(self.after_sql).arrow()


def merge(
    lake: Lake,
    contract: Table,
    rows: Union[pa.Table, str],
    *,
    landed_on: date,
    group: Sequence[str] = (),
    before: Optional[Callable[[RowChanges], None]] = None,
    database: Optional[duckdb.DuckDBPyConnection] = None,
) -> dict[str, int]:
    """Make ``rows`` all that a date says, and the newest version of every row what the table holds; returns the counts.

    ``rows`` are a table, or the name of one in ``database``; their ``DERIVED_COLUMN`` column counts for keys that are new, and no
    other. ``before`` is told what will change before each try to commit it,
    against the very rows that the commit replaces: two merges of a table are never made at once, the second begins anew.

    ``group``: SQL over ``{row}`` for what rows have in common that are replaced together, such as ``{row}.order_id``. Rows of
    a date and group must have one ``version_at``. Without it each row is merged by the table's key.
    """
    lake.ensure_table(contract)
    merging = _Merge(lake, contract, database or duckdb.connect(config={"enable_external_access": "false"}), landed_on, group)
    merging.begin(rows)
    try:
        withdrawn = merging.keep()
        counts = {"inserted": 0, "updated": 0, "deleted": 0}

        def run(delta: DeltaTable) -> tuple[Optional[int], RowChanges]:
            # In this order: what a date keeps before the look at the table is seen, and who keeps later merges later.
            held = merging.load_stored_rows(delta)
            seen = merging.load_restored_rows() if withdrawn else None
            changes = merging.compute_changes(held)
            if any(changes.counts.values()):
                if before is not None:
                    before(changes)
                _commit_changes(lake, contract, delta, changes)
            return seen, changes

        while True:
            seen, changes = lake.commit(contract.full_name, run)
            counts = {name: counts[name] + count for name, count in changes.counts.items()}
            # A date that kept its rows after the look at all versions may have merged before the commit: look again.
            if not withdrawn or lake.version(_versions_table(contract)) == seen:
                return counts
    finally:
        if database is not None:
            merging.end()


def _versions_table(contract: Table) -> str:
    return f"versions.{contract.name}"


class _Merge:
    """The rows of a merge, in tables of a schema of their own in its database."""

    def __init__(
        self, lake: Lake, contract: Table, database: duckdb.DuckDBPyConnection, landed_on: date, group: Sequence[str]
    ) -> None:
        self._lake = lake
        self._contract = contract
        self._database = database
        self._landed_on = landed_on
        self._by_group = bool(group)
        self._group = group or [f"{{row}}.{name}" for name in contract.key]
        self._schema = pa.schema([each for each in contract.arrow_schema if column_key(each.name) != DERIVED_COLUMN])
        self._columns = ", ".join(self._schema.names)
        self._withdrawn = 0

    def begin(self, rows: Union[pa.Table, str]) -> None:
        """Have the rows of the date as ``merging.rows``."""
        self._database.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
        if not isinstance(rows, str):
            self._database.register("_given", rows)
            rows = self._table("given", "SELECT * FROM _given")
            self._database.unregister("_given")
        self._database.execute(f"CREATE OR REPLACE VIEW {_SCHEMA}.rows AS SELECT {self._columns} FROM {rows}")
        if matching_columns(self._contract.columns, [DERIVED_COLUMN]):
            names = ", ".join([*self._contract.key, DERIVED_COLUMN])
            self._database.execute(f"CREATE OR REPLACE VIEW {_SCHEMA}.derived AS SELECT {names} FROM {rows}")

    def end(self) -> None:
        """Make room."""
        for name in ("rows", "derived"):
            self._database.execute(f"DROP VIEW IF EXISTS {_SCHEMA}.{name}")
        for name in _TEMPORARY_TABLES:
            self._database.execute(f"DROP TABLE IF EXISTS {_SCHEMA}.{name}")

    def keep(self) -> int:
        """Make the rows the versions that the date brought; of how many keys it has said something newer before."""
        table, names = _versions_table(self._contract), [*self._schema.names, _WITHDRAWN_COLUMN]
        kept = f"SELECT *, FALSE AS {_WITHDRAWN_COLUMN} FROM {_SCHEMA}.rows"
        stored = self._lake.dataset(table, self._landed_on)
        if stored is not None:
            # Kept under an earlier contract, rows have no value for a column that came later.
            asked = [pa.field(_WITHDRAWN_COLUMN, pa.bool_()), pa.field(PARTITION_COLUMN, pa.date32())]
            stored = with_columns(stored, pa.schema([*self._schema, *asked]))
            if self._load_table("prior", stored, names, ds.field(PARTITION_COLUMN) == self._landed_on):
                kept = f"SELECT * FROM {self._table('kept', self._versions_sql())}"
                key = ", ".join(self._contract.key)
                self._table("withdrawn", f"SELECT {key} FROM {_SCHEMA}.kept WHERE {_WITHDRAWN_COLUMN}")
                self._withdrawn = self._count("withdrawn")
        schema = self._schema.append(pa.field(_WITHDRAWN_COLUMN, pa.bool_()))
        self._lake.replace_partition(
            table, BatchSource(schema, lambda: _read_batches(self._database, kept, schema)), self._landed_on
        )
        return self._withdrawn

    def _versions_sql(self) -> str:
        key = self._contract.key
        keys = ", ".join(f"coalesce(now.{name}, prior.{name}) AS {name}" for name in key)
        columns = ", ".join(f"now.{name}" for name in self._schema.names if name not in key)
        less = f"coalesce(prior.{_WITHDRAWN_COLUMN}, FALSE) OR now._there IS NULL OR coalesce(prior.version_at > now.version_at, FALSE)"
        return (
            f"SELECT {self._columns}, {_WITHDRAWN_COLUMN} FROM (SELECT {keys}, {columns}, {less} AS {_WITHDRAWN_COLUMN} "
            f"FROM (SELECT *, TRUE AS _there FROM {_SCHEMA}.rows) AS now "
            f"FULL JOIN {_SCHEMA}.prior ON {self._same_key_sql('now', 'prior')}) AS kept"
        )

    def load_stored_rows(self, delta: DeltaTable) -> int:
        """Have the table's rows of these keys as ``merging.held``; how many there are."""
        condition = f"EXISTS (SELECT 1 FROM {_SCHEMA}.rows AS r WHERE {self._same_group_sql('r', 'found')})"
        names = f"{_SCHEMA}.rows"
        if self._withdrawn:
            condition += f" OR EXISTS (SELECT 1 FROM {_SCHEMA}.withdrawn AS w WHERE {self._same_group_sql('w', 'found')})"
            first = self._contract.key[0]
            names = f"(SELECT {first} FROM {_SCHEMA}.rows UNION ALL SELECT {first} FROM {_SCHEMA}.withdrawn)"
        rows = open_dataset(delta)
        return self._load_table("held", rows, self._schema.names, self._asked(rows, names), f"WHERE {condition}")

    def load_restored_rows(self) -> int:
        """Have the newest of all versions of the withdrawn keys as ``merging.restored``; the version of their table."""
        stored = self._lake.dataset(_versions_table(self._contract))
        if stored is None:
            raise LakeError(f"{_versions_table(self._contract)} went away while a date was merged; run it again.")
        seen = self._lake.tables_read[_versions_table(self._contract)]
        stored = with_columns(stored, self._schema)
        there = column_expression(stored.schema, "version_at").is_valid()
        self._load_table(
            "restored",
            stored,
            self._schema.names,
            there & self._asked(stored, f"{_SCHEMA}.withdrawn"),
            f"WHERE EXISTS (SELECT 1 FROM {_SCHEMA}.withdrawn AS w WHERE {self._same_group_sql('w', 'found')}) "
            # Of one date there may be several rows of a group.
            f"QUALIFY rank() OVER (PARTITION BY {self._group_key_sql('found')} ORDER BY version_at DESC, landed_on DESC) = 1",
        )
        return seen

    def compute_changes(self, held: int) -> RowChanges:
        """What has to change for the table to hold the newest version of every row."""
        wanted = f"SELECT * FROM {_SCHEMA}.rows"
        if self._withdrawn:
            gone = f"SELECT 1 FROM {_SCHEMA}.withdrawn AS w WHERE {self._same_group_sql('w', 'r')}"
            wanted = f"SELECT * FROM {_SCHEMA}.rows AS r WHERE NOT EXISTS ({gone}) UNION ALL SELECT * FROM {_SCHEMA}.restored"
        if not held:
            inserted = int(_fetch_value(self._database, f"SELECT count(*) FROM ({wanted}) AS wanted"))
            nothing = f"SELECT * FROM {_SCHEMA}.held"
            return RowChanges(self._database, nothing, wanted, nothing, {"inserted": inserted, "updated": 0, "deleted": 0})
        stored = f"SELECT * FROM {_SCHEMA}.held"
        replaces = f"({self._is_newer_sql()}) AND ({self._differs_sql()})"
        if self._by_group:
            # Which version wins is decided by group: where the stored one does, the group stays as it is.
            first = f"SELECT DISTINCT ON ({self._group_key_sql('r')}) * FROM ({wanted}) AS r"
            self._table(
                "losing",
                f"SELECT old.* FROM {_SCHEMA}.held AS old JOIN ({first}) AS new ON {self._same_group_sql('new', 'old')} "
                f"WHERE NOT ({self._is_newer_sql()})",
            )
            losing = f"SELECT 1 FROM {_SCHEMA}.losing AS l WHERE {self._same_group_sql('l', 'r')}"
            wanted, stored = (f"SELECT * FROM ({rows}) AS r WHERE NOT EXISTS ({losing})" for rows in (wanted, stored))
            replaces = self._differs_sql()
        after = f"FROM ({wanted}) AS new LEFT JOIN (SELECT *, TRUE AS _there FROM ({stored}) AS stored) AS old"
        self._table(
            "after",
            f"SELECT new.*, coalesce(old._there, FALSE) AS _updates {after} ON {self._same_key_sql('new', 'old')} "
            f"WHERE old._there IS NULL OR ({replaces})",
        )
        self._table(
            "replaced",
            f"SELECT old.*, new._there IS NULL AS _gone FROM ({stored}) AS old "
            f"LEFT JOIN (SELECT *, TRUE AS _there FROM ({wanted}) AS wanted) AS new ON {self._same_key_sql('new', 'old')} "
            f"WHERE new._there IS NULL OR ({replaces})",
        )
        inserted, updated, deleted = self._database.execute(
            f"SELECT (SELECT count(*) FILTER (NOT _updates) FROM {_SCHEMA}.after), "
            f"count(*) FILTER (NOT _gone), count(*) FILTER (_gone) FROM {_SCHEMA}.replaced"
        ).fetchall()[0]
        return RowChanges(
            self._database,
            f"SELECT {self._columns} FROM {_SCHEMA}.replaced",
            f"SELECT {self._columns} FROM {_SCHEMA}.after",
            f"SELECT {self._columns} FROM {_SCHEMA}.replaced WHERE _gone",
            {"inserted": inserted, "updated": updated, "deleted": deleted},
        )

    def _is_newer_sql(self) -> str:
        newer = (
            "new.version_at > old.version_at OR (new.version_at = old.version_at AND new.landed_on > old.landed_on) "
            # What the same date said before is superseded by what it says now.
            f"OR old.landed_on = DATE '{self._landed_on.isoformat()}'"
        )
        if self._withdrawn:
            # Of withdrawn keys the newest of all is at hand.
            newer += f" OR EXISTS (SELECT 1 FROM {_SCHEMA}.withdrawn AS w WHERE {self._same_group_sql('w', 'old')})"
        return newer

    def _differs_sql(self) -> str:
        return " OR ".join(f"new.{name} IS DISTINCT FROM old.{name}" for name in self._schema.names)

    def _same_key_sql(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{name} = {other}.{name}" for name in self._contract.key)

    def _same_group_sql(self, one: str, other: str) -> str:
        """SQL for two rows that are replaced together: of one group, or, without groups, of one key."""
        return " AND ".join(f"{each.format(row=one)} = {each.format(row=other)}" for each in self._group)

    def _group_key_sql(self, row: str) -> str:
        return ", ".join(each.format(row=row) for each in self._group)

    def _asked(self, rows: ds.Dataset, names: str) -> ds.Expression:
        """What rows with one of these keys have in common, so that whole files are left unread.

        The first column alone; the others are compared after.
        """
        first = self._contract.key[0]
        field = column_expression(rows.schema, first)
        count, least, most = self._database.execute(
            f"SELECT approx_count_distinct({first}), min({first}), max({first}) FROM {names} AS asked"
        ).fetchall()[0]
        if count > _MAX_LISTED_KEYS:
            return (field >= pa.scalar(least)) & (field <= pa.scalar(most))
        named = self._database.execute(f"SELECT DISTINCT {first} FROM {names} AS asked").fetchall()
        return field.isin(pa.array([each for (each,) in named], self._schema.field(first).type))

    def _load_table(self, name: str, rows: ds.Dataset, columns: list[str], asked: ds.Expression, condition: str = "") -> int:
        """Keep rows of a stored table in the database; how many there are."""
        reader = rows.scanner(
            columns=scanner_columns(rows.schema, columns),
            filter=asked,
            batch_size=_READ_BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1,
        ).to_reader()
        self._database.register("_found", reader)
        self._table(name, f"SELECT * FROM _found AS found {condition}")
        self._database.unregister("_found")
        return self._count(name)

    def _table(self, name: str, sql: str) -> str:
        self._database.execute(f"CREATE OR REPLACE TABLE {_SCHEMA}.{name} AS {sql}")
        return f"{_SCHEMA}.{name}"

    def _count(self, name: str) -> int:
        return int(_fetch_value(self._database, f"SELECT count(*) FROM {_SCHEMA}.{name}"))


def _fetch_value(database: duckdb.DuckDBPyConnection, sql: str) -> Any:
    return database.execute(sql).fetchall()[0][0]


def _read_batches(database: duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema) -> pa.RecordBatchReader:
    """A query's rows, a batch at a time, as a table has them."""
    found = database.cursor().execute(sql).fetch_record_batch(_WRITE_BATCH_ROWS)
    return pa.RecordBatchReader.from_batches(schema, (each.cast(schema) for each in found))


def _commit_changes(lake: Lake, contract: Table, delta: DeltaTable, changes: RowChanges) -> None:
    """The changes as one commit."""
    schema, after = contract.arrow_schema, changes.after_sql
    if matching_columns(schema.names, [DERIVED_COLUMN]):
        columns = ", ".join(
            f"d.{name} AS {name}" if column_key(name) == DERIVED_COLUMN else f"after.{name}" for name in schema.names
        )
        same = " AND ".join(f"d.{name} = after.{name}" for name in contract.key)
        after = f"SELECT {columns} FROM ({after}) AS after LEFT JOIN {_SCHEMA}.derived AS d ON {same}"
    commit = lake.commit_properties([Transaction(_APP_ID, int(delta.version()) + 1)])
    if not changes.counts["updated"] and not changes.counts["deleted"]:
        # Nothing of the table is read or written anew.
        rows = rename_to_stored(_read_batches(changes.database, after, schema), delta)
        many: Any = BATCH_WRITER_PROPERTIES if changes.counts["inserted"] > _READ_BATCH_ROWS else None
        write_deltalake(delta, rows, mode="append", schema_mode="merge", writer_properties=many, commit_properties=commit)
        return
    stored = dict(zip(schema.names, stored_names(delta, schema.names)))
    same = " AND ".join(
        [*(f"t.{stored[name]} = s.{name}" for name in contract.key), *_key_range_predicates(contract, changes, stored)]
    )
    inserted: dict[str, Any] = {stored[name]: f"s.{name}" for name in schema.names}
    # What a contract no longer has is not kept beside values of another version.
    inserted.update({each.name: "NULL" for each in delta.schema().fields if each.name not in inserted})
    derived = matching_columns(inserted, [DERIVED_COLUMN])
    rows = _read_batches(
        changes.database,
        f"SELECT *, FALSE AS _gone FROM ({after}) AS after UNION ALL BY NAME "
        f"SELECT *, TRUE AS _gone FROM ({changes.deleted_sql}) AS gone",
        schema.append(pa.field("_gone", pa.bool_())),
    )
    (
        delta.merge(rows, predicate=same, source_alias="s", target_alias="t", commit_properties=commit)
        .when_matched_delete(predicate="s._gone")
        .when_matched_update(updates={name: value for name, value in inserted.items() if name not in derived})
        .when_not_matched_insert(updates=inserted, predicate="NOT s._gone")
        .execute()
    )


def _key_range_predicates(contract: Table, changes: RowChanges, stored: Mapping[str, str]) -> list[str]:
    """Between which keys all rows lie that come, are replaced or go: files of others need not be read, nor does it matter who
    changes them meanwhile. Ids are counted up, so of a long history that is most; pseudonyms lie anywhere."""
    first = contract.key[0]
    if first in contract.pseudonyms or contract.type_of(first) != "VARCHAR":
        return []
    changed = (
        f"SELECT {first} FROM ({changes.after_sql}) AS after UNION ALL SELECT {first} FROM ({changes.deleted_sql}) AS gone"
    )
    found = changes.database.execute(f"SELECT min({first}), max({first}) FROM ({changed}) AS changed")
    least, most = found.fetchall()[0]
    return [f"t.{stored[first]} >= {literal(least)}", f"t.{stored[first]} <= {literal(most)}"]
