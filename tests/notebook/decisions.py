"""Provide a small shop for tests of approvals and releases, whose stage notebooks run in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Callable, Optional

import nbformat
import pytest

from daybook.cli import main
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook.parameters import notebook_path
from daybook.records.archive import Archive
from daybook.settings import Settings, load_settings
from demo_shop import Summary, generate
from tests.sample_records import run_record
from tests.sessions import Session

DAY = "2025-11-30"
STAGES = ("ingest", "validate", "transform", "aggregate", "quality")


@pytest.fixture
def daybook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command in this process, checks its exit code and returns its output."""

    def call(arguments: list[str], exit_code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["daybook", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == exit_code, printed.err
        return printed.out + printed.err

    return call


@dataclass
class Shop:
    """Landing, lake and archive of a shop, and the details of the last stages."""

    session: Session
    place: Path
    account: Summary
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, str]:
        return {name: str(self.place / name) for name in ("landing", "lake", "archive", "pii_key")}

    @property
    def settings(self) -> Settings:
        return load_settings("local", self.overrides)

    @property
    def options(self) -> list[str]:
        """Return the overrides as options of a command."""
        return [text for name, value in self.overrides.items() for text in ("--set", f"{name}={value}")]

    def file(self, entity: str) -> Path:
        return self.place / "landing" / entity / DAY / f"{entity}.csv"

    def valid_row(self, entity: str) -> int:
        """Return the number of a valid row in the file of the day."""
        spoiled = {each.row for each in self.account.faults if (each.entity, each.day) == (entity, date.fromisoformat(DAY))}
        return next(number for number in range(1, 1000) if number not in spoiled)

    def engine(self) -> DuckDBEngine:
        """Return a new engine on the lake."""
        return DuckDBEngine(Lake(str(self.place / "lake")), "Europe/Berlin")

    def run(self, run_id: str, names: Sequence[str] = STAGES) -> str:
        """Run stages one after the other, until one does not succeed; return the outcome of the last."""
        parameters = {"env": "local", "run_date": DAY, "run_id": run_id, "overrides": self.overrides}
        for name in names:
            for cell in nbformat.read(notebook_path(name), as_version=4).cells:
                if cell.cell_type == "code":
                    given = "parameters" in cell.metadata.get("tags", [])
                    lines = [f"{key} = {value!r}" for key, value in parameters.items()]
                    self.session.value("\n".join([cell.source, *lines]) if given else cell.source)
            assert stages.current is not None
            self.details[name] = stages.current.details
            if stages.current.ended != "SUCCEEDED":
                break
        assert stages.current is not None
        return stages.current.ended

    def close(self, run_id: str, outcome: str, stage: str, reasons: Optional[list[str]] = None) -> None:
        """Write the records that a run of the state machine writes."""
        archive = Archive(str(self.place / "archive"))
        archive.ensure_started(run_id)
        attempt = {
            "run_id": run_id,
            "stage": stage,
            "attempt": 1,
            "outcome": outcome,
            "reasons": reasons or [],
            "details": self.details.get(stage, {}),
            "failure": None,
        }
        archive.write_run(run_record(run_id, outcome, reasons=reasons or [], stages=[attempt]))


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    place = tmp_path_factory.mktemp("stewards") / "landing"
    return place, generate(place, days=4, orders_per_day=30)


@pytest.fixture
def shop(session: Session, landing: tuple[Path, Summary], tmp_path: Path) -> Shop:
    """Return a shop whose last day can be changed before it runs."""
    place = tmp_path / "shop"
    shutil.copytree(landing[0], place / "landing")
    return Shop(session, place, landing[1])
