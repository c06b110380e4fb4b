"""Deployments to test on: an empty account, and one that a file's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.deployments import Deployment, new_deployment, set_bucket_encryption
from tests.emulator.emulator import Emulator


@pytest.fixture
def undeployed(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A project, and an empty account to deploy it to."""
    return new_deployment(emulator, tmp_path, monkeypatch)


@pytest.fixture
def deployed(undeployed: Deployment) -> Deployment:
    """A deployment of a test's own, as `daybook deploy` makes it."""
    code, _, error = undeployed.deploy()
    assert code == 0, error
    return undeployed


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that the tests of a file share; who breaks something mends it."""
    with pytest.MonkeyPatch.context() as patch:
        made = new_deployment(emulator, tmp_path_factory.mktemp("shared"), patch)
        code, _, error = made.deploy()
        assert code == 0, error
        set_bucket_encryption(made)
        yield made
