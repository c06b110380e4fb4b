"""Provide a shop with one flat file, run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from tests.conftest import Project
from tests.sessions import Session, new_session

FAULTS = Path(__file__).parent
HEADER = "order,at,status,product,qty,price"


@dataclass
class Shop:
    """A deployment ``name`` whose landing and lake are in ``home``."""

    name: str
    home: Path
    session: Session

    def land(self, day: str, name: str, *rows: str, header: str = HEADER) -> None:
        """Write a landing file of a date."""
        folder = self.home / "landing" / day
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join([header, *rows, ""]), encoding="utf-8")

    def land_files(self, day: str, *files: Path) -> None:
        """Copy landing files of a date."""
        (self.home / "landing" / day).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, self.home / "landing" / day)

    def run(self, day: str, number: int = 1) -> str:
        """Run a date; return its outcome."""
        return self.session.run_day(day, number, {}, env=self.name)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the tables."""
        return DuckDBEngine(Lake(str(self.home / "lake")), "Europe/Berlin").rows(sql)

    def gross(self) -> Decimal:
        """Return the gross revenue of all dates."""
        (total,) = self.rows("SELECT coalesce(sum(gross_revenue), 0) FROM gold.daily_sales")
        return Decimal(total[0])

    def lines(self) -> list[tuple[Any, ...]]:
        """Return order, number, product and quantity of every line."""
        return self.rows("SELECT order_id, line_number, product_id, quantity FROM silver.order_items ORDER BY ALL")


@contextmanager
def open_shop(name: str, project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Open a shop by the files in ``tests/faults/<name>/``: params.yaml, source.yaml and contract.yaml."""
    for file, target in (("params", "params"), ("source", "params/sources"), ("contract", "params/contracts/landing")):
        text = (FAULTS / name / f"{file}.yaml").read_text(encoding="utf-8")
        (project.root / target / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    monkeypatch.setattr(stages, "current", None)
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    with new_session() as session:
        yield Shop(name, home, session)


@contextmanager
def warnings_of(stage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect the warnings with which a stage ends."""
    found: list[str] = []
    end = stages.Stage._end

    def record_end(self: stages.Stage, *args: Any) -> None:
        if self.name == stage:
            found.extend(self.details.get("warnings", []))
        end(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(stages.Stage, "_end", record_end)
        yield found
