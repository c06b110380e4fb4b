"""What all tests share: where real shops' data lies, a Daybook home and a copy of the project of a test's own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from hypothesis import HealthCheck, settings

import daybook.lake.rewrite
import daybook.lake.tables
from daybook.records.fingerprint import code_version
from daybook.settings import is_temporary_name, project_root
from daybook.storage import Store
from tests.emulator.emulator import Account, Emulator, run_emulator

# No test is timed: by itself hypothesis fails an example that takes a fifth of a second, or is drawn in one, on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long chaos goes on, and which instants it draws."""
    parser.addoption("--chaos-kills", type=int, default=50, help="so many processes are killed in tests/runs/test_chaos.py")
    parser.addoption("--real-days", type=int, default=7, help="so many days of each real shop's history; 0 for all")
    parser.addoption(
        "--record-logic", action="store_true", help="record the content that tests/notebook/test_logic_version.py compares"
    )
    parser.addoption("--random-days", type=int, default=8, help="number of spoiled days that tests/oracle runs")
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


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of AWS on loopback, one for all tests of a process; skipped, loudly, where it is not installed."""
    with run_emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture
def aws_account(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An empty account of the emulator, for this test and the processes it starts."""
    return emulator.enter(monkeypatch)


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
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A copy of params, notebooks and state machines that Daybook takes for its project."""
    real, root = project_root(), tmp_path / "project"
    for folder in ("params", "notebooks"):
        shutil.copytree(real / folder, root / folder, ignore=lambda _, names: list(filter(is_temporary_name, names)))
    (root / "orchestration").mkdir()
    for machine in (real / "orchestration").glob("*.asl.json"):
        shutil.copy(machine, root / "orchestration")
    monkeypatch.setenv("DAYBOOK_PROJECT", str(root))
    code_version.cache_clear()
    yield Project(root)
    # A stage that ran in this process has noted the version of the copy.
    code_version.cache_clear()


class Disk:
    """A disk of a few kilobytes, mounted on a folder of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Have other files take what is free, but for ``leave`` bytes (in whole pages of 4 KiB)."""
        space = os.statvfs(self.path)
        self._filler.write_bytes(b"z" * (space.f_bavail * space.f_frsize - leave))

    def free(self) -> None:
        """Take those files away again."""
        self._filler.unlink()

    def read_only(self, wanted: bool = True) -> None:
        """Let nobody write to it, not even root; or let them again."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if wanted else 'rw'}", str(self.path)], check=True)


class Disks:
    """Mounts disks, and unmounts all at the end."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def mount(self, path: Path, size: str = "256k") -> Disk:
        """Mount an empty disk of a size on a folder, which is made; the test is skipped, loudly, where that is not allowed."""
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"NO DISK CAN BE MOUNTED HERE, so what a full one does is not tested: {done.stderr.strip()}")
        self._mounted.append(path)
        return Disk(path)

    def unmount(self) -> None:
        for path in reversed(self._mounted):
            # Lazily: a job that a failed test left behind may still have a file open.
            subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disks() -> Iterator[Disks]:
    """Small disks to fill up, or to write-protect."""
    mounted = Disks()
    yield mounted
    mounted.unmount()


@pytest.fixture(scope="module")
def module_disks() -> Iterator[Disks]:
    """Disks that the tests of one file share."""
    mounted = Disks()
    yield mounted
    mounted.unmount()


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
    (daybook.lake.rewrite, "write_deltalake"),
    (daybook.lake.tables, "write_deltalake"),
    (daybook.lake.rewrite, "configure"),
    (daybook.lake.rewrite, "vacuum"),
    (daybook.lake.rewrite, "checkpoint"),
    (Store, "remove"),
    (Store, "create"),
    (Path, "replace"),
]
"""Everything by which erasing and rekeying change what is stored."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Counts writes, and ends the process at the one it is aimed at."""
    return Killer(monkeypatch)
