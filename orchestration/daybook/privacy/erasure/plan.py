"""Store the plan of an erasure, with which a later try can finish it.

After the first try has masked bronze, the person's values are no longer known. So the plan holds the addresses of the person's
rows, and the names and SHA-256 of files with values of the person, but no values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Literal, Optional

import pyarrow as pa

from daybook.contracts.canonical import subject_column
from daybook.lake.rewrite import StoredTable, read_table, remove_history, write_rows
from daybook.privacy.erasure.subjects import RowAddress, table_uri

ERASURE_WRITER = "erasure"
"""Name of the writer in the commits of an erasure."""
ERASURE_PLAN = "control.erasure_plan"
"""Addresses of rows and names of files of the persons whose erasure is unfinished."""
_TEXTS = ("salt", "development", "entity", "file", "layer", "held_by", "sha256", "why", "told")
"""The columns of text of the plan besides the pseudonym."""
PlanRow = dict[str, Any]
"""An address, a file (``held_by``), or the reason of an erasure and ``told``, the counts for its record (JSON)."""


def read_plan(root: str, pseudonyms: Optional[Collection[str]] = None) -> list[PlanRow]:
    """Return the plan's rows for some pseudonyms, or all rows."""
    rows, subject = read_table(table_uri(root, ERASURE_PLAN)), subject_column()
    found: list[PlanRow] = [] if rows is None else rows.to_pylist()
    return [row for row in found if pseudonyms is None or row[subject] in pseudonyms]


def list_unfinished(root: str) -> set[str]:
    """Return the pseudonyms of persons whose erasure is unfinished."""
    subject = subject_column()
    return {row[subject] for row in read_plan(root)}


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
        {subject: person, "salt": salt, "development": user, "row_date": each.run_date, **asdict(each)}
        for user, found in addresses.items()
        for each, person in found.items()
    ]
    rows += [{subject: person, "salt": salt, "why": why, "told": counts} for person in sorted(pseudonyms)]
    _write_rows(root, rows + _build_file_rows(salt, pseudonyms, files), "append")


def add_plan_files(root: str, salt: str, pseudonyms: Collection[str], files: Mapping[str, str]) -> None:
    """Add files in which a try has found the person."""
    if files:
        _write_rows(root, _build_file_rows(salt, pseudonyms, files), "append")


def remove_from_plan(root: str, pseudonyms: Collection[str]) -> None:
    """Remove persons from the plan and from its old versions."""
    rows, subject = read_plan(root), subject_column()
    if rows:
        _write_rows(root, [row for row in rows if row[subject] not in pseudonyms], "overwrite")
        remove_history(StoredTable(table_uri(root, ERASURE_PLAN), *ERASURE_PLAN.split(".")))


def _build_file_rows(salt: str, pseudonyms: Collection[str], files: Mapping[str, str]) -> list[PlanRow]:
    # One row for each person, so that finishing the erasure of one keeps the file for the others.
    subject = subject_column()
    return [
        {subject: person, "salt": salt, "held_by": file, "sha256": digest}
        for person in sorted(pseudonyms)
        for file, digest in sorted(files.items())
    ]


def _write_rows(root: str, rows: list[PlanRow], mode: Literal["append", "overwrite"]) -> None:
    texts = dict.fromkeys((subject_column(), *_TEXTS), pa.string())
    schema = pa.schema({**texts, "row_date": pa.date32(), "number": pa.int64()})
    table = pa.Table.from_pylist(rows, schema)
    write_rows(table_uri(root, ERASURE_PLAN), table, mode=mode, by=ERASURE_WRITER, table=ERASURE_PLAN)
