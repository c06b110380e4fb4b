"""Test that two equal lines of one order in a flat file are two lines."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.faults.lines_support import FAULTS, Shop, open_shop

DAY = "2025-05-11"


@pytest.fixture
def shop(project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop("flat", project, home, monkeypatch) as opened:
        opened.land_files(DAY, FAULTS / "identical_lines" / "orders.csv")
        yield opened


def test_two_equal_lines_of_an_order_both_count(shop: Shop) -> None:
    assert shop.run(DAY) == "SUCCEEDED"
    assert shop.gross() == Decimal("649.90")
    assert shop.lines() == [("S1", 1, "Wax", 1), ("S1", 2, "Wax", 1), ("S1", 3, "Board", 1)]


def test_equal_lines_count_once_if_the_source_drops_them(shop: Shop, project: Project) -> None:
    project.replace("params/sources/flat.yaml", "  export:\n", "  export:\n    duplicates: drop\n")
    assert shop.run(DAY) == "SUCCEEDED"
    assert shop.gross() == Decimal("624.95")
