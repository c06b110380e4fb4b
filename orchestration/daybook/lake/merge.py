"""Merge the rows of dates into a silver table: every date's versions are kept, and silver holds each key's newest version.

A version is ``(version_at, landed_on)``. Most keys are compared with the row in silver alone. For keys that a date no longer
has, or now has in an older version, all versions are read: the newest of the others comes back. Merging several dates at once
leaves the same rows as merging one after the other.

Rows are compared in a DuckDB database, which spills to disk, and are written in batches.
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

from daybook.compatibility import read_batches
from daybook.contracts import Table
from daybook.errors import LakeError
from daybook.lake.delta import column_expression, open_dataset, scanner_columns, with_columns
from daybook.lake.schema_evolution import BATCH_WRITER_PROPERTIES, rename_to_stored, stored_names
from daybook.lake.tables import RUN_DATE_COLUMN, BatchSource, Lake
from daybook.sources.mapping import literal

_WITHDRAWN_COLUMN = "withdrawn"
"""Whether the date had a newer version of this key before. It stays set, so that a run after a crash looks again."""
_APP_ID = "daybook.merge"
"""Delta refuses two concurrent commits with a transaction of one application. The second of two merges is repeated, even if
neither replaces a file of the other."""
_MAX_LISTED_KEYS = 10_000
"""Up to this number, keys are listed in the filter of a scan; above it, the filter is their range."""
_READ_BATCH_ROWS = 1 << 16
_WRITE_BATCH_ROWS = 1 << 11
"""Rows in a batch that is written: deltalake buffers some hundred batches."""
_SCHEMA = "merging"
CHANGED_BY = "_changed_by"
"""Column of ``RowChanges.differing_sql``: a date whose merge has changed the row, or that the row is among the states of."""


@dataclass(frozen=True)
class RowChanges:
    """What a merge changes in a table.

    ``before_sql`` selects the rows that are replaced or deleted, ``after_sql`` the rows that are written, and ``deleted_sql``
    those of ``before_sql`` whose key disappears. They read the ``database`` of the merge and are valid until its next merge.

    Attributes
    ----------
    dates
        The dates that were merged.
    key
        The columns of the table's key, and of the group of rows that replace each other together.
    states_sql
        For several dates: the rows of all changed groups as the dates have found and left them one after the other. ``_state``
        names a state of the group, and ``_states`` is the number of its states, null where a date has withdrawn a row.
    causes_sql
        For several dates: the columns of the group, and ``CHANGED_BY``, each date that has rows of the group or withdrew some.
    """

    database: duckdb.DuckDBPyConnection
    before_sql: str
    after_sql: str
    deleted_sql: str
    counts: dict[str, int]
    """Rows inserted, updated and deleted."""
    dates: Sequence[date]
    key: Sequence[str]
    group: Sequence[str]
    states_sql: str
    causes_sql: str

    def differing_sql(self, columns: Sequence[str]) -> str:
        """Return SQL for rows that change in one of these columns: ``columns``, key and group, and ``CHANGED_BY``.

        A row that several dates change one after the other is there with each of its states, for each of these dates. So the
        rows of a date include all that it changes where the dates are merged in their order.
        """
        names = ", ".join(dict.fromkeys([*columns, *self.key, *self.group]))
        if len(self.dates) == 1:
            changed_by = f"DATE '{self.dates[0].isoformat()}' AS {CHANGED_BY}"
            if not self.counts["updated"] and not self.counts["deleted"]:
                return f"SELECT {names}, {changed_by} FROM ({self.after_sql}) AS after"
            both = (
                f"SELECT {names} FROM ({self.before_sql}) AS before UNION ALL SELECT {names} FROM ({self.after_sql}) AS after"
            )
            return f"SELECT {names}, {changed_by} FROM ({both}) AS states GROUP BY {names} HAVING count(*) = 1"
        return (
            f"SELECT {names}, {CHANGED_BY} FROM (SELECT {names} FROM ({self.states_sql}) AS states GROUP BY {names} "
            f"HAVING (count(DISTINCT _state) < any_value(_states)) IS NOT FALSE) AS differing "
            f"JOIN ({self.causes_sql}) AS causes USING ({', '.join(self.group)})"
        )


def merge(
    lake: Lake,
    contract: Table,
    rows: Union[pa.Table, str],
    *,
    dates: Sequence[date],
    group: Sequence[str] = (),
    before: Optional[Callable[[RowChanges], None]] = None,
    database: Optional[duckdb.DuckDBPyConnection] = None,
) -> dict[str, int]:
    """Replace the versions of dates, and bring the table to the newest version of every row.

    Parameters
    ----------
    lake
        Where the table is.
    contract
        The contract of the table.
    rows
        All rows of the dates: a table, or the name of one in ``database``. ``landed_on`` is the date of each, and a date has
        a key once. Derived columns of the contract are only written for new keys.
    dates
        The business dates that the rows landed with; a date can have no rows.
    group
        Columns whose equal values make rows that replace each other together, such as all lines of an order. Rows of a date
        and group must have one ``version_at``. Without them each row is merged by the table's key.
    before
        Called with the changes before each attempt to commit them. The changes refer to exactly the rows that the commit
        replaces: concurrent merges of a table are repeated.
    database
        Where rows are compared; a database in memory if not given.

    Returns
    -------
    dict
        Numbers of rows ``inserted``, ``updated`` and ``deleted``.
    """
    lake.ensure_table(contract)
    merging = _Merge(lake, contract, database or duckdb.connect(config={"enable_external_access": "false"}), dates, group)
    merging.begin(rows)
    try:
        withdrawn = merging.keep_versions()
        counts = {"inserted": 0, "updated": 0, "deleted": 0}

        def run(delta: DeltaTable) -> tuple[Optional[int], RowChanges]:
            # The versions of the dates are kept before the table is read, so that a later merge sees them.
            merging.load_stored_rows(delta)
            seen = merging.load_restored_rows() if withdrawn else None
            changes = merging.compute_changes()
            if any(changes.counts.values()):
                if before is not None:
                    before(changes)
                _commit_changes(lake, contract, delta, changes)
            return seen, changes

        while True:
            seen, changes = lake.commit(contract.full_name, run)
            counts = {name: counts[name] + count for name, count in changes.counts.items()}
            # Another date may have kept its versions after they were read here and merged before this commit: repeat.
            if not withdrawn or lake.version(_versions_table(contract)) == seen:
                return counts
    finally:
        if database is not None:
            merging.drop_temporary_tables()


def _versions_table(contract: Table) -> str:
    return f"versions.{contract.name}"


class _Merge:
    """The rows of a merge, in tables of the schema ``merging`` of its database."""

    def __init__(
        self, lake: Lake, contract: Table, database: duckdb.DuckDBPyConnection, dates: Sequence[date], group: Sequence[str]
    ) -> None:
        self._lake = lake
        self._contract = contract
        self._database = database
        self._dates = sorted(dates)
        self._dates_sql = ", ".join(f"DATE '{day.isoformat()}'" for day in self._dates)
        self._by_group = bool(group)
        self._group = group or contract.key
        self._schema = pa.schema([each for each in contract.arrow_schema if each.name not in contract.derived])
        self._columns = ", ".join(self._schema.names)
        self._newest = f"{_SCHEMA}.rows"
        self._withdrawn = 0
        self._held = 0

    def begin(self, rows: Union[pa.Table, str]) -> None:
        """Make the rows of the dates readable as ``merging.rows``, and their derived columns as ``merging.derived``."""
        self._database.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
        if not isinstance(rows, str):
            self._database.register("_given", rows)
            self._table("given", "SELECT * FROM _given")
            self._database.unregister("_given")
            rows = f"{_SCHEMA}.given"
        self._database.execute(f"CREATE OR REPLACE VIEW {_SCHEMA}.rows AS SELECT {self._columns} FROM {rows}")
        if self._contract.derived:
            key = ", ".join(self._contract.key)
            self._database.execute(
                f"CREATE OR REPLACE VIEW {_SCHEMA}.derived AS "
                f"SELECT DISTINCT ON ({key}) {key}, {', '.join(self._contract.derived)} FROM {rows}"
            )
        if len(self._dates) > 1:
            self._newest = f"{_SCHEMA}.newest"
            self._table("newest", f"SELECT * FROM {_SCHEMA}.rows {self._newest_sql()}")

    def drop_temporary_tables(self) -> None:
        """Drop what the merge has created in the database."""
        self._database.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")

    def keep_versions(self) -> int:
        """Store the rows as the versions of the dates; return for how many rows their date had a newer version before."""
        table, names = _versions_table(self._contract), [*self._schema.names, _WITHDRAWN_COLUMN, RUN_DATE_COLUMN]
        kept = f"SELECT landed_on AS {RUN_DATE_COLUMN}, *, FALSE AS {_WITHDRAWN_COLUMN} FROM {_SCHEMA}.rows"
        stored = self._lake.dataset(table, self._dates)
        if stored is not None:
            # Rows that were kept under an earlier contract lack columns that were added later.
            asked = [pa.field(_WITHDRAWN_COLUMN, pa.bool_()), pa.field(RUN_DATE_COLUMN, pa.date32())]
            stored = with_columns(stored, pa.schema([*self._schema, *asked]))
            if self._load_table("prior", stored, names):
                self._table("kept", self._versions_sql())
                kept, key = f"SELECT * FROM {_SCHEMA}.kept", ", ".join(self._contract.key)
                self._withdrawn = self._table(
                    "withdrawn", f"SELECT {RUN_DATE_COLUMN}, {key} FROM {_SCHEMA}.kept WHERE {_WITHDRAWN_COLUMN}"
                )
        schema = pa.schema([pa.field(RUN_DATE_COLUMN, pa.date32()), *self._schema, pa.field(_WITHDRAWN_COLUMN, pa.bool_())])
        self._lake.replace_dates(table, BatchSource(schema, lambda: _read_batches(self._database, kept, schema)), self._dates)
        return self._withdrawn

    def _versions_sql(self) -> str:
        key = self._contract.key
        keys = ", ".join(f"coalesce(now.{name}, prior.{name}) AS {name}" for name in key)
        columns = ", ".join(f"now.{name}" for name in self._schema.names if name not in key)
        less = (
            f"coalesce(prior.{_WITHDRAWN_COLUMN}, FALSE) OR now._there IS NULL "
            "OR coalesce(prior.version_at > now.version_at, FALSE)"
        )
        return (
            f"SELECT {RUN_DATE_COLUMN}, {self._columns}, {_WITHDRAWN_COLUMN} FROM ("
            f"SELECT coalesce(now.landed_on, prior.{RUN_DATE_COLUMN}) AS {RUN_DATE_COLUMN}, "
            f"{keys}, {columns}, {less} AS {_WITHDRAWN_COLUMN} FROM (SELECT *, TRUE AS _there FROM {_SCHEMA}.rows) AS now "
            f"FULL JOIN {_SCHEMA}.prior ON {_equal_sql(key, 'now', 'prior')} AND now.landed_on = prior.{RUN_DATE_COLUMN}"
            ") AS kept"
        )

    def load_stored_rows(self, delta: DeltaTable) -> None:
        """Load the table's rows of these keys into ``merging.held``."""
        condition = f"EXISTS ({self._same_group_sql('rows', 'found')})"
        names = f"{_SCHEMA}.rows"
        if self._withdrawn:
            condition += f" OR EXISTS ({self._same_group_sql('withdrawn', 'found')})"
            first = self._contract.key[0]
            names = f"(SELECT {first} FROM {_SCHEMA}.rows UNION ALL SELECT {first} FROM {_SCHEMA}.withdrawn)"
        rows = open_dataset(delta)
        self._held = self._load_table("held", rows, self._schema.names, f"WHERE {condition}", self._key_filter(rows, names))

    def load_restored_rows(self) -> int:
        """Load all versions of the withdrawn keys, and the newest as ``merging.restored``; return their table's version."""
        table = _versions_table(self._contract)
        stored = self._lake.dataset(table)
        if stored is None:
            raise LakeError(f"{table} was removed while a date was merged; run the date again.")
        seen = self._lake.tables_read[table]
        stored = with_columns(stored, self._schema)
        there = column_expression(stored.schema, "version_at").is_valid()
        self._load_table(
            "versions",
            stored,
            self._schema.names,
            f"WHERE EXISTS ({self._same_group_sql('withdrawn', 'found')})",
            there & self._key_filter(stored, f"{_SCHEMA}.withdrawn"),
        )
        self._table("restored", f"SELECT * FROM {_SCHEMA}.versions {self._newest_sql()}")
        return seen

    def _newest_sql(self) -> str:
        """Return a clause that selects the newest version of every group. A date may have several rows of a group."""
        group = ", ".join(self._group)
        return f"QUALIFY rank() OVER (PARTITION BY {group} ORDER BY version_at DESC, landed_on DESC) = 1"

    def compute_changes(self) -> RowChanges:
        """Return what has to change for the table to hold the newest version of every row."""
        wanted = f"SELECT * FROM {self._newest}"
        if self._withdrawn:
            wanted = (
                f"SELECT * FROM {self._newest} AS r WHERE NOT EXISTS ({self._same_group_sql('withdrawn', 'r')}) "
                f"UNION ALL SELECT * FROM {_SCHEMA}.restored"
            )
        stored = f"SELECT * FROM {_SCHEMA}.held"
        if not self._held:
            # A first load: comparing would copy all rows.
            inserted = self._database.execute(f"SELECT count(*) FROM ({wanted}) AS wanted").fetchall()[0][0]
            return self._row_changes(stored, wanted, stored, {"inserted": inserted, "updated": 0, "deleted": 0})
        replaces = f"({self._is_newer_sql()}) AND ({self._differs_sql()})"
        if self._by_group:
            # The newer version of a group wins as a whole: where the stored one is newer, the group stays.
            first = f"SELECT DISTINCT ON ({', '.join(f'r.{name}' for name in self._group)}) * FROM ({wanted}) AS r"
            self._table(
                "losing",
                f"SELECT old.* FROM {_SCHEMA}.held AS old JOIN ({first}) AS new ON {_equal_sql(self._group, 'new', 'old')} "
                f"WHERE NOT ({self._is_newer_sql()})",
            )
            losing = self._same_group_sql("losing", "r")
            wanted, stored = (f"SELECT * FROM ({rows}) AS r WHERE NOT EXISTS ({losing})" for rows in (wanted, stored))
            replaces = self._differs_sql()
        names = [*self._schema.names, "_there"]
        both = ", ".join(f"{row}.{name} AS {row}_{name}" for row in ("new", "old") for name in names)
        self._table(
            "changes",
            # Not the rows as structs: a column of the contract can be named new or old.
            f"SELECT {both} FROM (SELECT *, TRUE AS _there FROM ({wanted}) AS wanted) AS new "
            f"FULL JOIN (SELECT *, TRUE AS _there FROM ({stored}) AS stored) AS old "
            f"ON {_equal_sql(self._contract.key, 'new', 'old')} "
            f"WHERE new._there IS NULL OR old._there IS NULL OR ({replaces})",
        )
        inserted, updated, deleted = self._database.execute(
            "SELECT count(*) FILTER (old__there IS NULL), count(*) FILTER (new__there AND old__there), "
            f"count(*) FILTER (new__there IS NULL) FROM {_SCHEMA}.changes"
        ).fetchall()[0]
        before = f"SELECT {self._prefixed_columns('old')} FROM {_SCHEMA}.changes WHERE old__there"
        return self._row_changes(
            before,
            f"SELECT {self._prefixed_columns('new')} FROM {_SCHEMA}.changes WHERE new__there",
            f"{before} AND new__there IS NULL",
            {"inserted": inserted, "updated": updated, "deleted": deleted},
        )

    def _row_changes(self, before: str, after: str, deleted: str, counts: dict[str, int]) -> RowChanges:
        states, causes = ("", "") if len(self._dates) == 1 else (self._states_sql(before, after), self._causes_sql())
        return RowChanges(
            self._database, before, after, deleted, counts, self._dates, self._contract.key, self._group, states, causes
        )

    def _states_sql(self, before: str, after: str) -> str:
        """Return SQL for the rows of changed groups in all states that they can have while the dates are merged in order.

        These are the stored rows and the new rows of every date. Where a date withdraws rows, all versions of the group can
        come back, also those that are replaced by this merge.
        """
        group = ", ".join(self._group)
        changed = f"SELECT {group} FROM ({before}) AS before UNION SELECT {group} FROM ({after}) AS after"
        states = [
            f"SELECT {self._columns}, 'stored' AS _state FROM {_SCHEMA}.held",
            f"SELECT {self._columns}, CAST(landed_on AS VARCHAR) AS _state FROM {_SCHEMA}.rows",
        ]
        counted = f"SELECT {group}, 1 + count(DISTINCT landed_on) AS _states FROM {_SCHEMA}.rows AS r"
        if self._withdrawn:
            counted += f" WHERE NOT EXISTS ({self._same_group_sql('withdrawn', 'r')})"
            for name in ("prior", "versions"):
                states.append(
                    f"SELECT {self._columns}, 'version' AS _state FROM {_SCHEMA}.{name} AS v "
                    f"WHERE version_at IS NOT NULL AND EXISTS ({self._same_group_sql('withdrawn', 'v')})"
                )
        return (
            f"SELECT * FROM ({' UNION ALL '.join(states)}) AS states SEMI JOIN ({changed}) AS changed USING ({group}) "
            f"LEFT JOIN ({counted} GROUP BY {group}) AS counted USING ({group})"
        )

    def _causes_sql(self) -> str:
        group = ", ".join(self._group)
        causes = f"SELECT {group}, landed_on AS {CHANGED_BY} FROM {_SCHEMA}.rows"
        if self._withdrawn:
            causes += f" UNION ALL SELECT {group}, {RUN_DATE_COLUMN} FROM {_SCHEMA}.withdrawn"
        return f"SELECT DISTINCT * FROM ({causes}) AS causes"

    def _prefixed_columns(self, prefix: str) -> str:
        return ", ".join(f"{prefix}_{name} AS {name}" for name in self._schema.names)

    def _is_newer_sql(self) -> str:
        newer = (
            "new.version_at > old.version_at OR (new.version_at = old.version_at AND new.landed_on > old.landed_on) "
            # A date's new rows replace those that it brought before.
            f"OR old.landed_on IN ({self._dates_sql})"
        )
        if self._withdrawn:
            # The restored row is the newest of all versions.
            newer += f" OR EXISTS ({self._same_group_sql('withdrawn', 'old')})"
        return newer

    def _differs_sql(self) -> str:
        return " OR ".join(f"new.{name} IS DISTINCT FROM old.{name}" for name in self._schema.names)

    def _same_group_sql(self, table: str, other: str) -> str:
        """Return a subquery for the rows of a table of the merge that are replaced together with a row of ``other``."""
        return f"SELECT 1 FROM {_SCHEMA}.{table} AS _same WHERE {_equal_sql(self._group, '_same', other)}"

    def _key_filter(self, rows: ds.Dataset, names: str) -> ds.Expression:
        """Return a filter on the first key column of ``rows`` that holds for all keys in ``names``, to skip whole files."""
        first = self._contract.key[0]
        field = column_expression(rows.schema, first)
        count, least, most = self._database.execute(
            f"SELECT approx_count_distinct({first}), min({first}), max({first}) FROM {names} AS asked"
        ).fetchall()[0]
        if count > _MAX_LISTED_KEYS:
            return (field >= pa.scalar(least)) & (field <= pa.scalar(most))
        named = self._database.execute(f"SELECT DISTINCT {first} FROM {names} AS asked").fetchall()
        return field.isin(pa.array([each for (each,) in named], self._schema.field(first).type))

    def _load_table(
        self, name: str, rows: ds.Dataset, columns: list[str], condition: str = "", asked: Optional[ds.Expression] = None
    ) -> int:
        """Load rows of a stored table into the database; return how many there are."""
        reader = rows.scanner(
            columns=scanner_columns(rows.schema, columns),
            filter=asked,
            batch_size=_READ_BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1,
        ).to_reader()
        self._database.register("_found", reader)
        count = self._table(name, f"SELECT * FROM _found AS found {condition}")
        self._database.unregister("_found")
        return count

    def _table(self, name: str, sql: str) -> int:
        """Store the rows of a query in a table of the merge; return how many there are."""
        return int(self._database.execute(f"CREATE OR REPLACE TABLE {_SCHEMA}.{name} AS {sql}").fetchall()[0][0])


