"""A warm host that the tests of this room share, and scripts run by it."""

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
"""Seconds after which what is waited for is not going to come, on a slow machine too."""


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Look often until something holds; fails after ``DEADLINE``."""
    until = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < until, f"{what} did not come in {DEADLINE:.0f} seconds"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, though nobody may have asked how."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_for(job: Union[SubprocessJob, ForkedJob]) -> int:
    """The exit code of a job."""
    code = job.wait(DEADLINE)
    assert code is not None, f"the job did not end in {DEADLINE:.0f} seconds"
    return code


@dataclass
class Scripts:
    """Runs texts as scripts, each a job of the host, in a folder of the test's own."""

    host: ForkServer
    folder: Path
    count: int = field(default=0)

    def start(
        self,
        script: str,
        *arguments: str,
        env: Optional[dict[str, str]] = None,
        cwd: Optional[Path] = None,
        keep: tuple[int, ...] = (),
    ) -> tuple[Union[SubprocessJob, ForkedJob], Path]:
        """The job, and the file that its output goes to."""
        self.count += 1
        file, printed = self.folder / f"job{self.count}.py", self.folder / f"job{self.count}.txt"
        file.write_text(textwrap.dedent(script), encoding="utf-8")
        with printed.open("wb") as output:
            job = self.host.run(
                [str(file), *arguments],
                env={**os.environ, **(env or {})},
                cwd=str(cwd or self.folder),
                output=output,
                keep=keep,
            )
        return job, printed

    def run(self, script: str, *arguments: str, **how: Any) -> tuple[int, str]:
        """The exit code and what was printed."""
        job, printed = self.start(script, *arguments, **how)
        return wait_for(job), printed.read_text(encoding="utf-8")

    def told(self, script: str, *arguments: str, **how: Any) -> Any:
        """What a script that ends well prints, as JSON."""
        code, printed = self.run(script, *arguments, **how)
        assert code == 0, printed
        return json.loads(printed)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """One host for all that does not harm it."""
    host = ForkServer(tmp_path_factory.mktemp("host") / "host.log")
    yield host
    host.close()


@pytest.fixture
def scripts(host: ForkServer, tmp_path: Path) -> Scripts:
    return Scripts(host, tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Scripts]:
    """Scripts of a host of the test's own, which it may harm."""
    host = ForkServer(tmp_path / "log" / "host.log")
    yield Scripts(host, tmp_path)
    host.close()
