"""A new key for pseudonyms: every stored pseudonym is carried on to it, and the old ones are removed for good.

A lake notes its generation in ``control.pseudonym_keys``, with a fingerprint of the keys. The note moves on last; each table
says in the very commit that rewrote it which generation it is of. So a rekey that was killed is finished by the next, and no
table is carried on twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import pyarrow as pa
from deltalake import DeltaTable, Transaction

from daybook.contracts.columns import columns_among
from daybook.errors import StageError
from daybook.lake.rewrite import (
    StoredTable,
    bring_up_to_date,
    forget_history,
    overwrite,
    read,
    remove_leftovers,
    rewrite,
    stored_tables,
)
from daybook.lake.table_properties import pseudonym_columns
from daybook.privacy import Keys, add_key, carried, load_keys
from daybook.storage import Store

PSEUDONYM_KEYS = "control.pseudonym_keys"
"""One row: the generation that all pseudonyms of the lake are of, and what the keys up to it make of a fixed text."""
_PROBE = "daybook"
_APP_ID = "daybook.key"


@dataclass(frozen=True)
class Rekeyed:
    """What a rekey did: from which generation to which, the tables it rewrote, and how many old files it removed."""

    before: int
    after: int
    tables: list[str]
    files_removed: int


def require_keys(root: str, keys: Keys, env: str, *, note: bool = False) -> None:
    """Raise where the lake's pseudonyms are not all of the keys' newest generation: a customer would become two.

    With ``note`` a lake that says nothing yet is told which keys it is of.
    """
    found = _noted(root)
    generation = found[0] if found else (1 if _has_pseudonyms(root) else None)
    if generation is None or (found is None and generation == len(keys)):
        if note:
            _note(root, keys)
        return
    if generation < len(keys) and (found is None or found[1] == _fingerprint(keys[:generation])):
        raise StageError(
            f"The key of pseudonyms is of generation {len(keys)} and the tables are of generation {generation}; "
            f"bring them to it with `daybook rekey --env {env}`."
        )
    if found and found != (len(keys), _fingerprint(keys)):
        raise StageError(
            f"The pseudonyms in {root} were made with another key than params/{env}.yaml names; restore the key that belongs "
            "to this lake, with all its generations."
        )


def rekey(root: str, location: str, env: str) -> Rekeyed:
    """Add a key and carry every pseudonym of the lake on to it; or finish what a killed rekey has left, with no further key.

    A lake that shares its keys with another one that was given a new key is brought to that.
    """
    keys = load_keys(location)
    found = _noted(root)
    before = found[0] if found else (1 if _has_pseudonyms(root) else len(keys))
    if found and (before > len(keys) or found[1] != _fingerprint(keys[:before])):
        require_keys(root, keys, env)
    if before == len(keys):
        keys = add_key(location)
    remove_leftovers(root)
    rewritten, removed = [], 0
    for table in stored_tables(root):
        if not columns_among(table.columns, pseudonym_columns()):
            continue
        if _carry_on(table, keys, before):
            rewritten.append(f"dev/{table.development}/{table.full_name}" if table.development else table.full_name)
        removed += forget_history(table)
    _note(root, keys)
    return Rekeyed(before, len(keys), rewritten, removed)


def _carry_on(table: StoredTable, keys: Keys, before: int) -> bool:
    """Bring one table to the newest generation in one commit, which says so; False where that has been done."""
    bring_up_to_date(table)
    columns = columns_among(table.columns, pseudonym_columns())
    since = max(before, _generation(table.open()))

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in columns:
            position = batch.schema.get_field_index(name)
            values = [None if text is None else carried(keys, text, since) for text in batch.column(position).to_pylist()]
            batch = batch.set_column(
                position, batch.schema.field(position), pa.array(values, batch.schema.field(position).type)
            )
        return batch

    return rewrite(
        table,
        change,
        by="rekey",
        done=lambda delta: _generation(delta) >= len(keys),
        transaction=Transaction(_APP_ID, len(keys)),
    )


def _generation(delta: DeltaTable) -> int:
    """The generation that the last rekey of a table has brought it to; 0 where none has. A younger table is the lake's."""
    return int(delta.transaction_version(_APP_ID) or 0)


def _noted(root: str) -> Optional[tuple[int, str]]:
    rows = read(_uri(root))
    if rows is None or not rows.num_rows:
        return None
    row = rows.to_pylist()[0]
    return int(row["generation"]), str(row["fingerprint"])


def _note(root: str, keys: Keys) -> None:
    row = pa.table({"generation": pa.array([len(keys)], pa.int64()), "fingerprint": pa.array([_fingerprint(keys)])})
    overwrite(_uri(root), row, by="rekey", table=PSEUDONYM_KEYS)


def _fingerprint(keys: Keys) -> str:
    return carried(keys, _PROBE, 0)


def _has_pseudonyms(root: str) -> bool:
    store = Store(root)
    return any("_delta_log" in store.folders(place) for place in ("silver/orders", "silver/customers", "control/erased"))


def _uri(root: str) -> str:
    return f"{root.rstrip('/')}/{PSEUDONYM_KEYS.replace('.', '/')}"
