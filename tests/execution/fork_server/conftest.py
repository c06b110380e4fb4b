"""Provide a fork server for the tests and run scripts as its jobs."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional, Union

import psutil
import pytest

from daybook.execution.fork_server import ForkedJob, ForkServer, SubprocessJob

DEADLINE = 60.0
"""Maximum seconds to wait for an event, also on a slow machine."""


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Poll until the condition ``true`` holds; fail after ``DEADLINE``."""
    until = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < until, f"{what} did not come in {DEADLINE:.0f} seconds"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended. A zombie has ended too."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_for(job: Union[SubprocessJob, ForkedJob]) -> int:
    """Wait for a job and return its exit code."""
    code = job.wait(DEADLINE)
    assert code is not None, f"the job did not end in {DEADLINE:.0f} seconds"
    return code


@dataclass
class Scripts:
    """Run texts as scripts in jobs of a fork server, in the test's folder."""

    host: ForkServer
    folder: Path
    count: int = field(default=0)

    def start(
        self,
        script: str,
        *arguments: str,
        env: Optional[dict[str, str]] = None,
        cwd: Optional[Path] = None,
        inherited: tuple[int, ...] = (),
    ) -> tuple[Union[SubprocessJob, ForkedJob], Path]:
        """Start a script; return its job and its output file."""
        self.count += 1
        file, printed = self.folder / f"job{self.count}.py", self.folder / f"job{self.count}.txt"
        file.write_text(textwrap.dedent(script), encoding="utf-8")
        with printed.open("wb") as output:
            job = self.host.run(
                [str(file), *arguments],
                env={**os.environ, **(env or {})},
                cwd=str(cwd or self.folder),
                output=output,
                inherited=inherited,
            )
        return job, printed

    def run(self, script: str, *arguments: str, **how: Any) -> tuple[int, str]:
        """Run a script; return its exit code and output."""
        job, printed = self.start(script, *arguments, **how)
        return wait_for(job), printed.read_text(encoding="utf-8")

    def run_json(self, script: str, *arguments: str, **how: Any) -> Any:
        """Run a script that must succeed; return its output, parsed as JSON."""
        code, printed = self.run(script, *arguments, **how)
        assert code == 0, printed
        return json.loads(printed)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A server for all tests that do not harm it."""
    host = ForkServer(tmp_path_factory.mktemp("host") / "host.log")
    yield host
    host.close()


@pytest.fixture
def scripts(host: ForkServer, tmp_path: Path) -> Scripts:
    return Scripts(host, tmp_path)


@pytest.fixture
def own_scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Scripts with a server for one test, which may harm it."""
    host = ForkServer(tmp_path / "log" / "host.log")
    yield Scripts(host, tmp_path)
    host.close()
