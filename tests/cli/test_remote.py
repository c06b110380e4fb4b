"""Test that commands on AWS deployments fail at once, with one sentence and exit code 1, if AWS is unreachable."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.runs.shop import run_command

DAY = "2025-11-30"


@pytest.fixture(autouse=True)
def _no_credentials(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # Commands set these variables; monkeypatch restores them.
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--date", DAY),
        ("resume", f"daily-{DAY}-1"),
        ("backfill", DAY, DAY, "--yes"),
        ("catch-up", "--yes"),
        ("runs",),
        ("show", f"daily-{DAY}-1"),
        ("status",),
        ("gaps",),
        ("report",),
        ("sql", "SELECT 1 FROM gold.daily_sales"),
        ("backfills",),
    ],
    ids=lambda command: command[0],
)
def test_missing_credentials_are_reported_at_once(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_command(monkeypatch, capsys, *command, "--env", "prod")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "AWS credentials" in err


def test_unreachable_aws_is_reported_within_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    for command, message in ((("run", "--date", DAY), "AWS cannot be reached"), (("runs",), "could not be read")):
        started = time.monotonic()
        code, _, err = run_command(monkeypatch, capsys, *command, "--env", "prod")
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
        assert time.monotonic() - started < 30


def test_demo_is_refused_on_aws(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_command(monkeypatch, capsys, "demo", "--env", "prod")
    assert (code, err.count("\n")) == (2, 1)
    assert "`daybook demo` works on folders of this machine, and prod is on AWS" in err


def test_no_follow_is_refused_on_a_local_deployment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, capsys, "demo", "--days", "2", "--orders", "5")[0] == 0
    code, _, err = run_command(monkeypatch, capsys, "run", "--date", DAY, "--no-follow")
    assert (code, err.count("\n")) == (2, 1)
    assert "--no-follow works for deployments on AWS only" in err


@pytest.mark.parametrize("change", ["archive=s3://here", "max_rejected_share=1", "runs_on=laptop", "source=olist"])
def test_overrides_on_aws_are_refused_before_a_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    code, _, err = run_command(monkeypatch, capsys, "run", "--date", DAY, "--env", "prod", "--set", change)
    assert (code, err.count("\n")) == (2, 1)
    assert f"--set: key '{change.split('=')[0]}' cannot be overridden" in err
    assert "change params/prod.yaml" in err
