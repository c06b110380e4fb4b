"""Add a key, convert every stored pseudonym to it, and remove the old pseudonyms.

The table ``control.pseudonym_keys`` holds the lake's generation and a fingerprint of the keys, and is updated last. Each table
records its generation in the commit that rewrites it. So the next rekey finishes a killed one, and converts no table twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import pyarrow as pa
from deltalake import DeltaTable, Transaction

from daybook.contracts import load_tables
from daybook.contracts.columns import matching_columns
from daybook.errors import StageError
from daybook.lake.rewrite import (
    StoredTable,
    list_tables,
    read_table,
    remove_history,
    remove_orphan_files,
    rewrite_table,
    upgrade_table,
    write_rows,
)
from daybook.lake.table_properties import pseudonym_columns
from daybook.privacy import Keys, add_key, apply_keys, load_keys
from daybook.storage import Store

PSEUDONYM_KEYS = "control.pseudonym_keys"
"""One row: the generation of all pseudonyms of the lake, and the pseudonym of a fixed text under its keys."""
_FINGERPRINT_TEXT = "daybook"
_TRANSACTION_ID = "daybook.key"


@dataclass(frozen=True)
class RekeyResult:
    """The old and the new generation, the rewritten tables and the number of removed old files."""

    old_generation: int
    new_generation: int
    tables: list[str]
    files_removed: int


def require_keys(root: str, keys: Keys, env: str, *, note: bool = False) -> None:
    """Raise ``StageError`` unless all pseudonyms of the lake are of the newest generation, so that no customer gets two keys.

    Parameters
    ----------
    root
        Root URI of the lake.
    keys
        The deployment's keys.
    env
        Name of the deployment, for messages.
    note
        Whether to record the keys in a lake without a record.
    """
    found = _read_key_record(root)
    generation = found[0] if found else (1 if _has_pseudonyms(root) else None)
    if generation is None or (found is None and generation == len(keys)):
        if note:
            _write_key_record(root, keys)
        return
    if generation < len(keys) and (found is None or found[1] == _fingerprint(keys[:generation])):
        raise StageError(
            f"The key of pseudonyms has generation {len(keys)} and the tables have generation {generation}; "
            f"convert them with `daybook rekey --env {env}`."
        )
    if found and found != (len(keys), _fingerprint(keys)):
        raise StageError(
            f"The pseudonyms in {root} were made with another key than the one in params/{env}.yaml; restore the key of this "
            "lake with all its generations."
        )


def rekey(root: str, location: str, env: str) -> RekeyResult:
    """Add a key and convert every pseudonym of the lake to it, or finish a killed rekey without another key.

    A lake that shares its keys with another lake is converted to the key that the rekey of the other lake added.
    """
    keys = load_keys(location)
    found = _read_key_record(root)
    old_generation = found[0] if found else (1 if _has_pseudonyms(root) else len(keys))
    if found and (old_generation > len(keys) or found[1] != _fingerprint(keys[:old_generation])):
        require_keys(root, keys, env)
    if old_generation == len(keys):
        keys = add_key(location)
    remove_orphan_files(root)
    rewritten, removed = [], 0
    for table in list_tables(root):
        if not matching_columns(table.columns, pseudonym_columns()):
            continue
        if _rekey_table(table, keys, old_generation):
            rewritten.append(table.display_name)
        removed += remove_history(table)
    _write_key_record(root, keys)
    return RekeyResult(old_generation, len(keys), rewritten, removed)


def _rekey_table(table: StoredTable, keys: Keys, old_generation: int) -> bool:
    """Convert one table to the newest generation in one commit, which records the generation; False if it was converted."""
    upgrade_table(table)
    columns = matching_columns(table.columns, pseudonym_columns())
    since = max(old_generation, _read_generation(table.open()))

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in columns:
            field = batch.schema.field(name)
            values = [None if text is None else apply_keys(keys, text, since) for text in batch.column(name).to_pylist()]
            batch = batch.set_column(batch.schema.get_field_index(name), field, pa.array(values, field.type))
        return batch

    return rewrite_table(
        table,
        change,
        by="rekey",
        done=lambda delta: _read_generation(delta) >= len(keys),
        transaction=Transaction(_TRANSACTION_ID, len(keys)),
    )


def _read_generation(delta: DeltaTable) -> int:
    """Return the generation that a rekey recorded in a table; 0 without a rekey, when the lake's generation applies."""
    return int(delta.transaction_version(_TRANSACTION_ID) or 0)


def _read_key_record(root: str) -> Optional[tuple[int, str]]:
    rows = read_table(_key_record_uri(root))
    if rows is None or not rows.num_rows:
        return None
    row = rows.to_pylist()[0]
    return int(row["generation"]), str(row["fingerprint"])


def _write_key_record(root: str, keys: Keys) -> None:
    row = pa.table({"generation": pa.array([len(keys)], pa.int64()), "fingerprint": pa.array([_fingerprint(keys)])})
    write_rows(_key_record_uri(root), row, mode="overwrite", by="rekey", table=PSEUDONYM_KEYS)


def _fingerprint(keys: Keys) -> str:
    return apply_keys(keys, _FINGERPRINT_TEXT, 0)


def _has_pseudonyms(root: str) -> bool:
    store = Store(root)
    tables = [table.full_name.replace(".", "/") for table in load_tables("silver").values() if table.pseudonyms]
    return any("_delta_log" in store.list_folders(place) for place in (*tables, "control/erased"))


def _key_record_uri(root: str) -> str:
    return f"{root.rstrip('/')}/{PSEUDONYM_KEYS.replace('.', '/')}"
