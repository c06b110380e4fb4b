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

from daybook.contracts.columns import matching_columns
from daybook.errors import StageError
from daybook.lake.rewrite import (
    StoredTable,
    list_tables,
    overwrite_rows,
    read_table,
    remove_history,
    remove_orphan_files,
    rewrite_table,
    upgrade_table,
)
from daybook.lake.table_properties import pseudonym_columns
from daybook.privacy import Keys, add_key, apply_keys, load_keys
from daybook.storage import Store

PSEUDONYM_KEYS = "control.pseudonym_keys"
"""One row: the generation that all pseudonyms of the lake are of, and what the keys up to it make of a fixed text."""
_FINGERPRINT_TEXT = "daybook"
_TRANSACTION_ID = "daybook.key"


@dataclass(frozen=True)
class RekeyResult:
    """What a rekey did: from which generation to which, the tables it rewrote, and how many old files it removed."""

    before: int
    after: int
    tables: list[str]
    files_removed: int


def require_keys(root: str, keys: Keys, env: str, *, note: bool = False) -> None:
    """Raise where the lake's pseudonyms are not all of the keys' newest generation: a customer would become two.

    With ``note`` a lake that says nothing yet is told which keys it is of.
    """
    found = _read_key_record(root)
    generation = found[0] if found else (1 if _has_pseudonyms(root) else None)
    if generation is None or (found is None and generation == len(keys)):
        if note:
            _write_key_record(root, keys)
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


def rekey(root: str, location: str, env: str) -> RekeyResult:
    """Add a key and carry every pseudonym of the lake on to it; or finish what a killed rekey has left, with no further key.

    A lake that shares its keys with another one that was given a new key is brought to that.
    """
    keys = load_keys(location)
    found = _read_key_record(root)
    before = found[0] if found else (1 if _has_pseudonyms(root) else len(keys))
    if found and (before > len(keys) or found[1] != _fingerprint(keys[:before])):
        require_keys(root, keys, env)
    if before == len(keys):
        keys = add_key(location)
    remove_orphan_files(root)
    rewritten, removed = [], 0
    for table in list_tables(root):
        if not matching_columns(table.columns, pseudonym_columns()):
            continue
        if _rekey_table(table, keys, before):
            rewritten.append(f"dev/{table.development}/{table.full_name}" if table.development else table.full_name)
        removed += remove_history(table)
    _write_key_record(root, keys)
    return RekeyResult(before, len(keys), rewritten, removed)


def _rekey_table(table: StoredTable, keys: Keys, before: int) -> bool:
    """Bring one table to the newest generation in one commit, which says so; False where that has been done."""
    upgrade_table(table)
    columns = matching_columns(table.columns, pseudonym_columns())
    since = max(before, _read_generation(table.open()))

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in columns:
            position = batch.schema.get_field_index(name)
            values = [None if text is None else apply_keys(keys, text, since) for text in batch.column(position).to_pylist()]
            batch = batch.set_column(
                position, batch.schema.field(position), pa.array(values, batch.schema.field(position).type)
            )
        return batch

    return rewrite_table(
        table,
        change,
        by="rekey",
        done=lambda delta: _read_generation(delta) >= len(keys),
        transaction=Transaction(_TRANSACTION_ID, len(keys)),
    )


def _read_generation(delta: DeltaTable) -> int:
    """The generation that the last rekey of a table has brought it to; 0 where none has. A younger table is the lake's."""
    return int(delta.transaction_version(_TRANSACTION_ID) or 0)


def _read_key_record(root: str) -> Optional[tuple[int, str]]:
    rows = read_table(_key_record_uri(root))
    if rows is None or not rows.num_rows:
        return None
    row = rows.to_pylist()[0]
    return int(row["generation"]), str(row["fingerprint"])


def _write_key_record(root: str, keys: Keys) -> None:
    row = pa.table({"generation": pa.array([len(keys)], pa.int64()), "fingerprint": pa.array([_fingerprint(keys)])})
    overwrite_rows(_key_record_uri(root), row, by="rekey", table=PSEUDONYM_KEYS)


def _fingerprint(keys: Keys) -> str:
    return apply_keys(keys, _FINGERPRINT_TEXT, 0)


def _has_pseudonyms(root: str) -> bool:
    store = Store(root)
    return any("_delta_log" in store.list_folders(place) for place in ("silver/orders", "silver/customers", "control/erased"))


def _key_record_uri(root: str) -> str:
    return f"{root.rstrip('/')}/{PSEUDONYM_KEYS.replace('.', '/')}"
