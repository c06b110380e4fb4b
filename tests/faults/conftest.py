"""Provide shops with unusual exports: deployments, landing files, and the stages of a date in this process."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook.context import Stage
from daybook.settings import Settings, load_settings
from tests.conftest import Project
from tests.sessions import Session, new_session

FAULTS = Path(__file__).parent
FLAT_HEADER = "order,at,status,product,qty,price"
"""The header of the export of the deployment ``flat``."""


@dataclass
class Ran:
    """The result of the stages of one date: the outcome with its reasons, and each stage by name."""

    outcome: str
    reasons: list[str]
    stages: dict[str, Stage] = field(default_factory=dict)

    @property
    def last(self) -> Stage:
        """Return the last stage that ran."""
        return list(self.stages.values())[-1]

    @property
    def warnings(self) -> list[str]:
        """Return the warnings of all stages."""
        return [each for stage in self.stages for each in self.warnings_of(stage)]

    def warnings_of(self, stage: str) -> list[str]:
        """Return the warnings of one stage."""
        return list(self.stages[stage].details.get("warnings", []))


def add_deployment(root: Path, folder: str, env: str) -> None:
    """Copy params.yaml, source.yaml and contract.yaml of a folder to the deployment ``env`` of a project."""
    for name, target in (("params", "params"), ("source", "params/sources"), ("contract", "params/contracts/landing")):
        shutil.copy(FAULTS / folder / f"{name}.yaml", root / target / f"{env}.yaml")


class Shop:
    """A deployment of the project copy, its landing folder and its tables."""

    def __init__(self, session: Session, project: Project, env: str = "odd") -> None:
        self.session = session
        self.project = project
        self.env = env
        self._runs = 0

    def deploy(self, folder: str, env: str) -> Shop:
        """Add the deployment of a folder and return its shop."""
        add_deployment(self.project.root, folder, env)
        return Shop(self.session, self.project, env)

    def settings(self) -> Settings:
        """Return the settings of the deployment."""
        return load_settings(self.env)

    def land(self, name: str, content: Union[str, bytes]) -> Path:
        """Write a file under the landing folder; text is stored as UTF-8, gzipped if the name ends in .gz."""
        path = Path(self.settings().landing) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = gzip.compress(content.encode()) if name.lower().endswith(".gz") else content.encode()
        path.write_bytes(content)
        return path

    def land_rows(self, name: str, *rows: str, header: str = FLAT_HEADER) -> Path:
        """Write a CSV file of a header and rows under the landing folder."""
        return self.land(name, "\n".join([header, *rows, ""]))

    def land_files(self, folder: str, *files: Path) -> None:
        """Copy files to a folder under the landing folder, which is "." for itself."""
        for file in files:
            self.land(f"{folder}/{file.name}", file.read_bytes())

    def run(self, day: str, overrides: Optional[dict[str, str]] = None, *, until: str = "") -> Ran:
        """Run the stages of a date, or of the dates up to ``until``, up to the one that ends it.

        An exception of a stage is raised.
        """
        self._runs += 1
        ran: dict[str, Stage] = {}
        found: list[str] = []
        result = Stage.result

        def record(stage: Stage, outcome: str, reasons: list[str], rows: dict[str, Optional[int]]) -> dict[str, Any]:
            ran[stage.name] = stage
            found[:] = reasons
            return result(stage, outcome, reasons, rows)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stage, "result", record)
            changes = overrides or {}
            if until:
                outcome = self.session.run_range(day, until, self._runs, changes, self.env)
            else:
                outcome = self.session.run_day(day, self._runs, changes, self.env)
        return Ran(outcome, found, ran)

    def engine(self) -> DuckDBEngine:
        """Return an engine on the newest versions of the tables."""
        settings = self.settings()
        return DuckDBEngine(Lake(settings.lake), settings.timezone)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the newest versions of the tables."""
        return self.engine().rows(query)

    def gross(self) -> Decimal:
        """Return the gross revenue of all dates."""
        (total,) = self.rows("SELECT coalesce(sum(gross_revenue), 0) FROM gold.daily_sales")
        return Decimal(total[0])

    def lines(self) -> list[tuple[Any, ...]]:
        """Return order, number, product and quantity of every line in silver."""
        return self.rows("SELECT order_id, line_number, product_id, quantity FROM silver.order_items ORDER BY ALL")


@pytest.fixture
def shop(home: Path, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Provide the shop of the deployment ``odd``; home and landing folder are empty."""
    add_deployment(project.root, "odd", "odd")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    with new_session() as session:
        yield Shop(session, project)


@pytest.fixture
def flat(shop: Shop) -> Shop:
    """Provide the shop of the deployment ``flat``, whose landing is one flat file of order lines."""
    return shop.deploy("flat", "flat")
