"""What all tests share: where real shops' data lies, a Daybook home and a copy of the project of a test's own."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

import daybook.lake
import daybook.purge
from daybook.params import project_root
from daybook.storage import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long chaos goes on, and which instants it draws."""
    parser.addoption("--chaos-kills", type=int, default=50, help="so many processes are killed in tests/runs/test_chaos.py")
    parser.addoption("--chaos-seed", type=int, default=20251130, help="another seed draws other instants")


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


@dataclass(frozen=True)
class Project:
    """A copy of the project's own files, to break one thing in."""

    root: Path

    def write(self, file: str, text: str) -> None:
        """Make ``file`` (relative to the root) hold exactly this."""
        (self.root / file).write_text(text, encoding="utf-8")

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the first ``old`` in ``file``; a copy that no longer holds it is a mistake of the test."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        self.write(file, text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of params, notebooks and state machines that Daybook takes for its project."""
    real, root = project_root(), tmp_path / "project"
    shutil.copytree(real / "params", root / "params")
    shutil.copytree(real / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (root / "orchestration").mkdir()
    for machine in (real / "orchestration").glob("*.asl.json"):
        shutil.copy(machine, root / "orchestration")
    monkeypatch.setenv("DAYBOOK_PROJECT", str(root))
    return Project(root)


class Killed(BaseException):
    """The process is gone: nothing that only answers to exceptions gets to do anything more."""


class Killer:
    """Ends a process just before its n-th write to tables, keys or archive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.last: Optional[int] = None
        for target, name in WRITES:
            monkeypatch.setattr(target, name, self._counted(getattr(target, name)))

    def aim(self, number: Optional[int]) -> None:
        """End before the n-th write from now on; at none, to count them."""
        self.writes, self.last = 0, number

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def counted(*arguments: Any, **named: Any) -> Any:
            self.writes += 1
            if self.writes == self.last:
                raise Killed
            return write(*arguments, **named)

        return counted


WRITES: list[tuple[Any, str]] = [
    (daybook.purge, "write_deltalake"),
    (daybook.lake, "write_deltalake"),
    (daybook.purge, "configure"),
    (daybook.purge, "vacuum"),
    (daybook.purge, "checkpoint"),
    (Store, "remove"),
    (Store, "create"),
    (Path, "replace"),
]
"""Everything by which erasing and rekeying change what is stored."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Counts writes, and ends the process at the one it is aimed at."""
    return Killer(monkeypatch)
