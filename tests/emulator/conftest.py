"""Provide emulated deployments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.deployments import Deployment, new_deployment, set_bucket_encryption
from tests.emulator.emulator import Emulator


@pytest.fixture
def undeployed(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Create a project and an empty account."""
    return new_deployment(emulator, tmp_path, monkeypatch)


@pytest.fixture
def deployed(undeployed: Deployment) -> Deployment:
    """Deploy with `daybook deploy` for one test."""
    code, _, error = undeployed.deploy()
    assert code == 0, error
    return undeployed


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Deploy once for all tests of a file. A test must undo its changes."""
    with pytest.MonkeyPatch.context() as patch:
        made = new_deployment(emulator, tmp_path_factory.mktemp("shared"), patch)
        code, _, error = made.deploy()
        assert code == 0, error
        set_bucket_encryption(made)
        yield made
