"""Build deployments from the files of a fault, and run them in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.settings import load_settings
from tests.conftest import Project
from tests.sessions import Session, new_session

HERE = Path(__file__).parent


class Shop:
    """A deployment in a copy of the project, with its landing."""

    def __init__(self, project: Project, session: Session, env: str, files: Path, names: tuple[str, str, str]) -> None:
        self.project, self.session, self.env = project, session, env
        for name, target in zip(names, (f"{env}.yaml", f"sources/{env}.yaml", f"contracts/landing/{env}.yaml")):
            shutil.copy(files / name, project.root / "params" / target)
        self.landing = Path(load_settings(env).landing)
        self._numbers: dict[str, int] = {}

    def land(self, target: str, text: str) -> None:
        """Write a landing file."""
        path = self.landing / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, day: str) -> str:
        """Run a date; return the outcome of its last stage."""
        self._numbers[day] = self._numbers.get(day, 0) + 1
        return self.session.run_day(day, self._numbers[day], {}, env=self.env)

    @property
    def ended(self) -> stages.Stage:
        """Return the last stage of the last run."""
        assert stages.current is not None
        return stages.current

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the lake."""
        settings = load_settings(self.env)
        return DuckDBEngine(Lake(settings.lake), settings.timezone).rows(sql)


@contextmanager
def shop(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: str = "odd",
    fault: str = "odd_instants",
    names: tuple[str, str, str] = ("deployment.yaml", "source.yaml", "contract.yaml"),
) -> Iterator[Shop]:
    """Return a deployment built from the files of a fault."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("DAYBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    with new_session() as session:
        yield Shop(project, session, env, HERE / fault, names)


def write_order_files(target: Shop, day: str, fault: str) -> None:
    """Write the two landing files of a fault of the odd shop."""
    for name in ("orders.csv", "lines.csv"):
        target.land(f"o/{day}/{name}", (HERE / fault / name).read_text(encoding="utf-8"))