def _equal_sql(columns: Sequence[str], one: str, other: str) -> str:
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in columns)


def _read_batches(database: duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema) -> pa.RecordBatchReader:
    """Read the rows of a query in batches, cast to the schema of a table."""
    found = read_batches(database.cursor(), sql, _WRITE_BATCH_ROWS)
    return pa.RecordBatchReader.from_batches(schema, (each.cast(schema) for each in found))


def _commit_changes(lake: Lake, contract: Table, delta: DeltaTable, changes: RowChanges) -> None:
    """Write the changes in one commit."""
    schema, after, derived = contract.arrow_schema, changes.after_sql, contract.derived
    if derived:
        columns = ", ".join(f"{'d' if name in derived else 'after'}.{name} AS {name}" for name in schema.names)
        after = (
            f"SELECT {columns} FROM ({after}) AS after LEFT JOIN {_SCHEMA}.derived AS d "
            f"ON {_equal_sql(contract.key, 'd', 'after')}"
        )
    commit = lake.commit_properties([Transaction(_APP_ID, int(delta.version()) + 1)])
    if not changes.counts["updated"] and not changes.counts["deleted"]:
        # Rows are only added: no file of the table is read or rewritten.
        rows = rename_to_stored(_read_batches(changes.database, after, schema), delta)
        many: Any = BATCH_WRITER_PROPERTIES if changes.counts["inserted"] > _READ_BATCH_ROWS else None
        write_deltalake(delta, rows, mode="append", schema_mode="merge", writer_properties=many, commit_properties=commit)
        return
    stored = dict(zip(schema.names, stored_names(delta, schema.names)))
    same = " AND ".join(
        [*(f"t.{stored[name]} = s.{name}" for name in contract.key), *_key_range_predicates(contract, changes, stored)]
    )
    inserted: dict[str, Any] = {stored[name]: f"s.{name}" for name in schema.names}
    # Columns that the contract no longer has are cleared: their values belong to another version.
    inserted.update({each.name: "NULL" for each in delta.schema().fields if each.name not in inserted})
    unchanged = {stored[name] for name in derived}
    rows = _read_batches(
        changes.database,
        f"SELECT *, FALSE AS _gone FROM ({after}) AS after UNION ALL BY NAME "
        f"SELECT *, TRUE AS _gone FROM ({changes.deleted_sql}) AS gone",
        schema.append(pa.field("_gone", pa.bool_())),
    )
    (
        delta.merge(rows, predicate=same, source_alias="s", target_alias="t", commit_properties=commit)
        .when_matched_delete(predicate="s._gone")
        .when_matched_update(updates={name: value for name, value in inserted.items() if name not in unchanged})
        .when_not_matched_insert(updates=inserted, predicate="NOT s._gone")
        .execute()
    )


def _key_range_predicates(contract: Table, changes: RowChanges, stored: Mapping[str, str]) -> list[str]:
    """Return predicates for the range of the keys of all changed rows.

    Files with other keys are not read, and concurrent changes of them do not conflict. Most ids are counted up, so the range
    is narrow; pseudonyms are random, so they get no range.
    """
    first = contract.key[0]
    if first in contract.pseudonyms or contract.type_of(first) != "VARCHAR":
        return []
    changed = (
        f"SELECT {first} FROM ({changes.after_sql}) AS after UNION ALL SELECT {first} FROM ({changes.deleted_sql}) AS gone"
    )
    found = changes.database.execute(f"SELECT min({first}), max({first}) FROM ({changed}) AS changed")
    least, most = found.fetchall()[0]
    return [f"t.{stored[first]} >= {literal(least)}", f"t.{stored[first]} <= {literal(most)}"]
