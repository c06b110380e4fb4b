"""Test the errors of ``deploy``, ``destroy`` and ``doctor`` without credentials or without a connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.mark.parametrize(
    "arguments", [["deploy", "--env", "prod", "--dry-run"], ["destroy", "--env", "prod"], ["doctor", "--env", "prod"]]
)
def test_missing_credentials_are_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    # Neither AWS variables nor files nor a metadata service, as on a laptop.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BOTO"))}
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unreachable = f"http://127.0.0.1:{closed.getsockname()[1]}"
    command = [sys.executable, "-c", "from daybook.cli import main; main()", *arguments]
    done = subprocess.run(
        command,
        env={**clean, "HOME": str(tmp_path), "AWS_EC2_METADATA_SERVICE_ENDPOINT": unreachable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"`daybook {arguments[0]} --env prod` cannot start: there are no AWS credentials; set AWS_PROFILE, or "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`, then try again.\n"
    )


@pytest.fixture
def unreachable_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials, and an endpoint that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "local"], "params/local.yaml: key 'runs_on' is laptop"),
        (["--env", "prod", "--parameter", "Dpu"], "--parameter Dpu has no value; write --parameter NAME=VALUE."),
        (["--env", "prod", "--parameter", "DPU=1"], "No template in infra/ has the parameter 'DPU'; use one of "),
        (["--env", "prod", "--stack", "all"], "--stack all is not one of infra/: deployer, foundation, catalogue, "),
        (["--env", "prod", "--smoke", "yesterday"], "'yesterday' is not a business date"),
    ],
)
def test_wrong_options_are_reported_before_connecting_to_aws(
    call: Call, unreachable_aws: None, arguments: list[str], message: str
) -> None:
    code, out, error = call("deploy", *arguments)
    assert (code, out) == (2, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.slow
def test_unreachable_aws_is_one_sentence(call: Call, unreachable_aws: None) -> None:
    code, out, error = call("deploy", "--env", "prod", "--dry-run")
    assert (code, out) == (1, "")
    assert error.startswith("`daybook deploy --env prod` cannot start: AWS cannot be reached (")
    assert error.endswith("; check the network, then try again.\n")
    assert error.count("\n") == 1
