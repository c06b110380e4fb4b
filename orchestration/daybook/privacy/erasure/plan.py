"""The plan of an erasure: what a first try has found out, so that a later one needs no value of the person to finish it.

Once the first try has blanked bronze, nobody can tell the person's values any more. So the addresses of their rows are noted
before, and the files that hold something of them, by name and SHA-256; no value is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from daybook.lake.rewrite import StoredTable, append_rows, overwrite_rows, read_table, remove_history
from daybook.privacy.erasure.subjects import PSEUDONYM_COLUMN, RowAddress, table_uri

ERASURE_PLAN = "control.erasure_plan"
"""The rows of persons whose erasure has begun and not ended, by address, and the files that held the person."""
_BY = "erasure"
_SCHEMA = pa.schema(
    [
        (PSEUDONYM_COLUMN, pa.string()),
        ("salt", pa.string()),
        ("development", pa.string()),
        ("entity", pa.string()),
        ("row_date", pa.date32()),
        ("file", pa.string()),
        ("number", pa.int64()),
        ("layer", pa.string()),
        ("held_by", pa.string()),
        ("sha256", pa.string()),
        ("why", pa.string()),
        ("told", pa.string()),
    ]
)
PlanRow = dict[str, Any]
"""An address, a file (``held_by``), or nothing but whose erasure it is, why, and ``told``: what its record will say (JSON)."""


def read_plan(root: str, gone: Collection[str]) -> list[PlanRow]:
    """The plan's rows for these pseudonyms."""
    return [row for row in _read_all(root) if row[PSEUDONYM_COLUMN] in gone]


def list_unfinished(root: str) -> set[str]:
    """The pseudonyms of those whose erasure has begun and not ended."""
    return {row[PSEUDONYM_COLUMN] for row in _read_all(root)}


def parse_address(row: PlanRow) -> RowAddress:
    """The address that a row of the plan holds."""
    return RowAddress(row["entity"], row["row_date"], row["file"], row["number"], row.get("layer") or "bronze")


def write_plan(
    root: str,
    salt: str,
    gone: Collection[str],
    addresses: Mapping[str, Mapping[RowAddress, str]],
    files: Mapping[str, str],
    why: str,
    told: str,
) -> None:
    """Write the plan, in one commit: addresses by development copy, each with whose it is, and files with their SHA-256."""
    rows: list[PlanRow] = [
        {
            PSEUDONYM_COLUMN: person,
            "salt": salt,
            "development": user,
            "entity": each.entity,
            "row_date": each.run_date,
            "file": each.file,
            "number": each.number,
            "layer": each.layer,
        }
        for user, found in addresses.items()
        for each, person in found.items()
    ]
    rows += [{PSEUDONYM_COLUMN: person, "salt": salt, "development": "", "why": why, "told": told} for person in sorted(gone)]
    _append_rows(root, rows + _build_file_rows(salt, gone, files))


def add_plan_files(root: str, salt: str, gone: Collection[str], files: Mapping[str, str]) -> None:
    """Note files that a try has found the person in and could not change."""
    if files:
        _append_rows(root, _build_file_rows(salt, gone, files))


def remove_from_plan(root: str, gone: Collection[str]) -> None:
    """Take these persons out of the plan, and out of its past."""
    rows = _read_all(root)
    if not rows:
        return
    rest = [row for row in rows if row[PSEUDONYM_COLUMN] not in gone]
    uri = table_uri(root, ERASURE_PLAN)
    overwrite_rows(uri, pa.Table.from_pylist(rest, _SCHEMA), by=_BY, table=ERASURE_PLAN)
    layer, name = ERASURE_PLAN.split(".")
    remove_history(StoredTable(uri, layer, name))


def _build_file_rows(salt: str, gone: Collection[str], files: Mapping[str, str]) -> list[PlanRow]:
    # Of every one of them: whoever finishes the erasure of one must not lose sight of the file.
    return [
        {PSEUDONYM_COLUMN: person, "salt": salt, "development": "", "held_by": file, "sha256": digest}
        for person in sorted(gone)
        for file, digest in sorted(files.items())
    ]


def _append_rows(root: str, rows: list[PlanRow]) -> None:
    append_rows(table_uri(root, ERASURE_PLAN), pa.Table.from_pylist(rows, _SCHEMA), by=_BY, table=ERASURE_PLAN)


def _read_all(root: str) -> list[PlanRow]:
    rows = read_table(table_uri(root, ERASURE_PLAN))
    return [] if rows is None else list(rows.to_pylist())
