"""What all tests share: where real shops' data lies, and a Daybook home of a test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daybook.params import project_root


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real shops' data (Olist, Online Retail), which is not the project's to ship: DAYBOOK_SHARED_DATA or ../shared/data."""
    place = Path(os.environ.get("DAYBOOK_SHARED_DATA", project_root().parent / "shared" / "data"))
    if not (place / "olist").is_dir() or not (place / "online_retail").is_dir():
        pytest.skip(f"REAL DATA IS MISSING: {place} has no olist/ and online_retail/; set DAYBOOK_SHARED_DATA to test on it")
    return place


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAYBOOK_HOME of the test's own."""
    place = tmp_path / "home"
    monkeypatch.setenv("DAYBOOK_HOME", str(place))
    return place
