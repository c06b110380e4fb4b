"""Fixtures of the asl_local tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asl_local.machines import Runner


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)
