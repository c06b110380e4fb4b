"""One shop for all tests of this room: six weeks up to Black Friday's weekend, generated once."""

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
    """A generated landing folder and the account of it."""

    landing: Path
    summary: Summary

    def path(self, entity: str, day: date) -> Path:
        return self.landing / entity / day.isoformat() / f"{entity}.csv"

    def read(self, entity: str, day: date) -> List[Row]:
        """Return a file's records as they landed, without the header."""
        return _parse(self.path(entity, day), entity)

    def read_sound(self, entity: str) -> List[Row]:
        """Return all days' records of an entity that are neither broken nor a second one of another's key."""
        spoiled = {(each.day, each.row) for each in self.summary.broken() if each.entity == entity}
        second = (FaultKind.DUPLICATE, FaultKind.KEY_TWICE)
        copies = {(each.day, each.row) for each in self.summary.troubles if each.entity == entity and each.kind in second}
        return [
            row
            for day in self.summary.days
            for number, row in enumerate(self.read(entity, day), start=1)
            if (day, number) not in spoiled | copies
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
