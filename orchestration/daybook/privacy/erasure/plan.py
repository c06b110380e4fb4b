"""Store the plan of an erasure, with which a later try can finish it.

After the first try has masked bronze, the person's values are no longer known. So the plan holds the addresses of the person's
rows, and the names and SHA-256 of files with values of the person, but no values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from daybook.contracts.canonical import subject_column
from daybook.lake.rewrite import StoredTable, read_table, remove_history, write_rows
from daybook.privacy.erasure.subjects import RowAddress, table_uri

ERASURE_PLAN = "control.erasure_plan"
"""Addresses of rows and names of files of the persons whose erasure is unfinished."""
_BY = "erasure"
_COLUMNS = {
    "salt": pa.string(),
    "development": pa.string(),
    "entity": pa.string(),
    "row_date": pa.date32(),
    "file": pa.string(),
    "number": pa.int64(),
    "layer": pa.string(),
    "held_by": pa.string(),
    "sha256": pa.string(),
    "why": pa.string(),
    "told": pa.string(),
}
"""The columns of the plan besides the pseudonym."""
PlanRow = dict[str, Any]
"""An address, a file (``held_by``), or the reason of an erasure and ``told``, the counts for its record (JSON)."""


def _plan_schema() -> pa.Schema:
    return pa.schema({subject_column(): pa.string(), **_COLUMNS})


def read_plan(root: str, pseudonyms: Collection[str]) -> list[PlanRow]:
    """Return the plan's rows for some pseudonyms."""
    subject = subject_column()
    return [row for row in _read_all(root) if row[subject] in pseudonyms]


def list_unfinished(root: str) -> set[str]:
    """Return the pseudonyms of persons whose erasure is unfinished."""
    subject = subject_column()
    return {row[subject] for row in _read_all(root)}


def parse_address(row: PlanRow) -> RowAddress:
    """Return the address in a row of the plan."""
    return RowAddress(row["entity"], row["row_date"], row["file"], row["number"], row.get("layer") or "bronze")


def write_plan(
    root: str,
    salt: str,
    pseudonyms: Collection[str],
    addresses: Mapping[str, Mapping[RowAddress, str]],
    files: Mapping[str, str],
    why: str,
    counts: str,
) -> None:
    """Write the plan in one commit.

    Parameters
    ----------
    root
        Root URI of the lake.
    salt
        Salt of the marks that replace ids.
    pseudonyms
        Pseudonyms of the persons.
    addresses
        Addresses of rows with the pseudonym of their person, by development copy.
    files
        SHA-256 of files with values of the persons, by name.
    why
        The reason, without personal data.
    counts
        Counts for the record, as JSON.
    """
    subject = subject_column()
    rows: list[PlanRow] = [
        {
            subject: person,
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
    reason = {"salt": salt, "development": "", "why": why, "told": counts}
    rows += [{subject: person, **reason} for person in sorted(pseudonyms)]
    _append_rows(root, rows + _build_file_rows(salt, pseudonyms, files))


def add_plan_files(root: str, salt: str, pseudonyms: Collection[str], files: Mapping[str, str]) -> None:
    """Add files in which a try has found the person."""
    if files:
        _append_rows(root, _build_file_rows(salt, pseudonyms, files))


def remove_from_plan(root: str, pseudonyms: Collection[str]) -> None:
    """Remove persons from the plan and from its old versions."""
    rows = _read_all(root)
    if not rows:
        return
    subject = subject_column()
    others = [row for row in rows if row[subject] not in pseudonyms]
    uri = table_uri(root, ERASURE_PLAN)
    write_rows(uri, pa.Table.from_pylist(others, _plan_schema()), mode="overwrite", by=_BY, table=ERASURE_PLAN)
    layer, name = ERASURE_PLAN.split(".")
    remove_history(StoredTable(uri, layer, name))


def _build_file_rows(salt: str, pseudonyms: Collection[str], files: Mapping[str, str]) -> list[PlanRow]:
    # One row for each person, so that finishing the erasure of one keeps the file for the others.
    subject = subject_column()
    return [
        {subject: person, "salt": salt, "development": "", "held_by": file, "sha256": digest}
        for person in sorted(pseudonyms)
        for file, digest in sorted(files.items())
    ]


def _append_rows(root: str, rows: list[PlanRow]) -> None:
    write_rows(
        table_uri(root, ERASURE_PLAN), pa.Table.from_pylist(rows, _plan_schema()), mode="append", by=_BY, table=ERASURE_PLAN
    )


def _read_all(root: str) -> list[PlanRow]:
    rows = read_table(table_uri(root, ERASURE_PLAN))
    return [] if rows is None else list(rows.to_pylist())
