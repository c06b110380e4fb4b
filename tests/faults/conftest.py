"""Provide a shop with unusual exports, and run the stages of a date in this process."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
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

BASE = Path(__file__).parent / "base" / "params"


@dataclass
class Ran:
    """The result of the stages of one date: the outcome with its reasons, and each stage by name."""

    outcome: str
    reasons: list[str]
    stages: dict[str, Stage] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """Return the warnings of all stages."""
        return [each for stage in self.stages.values() for each in stage.details.get("warnings", [])]


class Shop:
    """A deployment of the project copy, its landing folder and its tables."""

    def __init__(self, session: Session, project: Project) -> None:
        self.session = session
        self.project = project
        self._runs = 0

    def settings(self, env: str = "odd") -> Settings:
        """Return the settings of a deployment."""
        return load_settings(env)

    def land(self, name: str, content: Union[str, bytes], env: str = "odd") -> Path:
        """Write a file under the landing folder; text is stored as UTF-8, gzipped if the name ends in .gz."""
        path = Path(self.settings(env).landing) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = gzip.compress(content.encode()) if name.lower().endswith(".gz") else content.encode()
        path.write_bytes(content)
        return path

    def run(self, day: str, env: str = "odd", overrides: Optional[dict[str, str]] = None) -> Ran:
        """Run the stages of a date up to the one that ends it. An exception of a stage is raised."""
        self._runs += 1
        done: dict[str, Stage] = {}
        reasons: list[str] = []
        result = Stage.result

        def record_result(stage: Stage, outcome: str, texts: list[str], rows: dict[str, Optional[int]]) -> dict[str, Any]:
            done[stage.name] = stage
            reasons[:] = texts
            return result(stage, outcome, texts, rows)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stage, "result", record_result)
            outcome = self.session.run_day(day, self._runs, overrides or {}, env)
        return Ran(outcome, reasons, done)

    def engine(self, env: str = "odd") -> DuckDBEngine:
        """Return an engine that reads the tables as they are now."""
        settings = self.settings(env)
        return DuckDBEngine(Lake(settings.lake), settings.timezone)

    def rows(self, query: str, env: str = "odd") -> list[tuple[Any, ...]]:
        """Return the rows of a query on the tables as they are now."""
        return self.engine(env).rows(query)


@pytest.fixture
def shop(home: Path, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return a shop with the deployments of ``base/params``; home and landing folder are empty."""
    shutil.copytree(BASE, project.root / "params", dirs_exist_ok=True)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    with new_session() as session:
        yield Shop(session, project)
