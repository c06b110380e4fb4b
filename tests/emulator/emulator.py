"""Run the AWS emulator on loopback with a new account for each test.

`make emulator` installs it in ``.tools/emulator``, because it needs Python 3.10 and another botocore than Daybook.
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
Result = TypeVar("Result")


def wait_until(look: Callable[[], Result], what: str, seconds: float = 60) -> Result:
    """Poll ``look`` until its result is true and return it; fail with the description ``what`` after ``seconds``."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@dataclass
class Emulator:
    """A running emulator. Accounts start empty. An access key of twelve digits selects the account."""

    process: subprocess.Popen[bytes]
    folder: Path
    _accounts: Iterator[int] = field(default_factory=lambda: itertools.count(100000000001))

    @property
    def endpoint(self) -> str:
        """The URL of the emulator."""
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}"

    def new_account(self) -> str:
        """Return the number of an unused account."""
        return str(next(self._accounts))

    def advance_clock(self, seconds: float) -> None:
        """Set the clock of schedules and alarms ahead of the machine's by ``seconds``.

        A schedule is due from the clock's time at its first poll, so that poll has to come before the change.
        """
        polls = self.folder / "polls"
        before = polls.stat().st_size if polls.exists() else 0
        wait_until(lambda: polls.exists() and polls.stat().st_size > before + 1, "two polls of the schedules")
        (self.folder / "ahead.new").write_text(str(seconds))
        (self.folder / "ahead.new").replace(self.folder / "ahead")

    def environment(self, account: str) -> dict[str, str]:
        """Return the variables that direct boto3, awswrangler, pyarrow, delta-rs and obstore to the emulator."""
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
        """Create an account and select it in the environment until the patch is undone."""
        account = Account(self.new_account(), self)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment(account.number).items():
            monkeypatch.setenv(name, value)
        # boto3 caches the credentials of its first call.
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
            except OSError:  # the server does not accept connections yet
                return False


@contextlib.contextmanager
def run_emulator(folder: Path, *, held_to_policies: bool = False) -> Iterator[Emulator]:
    """Run an emulator in a context. With ``held_to_policies``, it enforces the policies of callers."""
    if not PYTHON.exists():
        pytest.skip("the AWS emulator is not installed; run `make emulator` (needs a package index)")
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
    """An account of the emulator, which the environment selects."""

    number: str
    emulator: Emulator

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return boto3.client(service)

    def new_bucket(self) -> str:
        """Create a bucket and return its name, which contains the account because names are unique over all accounts."""
        name = f"shop-{self.number}"
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name
