"""Homes for tests of whole runs: the real state machine, job script and notebooks, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .shop import Home


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home that the tests of one file share, since whole runs take their time."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("home")
        patch.setenv("DAYBOOK_HOME", str(place))
        yield Home(place)
