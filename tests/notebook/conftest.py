"""Provide notebook sessions in this process: IPython with Daybook's extension, on a lake of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daybook.notebook import context as stages
from tests.sessions import Session, new_session


@pytest.fixture
def session(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Return a session with the extension loaded and no open stage."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    with new_session() as opened:
        yield opened


@pytest.fixture
def opened(session: Session) -> Session:
    """Return a session in which the ingest stage of the demo shop is open."""
    session.begin()
    return session
