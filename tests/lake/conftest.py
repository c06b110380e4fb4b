"""Fixtures: a lake, and commits without waits between tries."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import daybook.lake.tables
from daybook.lake.tables import Lake


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture
def lake(root: str) -> Lake:
    return Lake(root, run_id="daily-2025-11-01-1")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of waits between tries to commit, which do not happen."""
    waited: list[float] = []
    monkeypatch.setattr(daybook.lake.tables, "time", SimpleNamespace(sleep=waited.append))
    return waited
