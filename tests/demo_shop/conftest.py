"""Provide one generated shop of six weeks up to the weekend of Black Friday."""

from __future__ import annotations

import csv
from datetime import date
from functools import cache
from pathlib import Path
from typing import List, NamedTuple

import pytest

from demo_shop import COLUMNS, FaultKind, Summary, generate
from demo_shop.export import Row


class Shop(NamedTuple):
    """A generated landing folder and its summary."""

    landing: Path
    summary: Summary

    def path(self, entity: str, day: date) -> Path:
        return self.landing / entity / day.isoformat() / f"{entity}.csv"

    def read(self, entity: str, day: date) -> List[Row]:
        """Return the rows of a file without the header."""
        return _parse(self.path(entity, day), entity)

    def read_valid(self, entity: str) -> List[Row]:
        """Return the rows of all days of an entity that are neither broken nor duplicates of a key."""
        broken = {(each.day, each.row) for each in self.summary.broken() if each.entity == entity}
        copied = (FaultKind.DUPLICATE, FaultKind.KEY_TWICE)
        copies = {(each.day, each.row) for each in self.summary.faults if each.entity == entity and each.kind in copied}
        return [
            row
            for day in self.summary.days
            for number, row in enumerate(self.read(entity, day), start=1)
            if (day, number) not in broken | copies
        ]


@cache
def _parse(path: Path, entity: str) -> List[Row]:
    with path.open(encoding="cp1252" if entity == "sellers" else "utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS[entity]
    return rows


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    landing = tmp_path_factory.mktemp("demo") / "landing"
    return Shop(landing, generate(landing, days=42))
