"""The emulator of AWS as tests have it: a process on loopback, an account each, and the environment that leads there.

`make emulator` makes it in ``.tools/emulator``, apart from Daybook's packages: it needs Python 3.10 and a botocore of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, TypeVar

import boto3
import pytest

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".tools" / "emulator" / "venv" / "bin" / "python"
REGION = "eu-central-1"
SECRET = "emulated"  # noqa: S105 (it opens nothing)
"""The secret access key of every account's root."""
Result = TypeVar("Found")


def wait_until(look: Callable[[], Result], what: str, seconds: float = 60) -> Result:
    """What ``look`` finds as soon as it is something; a failed test, saying ``what`` was awaited, where it never is."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@dataclass
class Emulator:
    """A running emulator. Every account starts empty; an access key of twelve digits is an account's number."""

    process: subprocess.Popen[bytes]
    folder: Path
    _accounts: Iterator[int] = field(default_factory=lambda: itertools.count(100000000001))

    @property
    def endpoint(self) -> str:
        """Where it listens: an URL on loopback."""
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}"

    def new_account(self) -> str:
        """The number of an account that nobody has used."""
        return str(next(self._accounts))

    def advance_clock(self, seconds: float) -> None:
        """Let the clock of schedules and alarms (of no other service) go so many seconds ahead of the machine's."""
        (self.folder / "ahead.new").write_text(str(seconds))
        (self.folder / "ahead.new").replace(self.folder / "ahead")

    def environment(self, account: str) -> dict[str, str]:
        """By which boto3, awswrangler, pyarrow's ``FileSystem.from_uri``, delta-rs and obstore go there, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",  # delta-rs and obstore refuse plain http otherwise
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-credentials"),
        }

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> Account:
        """A new account, which the environment leads to until the patch is undone."""
        account = Account(self.new_account(), self)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment(account.number).items():
            monkeypatch.setenv(name, value)
        # boto3 keeps the credentials of its first call for the process.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        return account

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-4000:]
        if not (self.folder / "port").exists():
            return False
        connection = http.client.HTTPConnection("127.0.0.1", int((self.folder / "port").read_text()), timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/_ministack/ready")
                return connection.getresponse().status == 200
            except OSError:  # It has its port, and does not answer yet.
                return False


@contextlib.contextmanager
def run_emulator(folder: Path, *, held_to_policies: bool = False) -> Iterator[Emulator]:
    """An emulator for as long as the context lasts; ``held_to_policies`` lets callers do what their policies say only."""
    if not PYTHON.exists():
        pytest.skip("AWS IS NOT EMULATED, so nothing of it is tested: `make emulator` gets what it takes (a package index)")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(PYTHON), str(HERE / "serve.py"), str(folder)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AUTH": str(held_to_policies).lower(),
            },
        )
    emulator = Emulator(process, folder)
    try:
        wait_until(emulator._is_ready, "the emulator answers")
        yield emulator
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Account:
    """An empty account of the emulator, which the test's environment leads to."""

    number: str
    emulator: Emulator

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return boto3.client(service)

    def new_bucket(self) -> str:
        """Make a bucket; its name, which is of this account alone, as all accounts share their names."""
        name = f"shop-{self.number}"
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name
