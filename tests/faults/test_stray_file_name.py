"""Test a file whose name is not UTF-8 beside valid landing files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daybook.errors import StorageError
from daybook.execution.stage import run_stage
from daybook.records.archive import Archive
from daybook.settings import load_settings, parse_run_date
from daybook.sources import load_source, open_landing
from daybook.sources.files import read_blocks
from demo_shop import generate
from tests.conftest import Project
from tests.execution.test_stage import RUN, failing

DAY = "2025-11-30"


@pytest.fixture
def folder(home: Path, project: Project) -> Path:
    """Return a landing folder with files of any name and the stray file."""
    project.replace("params/sources/demo.yaml", "customers/{run_date}/customers.csv", "customers/{run_date}/*.csv")
    generate(home / "landing", days=1, orders_per_day=3)
    folder = home / "landing" / "customers" / DAY
    Path(os.fsdecode(os.fsencode(folder) + b"/readme_M\xe4rz.txt")).touch()
    return folder


def test_message_names_the_file(folder: Path) -> None:
    store, day = open_landing(load_settings("local").landing), parse_run_date(DAY)
    with pytest.raises(StorageError) as raised:
        list(read_blocks(store, load_source("demo"), "customers", day, []))
    assert str(raised.value) == (
        f"{folder} could not be read: the name of readme_M%E4rz.txt is not UTF-8; rename or remove that file, "
        "then run it again."
    )


def test_message_is_not_withheld(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papermill.execute_notebook", failing("StorageError"))
    record = run_stage("ingest", env="local", run_date=DAY, run_id=RUN)
    assert (record.failure.exception, record.failure.message) == ("StorageError", "It went wrong.")
    assert record.withheld is None
    archive = Archive(load_settings("local").archive)
    assert archive.store.exists(f"{archive.folder(RUN)}/1_ingest.attempt-1.html")
