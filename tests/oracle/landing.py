"""Read a date's files: every record as text, with file and row number."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class RowAddress(NamedTuple):
    """The file of a row under landing, and the row's number from 1."""

    file: str
    number: int


@dataclass
class Row:
    """A landed row: ``values`` are typed, ``misfits`` are the columns with texts that do not fit their type."""

    address: RowAddress
    texts: dict[str, str]
    splits: bool
    values: dict[str, Any] = field(default_factory=dict)
    misfits: set[str] = field(default_factory=set)


def read_entity(landing: Path, source: dict[str, Any], entity: str, day: str) -> tuple[list[Row], list[Row]]:
    """Return the distinct rows of an entity, and the further copies of them."""
    settings = source["entities"][entity]
    key = settings["files"].replace("{run_date}", day)
    if not (landing / key).exists() and settings.get("missing") == "empty":
        return [], []
    encoding = settings.get("encoding", source["encoding"])
    with (landing / key).open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as file:
        header, *records = [record for record in csv.reader(file) if record]
    distinct, copies, seen = [], [], set()
    for number, record in enumerate(records, start=1):
        row = Row(RowAddress(key, number), dict(zip(header, record)), len(record) == len(header))
        (copies if tuple(record) in seen else distinct).append(row)
        seen.add(tuple(record))
    return distinct, copies
