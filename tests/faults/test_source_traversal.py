"""Test that names from parameters, options and executions cannot leave their folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Callable

import pytest

from daybook.cli import main
from daybook.errors import UsageError
from daybook.execution.stage import run_stage
from daybook.execution.tasks import plan_gap_backfill, summarize_backfill
from daybook.records.archive import Archive
from daybook.records.cost import load_prices
from daybook.scheduling.backfills import read_backfill
from daybook.settings import load_settings
from daybook.sources import load_source
from tests.conftest import Project

DAY, RUN = "2025-11-28", "daily-2025-11-28-1"


@pytest.fixture
def outside(project: Project, home: Path) -> Project:
    """Return a project with copies of a source, a deployment and a price table outside its params folder."""
    for folder in ("sources", "prices"):
        shutil.copytree(project.root / "params" / folder, project.root / "elsewhere" / folder)
    shutil.copy(project.root / "params/local.yaml", project.root / "elsewhere")
    shutil.copytree(project.root / "params/contracts/landing", project.root / "elsewhere", dirs_exist_ok=True)
    return project


@pytest.mark.parametrize("source", ["../../elsewhere/sources/demo", "./demo", "Demo", "demo\n", ""])
def test_source_outside_its_folder_is_a_usage_error(
    outside: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["daybook", "run", "--date", DAY, "--set", f"source={source}"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert f"{source!r} is not the name of a source; use only the characters a-z0-9_." in error
    assert not Archive(load_settings("local").archive).run_ids()


@pytest.mark.parametrize(
    ("of", "read"),
    [
        ("a deployment", lambda name: load_settings(f"../elsewhere/{name}")),
        ("a source", lambda name: load_source(f"../../elsewhere/sources/{name}")),
        ("a price table", lambda name: load_prices(f"../../elsewhere/prices/{name}")),
        ("a backfill", lambda name: read_backfill(Archive(load_settings("local").archive), f"../{name}")),
        ("a backfill", lambda name: summarize_backfill(load_settings("local"), f"../{name}")),
        (
            "a backfill",
            lambda name: run_stage("ingest", env="local", run_date=DAY, run_id=RUN, part_of=f"../{name}"),
        ),
        ("an execution", lambda name: plan_gap_backfill(load_settings("local"), f"../{name}", limit=1)),
    ],
)
def test_names_cannot_leave_their_folder(outside: Project, of: str, read: Callable[[str], object]) -> None:
    Path(load_settings("local").landing).mkdir(parents=True)
    with pytest.raises(UsageError, match=f"is not the name of {of}; use only the characters"):
        read("local")


@pytest.mark.parametrize("command", [["show", "../x"], ["resume", "../x"], ["approve", "../x", "--why", "no"]])
def test_run_ids_cannot_leave_the_archive(
    outside: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["daybook", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "'../x' is not a run's name" in capsys.readouterr().err
