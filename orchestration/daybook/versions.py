"""Which version of a row is the newest: what every date brought is kept, and silver holds the newest row of each key.

Here: keeping a date's rows in ``versions.<table>``, and merging them into the table by key, so that dates compose in any
order, repeated and in parallel. Not here: storing and commits (``daybook.lake``), what rows mean (notebooks).

A version is ``(version_at, landed_on)``. Most keys need no more than a look at the row the table has. Those of which a date
now says less than it said before need all versions: what it once superseded comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from daybook.contracts import Table
from daybook.delta import dataset_of, with_columns
from daybook.lake import PARTITION, Lake

DERIVED = "first_order_date"
"""Not a landing's to say: ``Lake.update_column`` sets it."""
_WITHDRAWN = "withdrawn"
"""Whether the date has said something newer of this key before. It stays so: whoever comes after a crash looks again."""


@dataclass(frozen=True)
class Changes:
    """What a merge changes: rows as the table has them (of what is replaced or goes), and as it will have them."""

    before: pa.Table
    after: pa.Table
    gone: pa.Table

    @property
    def counts(self) -> dict[str, int]:
        """Rows inserted, updated and deleted."""
        updated = self.before.num_rows - self.gone.num_rows
        return {"inserted": self.after.num_rows - updated, "updated": updated, "deleted": self.gone.num_rows}


def merge(
    lake: Lake,
    contract: Table,
    rows: pa.Table,
    *,
    landed_on: date,
    before: Optional[Callable[[Changes], None]] = None,
) -> dict[str, int]:
    """Make ``rows`` all that a date says, and the newest version of every row what the table holds; returns the counts.

    ``before`` is told what will change before each try to commit it, against the very rows that the commit replaces: two
    merges of a table are never made at once, the second begins anew.
    """
    lake.ensure(contract)
    rows = rows.select([name for name in contract.columns if name != DERIVED])
    withdrawn = _keep(lake, contract, rows, landed_on)
    sure = rows.take(_pairs(rows, withdrawn, contract.key, "left anti")["_left"])
    counts = {"inserted": 0, "updated": 0, "deleted": 0}

    def run(delta: DeltaTable) -> tuple[Optional[int], Changes]:
        # In this order: what a date keeps before the look at the table is seen, and who keeps later merges later.
        held = _of_keys(dataset_of(delta), rows.schema, pa.concat_tables([rows.select(contract.key), withdrawn]))
        seen, restored = _newest(lake, contract, rows.schema, withdrawn)
        wanted = pa.concat_tables([sure, restored])
        changes = _changes(contract.key, wanted, held, landed_on, withdrawn)
        if changes.after.num_rows or changes.gone.num_rows:
            if before is not None:
                before(changes)
            _write(lake, contract, delta, changes)
        return seen, changes

    while True:
        seen, changes = lake.commit(contract.full_name, run)
        counts = {name: counts[name] + count for name, count in changes.counts.items()}
        # A date that kept its rows after the look at all versions may have merged before the commit: look again.
        if not withdrawn.num_rows or lake.version(_versions(contract)) == seen:
            return counts


def _versions(contract: Table) -> str:
    return f"versions.{contract.name}"


def _keep(lake: Lake, contract: Table, rows: pa.Table, landed_on: date) -> pa.Table:
    """Make ``rows`` the versions that the date brought; returns the keys of which it has said something newer before."""
    stored = lake.dataset(_versions(contract))
    schema = rows.schema.append(pa.field(_WITHDRAWN, pa.bool_()))
    prior = schema.empty_table()
    if stored is not None:
        # Kept under an earlier contract, rows have no value for a column that came later.
        stored = with_columns(stored, schema.append(pa.field(PARTITION, pa.date32())))
        prior = stored.to_table(columns=schema.names, filter=ds.field(PARTITION) == landed_on).cast(schema)
    pairs = _pairs(rows, prior, contract.key, "full outer")
    now, then = rows.take(pairs["_left"]), prior.take(pairs["_right"])
    less = pc.or_(pairs["_left"].is_null(), pc.fill_null(pc.greater(then["version_at"], now["version_at"]), False))
    less = pc.fill_null(pc.or_(then[_WITHDRAWN].fill_null(False), less), False)
    keys = pa.table({name: pc.coalesce(now[name], then[name]) for name in contract.key})
    kept = now.select([name for name in now.column_names if name not in contract.key])
    for name in reversed(contract.key):
        kept = kept.add_column(0, name, keys[name])
    kept = kept.select(rows.column_names).append_column(_WITHDRAWN, less)
    lake.replace_partition(_versions(contract), kept.cast(schema), landed_on)
    return keys.filter(less).cast(rows.select(contract.key).schema)


