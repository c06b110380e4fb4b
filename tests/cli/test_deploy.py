"""``deploy``, ``destroy`` and ``doctor`` where there is nobody to ask: what they say, and that they say it at once."""

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
def test_without_credentials_a_command_says_so_in_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    # A machine with nothing of AWS; its metadata service is not there to be asked either, as on a laptop.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BOTO"))}
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody_there = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    command = [sys.executable, "-c", "from daybook.cli import main; main()", *arguments]
    done = subprocess.run(
        command,
        env={**clean, "HOME": str(tmp_path), "AWS_EC2_METADATA_SERVICE_ENDPOINT": nobody_there},
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
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and an AWS that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--env", "local"], "params/local.yaml: key 'runs_on' is laptop"),
        (["--env", "prod", "--parameter", "Dpu"], "--parameter Dpu has no value; write --parameter NAME=VALUE."),
        (["--env", "prod", "--parameter", "DPU=1"], "No template in infra/ has the parameter 'DPU'; use one of "),
        (["--env", "prod", "--stack", "all"], "--stack all is not one of infra/: deployer, foundation, catalogue, "),
        (["--env", "prod", "--smoke", "yesterday"], "'yesterday' is not a business date"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_before_aws_is_asked(
    call: Call, nowhere: None, arguments: list[str], said: str
) -> None:
    code, out, error = call("deploy", *arguments)
    assert (code, out) == (2, "")
    assert error.startswith(said)
    assert error.count("\n") == 1


def test_an_aws_that_does_not_answer_is_one_sentence(call: Call, nowhere: None) -> None:
    code, out, error = call("deploy", "--env", "prod", "--dry-run")
    assert (code, out) == (1, "")
    assert error.startswith("`daybook deploy --env prod` cannot start: AWS cannot be reached (")
    assert error.endswith("; check the network, then try again.\n")
    assert error.count("\n") == 1
