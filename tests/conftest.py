"""Provide fixtures for all tests: real shops' data, a temporary home and a copy of the project."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
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

# Without deadlines: by default hypothesis fails an example that takes a fifth of a second on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the size and seed of long tests."""
    parser.addoption("--chaos-kills", type=int, default=50, help="number of processes that tests/runs/test_chaos.py kills")
    parser.addoption("--real-days", type=int, default=6, help="number of days of each real shop's history; 0 for all")
    parser.addoption(
        "--record-logic", action="store_true", help="record the content that tests/notebook/test_logic_version.py compares"
    )
    parser.addoption("--random-days", type=int, default=6, help="number of random days that tests/oracle runs")
    parser.addoption("--chaos-seed", type=int, default=20251130, help="seed of the times of kills")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with files that have slow tests, so that no process has a long file left when the other is done."""
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real shops' data (Olist, Online Retail): DAYBOOK_SHARED_DATA or ../shared/data of the checkout."""
    data_path = Path(os.environ.get("DAYBOOK_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (data_path / "olist").is_dir() or not (data_path / "online_retail").is_dir():
        pytest.skip(f"REAL DATA IS MISSING: {data_path} has no olist/ and online_retail/; set DAYBOOK_SHARED_DATA")
    return data_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a temporary DAYBOOK_HOME."""
    path = tmp_path / "home"
    monkeypatch.setenv("DAYBOOK_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Run one AWS emulator for all tests of a process. Skips with a message if it is not installed."""
    with run_emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture
def aws_account(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Return an empty account of the emulator, for this test and its processes."""
    return emulator.enter(monkeypatch)


@dataclass(frozen=True)
class Project:
    """A copy of the project's files that a test can change."""

    root: Path

    def write(self, file: str, text: str) -> None:
        """Overwrite ``file`` (relative to the root)."""
        (self.root / file).write_text(text, encoding="utf-8")

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the first ``old`` in ``file``, which must contain it."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        self.write(file, text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Return a copy of params, notebooks and state machines as the project."""
    real, root = project_root(), tmp_path / "project"
    for folder in ("params", "notebooks"):
        shutil.copytree(real / folder, root / folder, ignore=lambda _, names: list(filter(is_temporary_name, names)))
    (root / "orchestration").mkdir()
    for machine in (real / "orchestration").glob("*.asl.json"):
        shutil.copy(machine, root / "orchestration")
    monkeypatch.setenv("DAYBOOK_PROJECT", str(root))
    code_version.cache_clear()
    yield Project(root)
    # A stage in this process may have cached the version of the copy.
    code_version.cache_clear()


class Disk:
    """A small disk that is mounted on a temporary folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Fill the disk except for ``leave`` bytes (in whole pages of 4 KiB)."""
        space = os.statvfs(self.path)
        self._filler.write_bytes(b"z" * (space.f_bavail * space.f_frsize - leave))

    def free(self) -> None:
        """Remove the files of ``fill``."""
        self._filler.unlink()

    def read_only(self, enabled: bool = True) -> None:
        """Make the disk read-only, also for root, or writable."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if enabled else 'rw'}", str(self.path)], check=True)


class Disks:
    """Mount small disks, and unmount all at the end."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def mount(self, path: Path, size: str = "256k") -> Disk:
        """Mount an empty disk on a new folder. Skips the test with a message if mounting is not allowed."""
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"NO DISK CAN BE MOUNTED HERE, so full disks are not tested: {done.stderr.strip()}")
        self._mounted.append(path)
        return Disk(path)

    def unmount(self) -> None:
        for path in reversed(self._mounted):
            # A lazy unmount, since a job of a failed test may still have a file open.
            subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disks() -> Iterator[Disks]:
    """Return a mounter of small disks that can be filled or made read-only."""
    mounted = Disks()
    yield mounted
    mounted.unmount()


@pytest.fixture(scope="module")
def module_disks() -> Iterator[Disks]:
    """Return a mounter of disks that the tests of one file share."""
    mounted = Disks()
    yield mounted
    mounted.unmount()


class Killed(BaseException):
    """Simulates the end of the process: ``except Exception`` does not catch it."""


class Killer:
    """Simulate the end of the process just before its n-th call of the functions ``writes`` (owner and name)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: Iterable[tuple[Any, str]]) -> None:
        self.writes = 0
        self.last: Optional[int] = None
        for target, name in writes:
            monkeypatch.setattr(target, name, self._count_writes(getattr(target, name)))

    def aim(self, number: Optional[int]) -> None:
        """End the process before the n-th write from now on; with None, only count writes."""
        self.writes, self.last = 0, number

    def _count_writes(self, write: Callable[..., Any]) -> Callable[..., Any]:
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
    (daybook.lake.rewrite, "set_missing_properties"),
    (daybook.lake.rewrite, "vacuum_table"),
    (daybook.lake.rewrite, "write_checkpoint"),
    (Store, "remove"),
    (Store, "create"),
    (Path, "replace"),
]
"""Functions with which erasing and rekeying write."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Return a killer that counts writes."""
    return Killer(monkeypatch, WRITES)