def _newest(lake: Lake, contract: Table, schema: pa.Schema, keys: pa.Table) -> tuple[Optional[int], pa.Table]:
    """The newest version of each of these keys, of all that any date brought, and the version of the table that said so."""
    stored = lake.dataset(_versions(contract)) if keys.num_rows else None
    if stored is None:
        return None, schema.empty_table()
    seen = lake.tables_read[_versions(contract)]
    found = _of_keys(with_columns(stored, schema).filter(ds.field("version_at").is_valid()), schema, keys)
    found = found.sort_by([("version_at", "ascending"), ("landed_on", "ascending")])
    numbered = found.select(contract.key).append_column("_at", _numbers(found))
    last = numbered.group_by(contract.key).aggregate([("_at", "max")])["_at_max"]
    return seen, found.take(last)


def _of_keys(rows: ds.Dataset, schema: pa.Schema, keys: pa.Table) -> pa.Table:
    """The rows with one of the keys."""
    first = keys.column_names[0]
    # The first column alone leaves whole files unread; the others are compared after.
    found = rows.to_table(columns=schema.names, filter=ds.field(first).isin(keys[first].unique())).cast(schema)
    return found.take(_pairs(found, keys, keys.column_names, "left semi")["_left"])


def _changes(key: list[str], wanted: pa.Table, held: pa.Table, landed_on: date, withdrawn: pa.Table) -> Changes:
    settled = held.select(key).append_column("_settled", pa.array([False] * held.num_rows, pa.bool_()))
    positions = _pairs(held, withdrawn, key, "left semi")["_left"]
    settled = settled.set_column(len(key), "_settled", pc.is_in(_numbers(held), value_set=positions.combine_chunks()))
    pairs = _pairs(wanted, held, key, "full outer")
    new, old = wanted.take(pairs["_left"]), held.take(pairs["_right"])
    appears, goes = pairs["_right"].is_null(), pairs["_left"].is_null()
    newer = pc.or_(
        pc.greater(new["version_at"], old["version_at"]),
        pc.and_(pc.equal(new["version_at"], old["version_at"]), pc.greater(new["landed_on"], old["landed_on"])),
    )
    # What the same date said before is superseded by what it says now; of withdrawn keys the newest of all is at hand.
    wins = pc.or_(pc.or_(newer, pc.equal(old["landed_on"], pa.scalar(landed_on))), settled["_settled"].take(pairs["_right"]))
    differs = pa.chunked_array([pa.array([False] * pairs.num_rows, pa.bool_())])
    for name in wanted.column_names:
        unequal = pc.fill_null(pc.not_equal(new[name], old[name]), False)
        differs = pc.or_(differs, pc.or_(unequal, pc.xor(new[name].is_null(), old[name].is_null())))
    replaces = pc.and_(pc.and_(pc.invert(pc.or_(appears, goes)), pc.fill_null(wins, False)), differs)
    return Changes(
        before=old.filter(pc.or_(replaces, goes)),
        after=new.filter(pc.or_(replaces, appears)),
        gone=old.filter(goes),
    )


def _write(lake: Lake, contract: Table, delta: DeltaTable, changes: Changes) -> None:
    """The changes as one commit."""
    rows = pa.concat_tables(
        [
            part.append_column("_gone", pa.array([gone] * part.num_rows, pa.bool_()))
            for part, gone in ((changes.after, False), (changes.gone, True))
        ]
    )
    same = " AND ".join(f"t.{name} = s.{name}" for name in contract.key)
    values: dict[str, Any] = {name: f"s.{name}" for name in changes.after.column_names}
    # What a contract no longer has is not kept beside values of another version.
    values.update({each.name: "NULL" for each in delta.schema().fields if each.name not in contract.columns})
    (
        delta.merge(rows, predicate=same, source_alias="s", target_alias="t", commit_properties=lake.signed())
        .when_matched_delete(predicate="s._gone")
        .when_matched_update(updates=values)
        .when_not_matched_insert(updates=values, predicate="NOT s._gone")
        .execute()
    )


def _pairs(left: pa.Table, right: pa.Table, key: list[str], how: str) -> pa.Table:
    """The row numbers (``_left``, ``_right``) of rows with equal keys, by the kind of join."""
    mine = left.select(key).append_column("_left", _numbers(left))
    others = right.select(key).append_column("_right", _numbers(right))
    return mine.join(others, keys=key, join_type=how)


def _numbers(rows: pa.Table) -> pa.Array:
    return pa.array(range(rows.num_rows), pa.int64())
