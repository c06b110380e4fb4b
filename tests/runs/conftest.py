"""Provide homes and a project for tests of whole runs: the real state machine, job script, notebooks and kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaybookHome]:
    """Provide a home that the tests of one file share, because whole runs are slow."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("home")
        patch.setenv("DAYBOOK_HOME", str(path))
        yield DaybookHome(path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a copy of the project, to change its notebooks, with the corner shop as deployment ``tiny``."""
    project = copy_project(tmp_path / "project")
    add_tiny_shop(project)
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    return project
