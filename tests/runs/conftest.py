"""Provide homes for whole runs with the real state machine, job script and notebooks, in separate processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaybookHome]:
    """Return a home that the tests of one file share, since whole runs are slow."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("DAYBOOK_HOME", str(folder))
        yield DaybookHome(folder)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project with changeable notebooks and the corner shop as deployment ``tiny``."""
    project = copy_project(tmp_path / "project")
    add_tiny_shop(project)
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    return project
