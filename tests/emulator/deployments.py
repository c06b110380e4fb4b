"""Deploy a copy of the project with a dummy bundle to an account of the emulator."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest

from daybook.cli import main
from daybook.deploy import change_sets, smoke_test
from daybook.settings import is_temporary_name
from tests.emulator.emulator import Account, Emulator

PROJECT = Path(__file__).resolve().parents[2]
ENV = "prod"


@dataclass(frozen=True)
class Deployment:
    """An account with the deployed project."""

    account: Account
    root: Path
    bundle: Path
    patch: pytest.MonkeyPatch

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command for this deployment; return exit code, stdout and stderr."""
        self.patch.setattr(sys, "argv", ["daybook", *arguments, "--env", ENV])
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), out.getvalue(), error.getvalue()

    def deploy(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``daybook deploy`` with the dummy bundle."""
        return self.call("deploy", "--bundle", str(self.bundle), *arguments)

    def doctor(self) -> tuple[int, dict[str, dict[str, str]]]:
        """Run ``daybook doctor``; return the exit code and the checks by name."""
        code, out, _ = self.call("doctor", "--json")
        return code, {each["name"]: each for each in json.loads(out)}

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the project."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def bucket(self, name: str) -> str:
        """Return the name of a bucket such as ``lake``."""
        return f"shop{self.account.number}-{name}"

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN in the account."""
        return f"arn:aws:{service}:eu-central-1:{self.account.number}:{resource}"

    def status(self, stack: str) -> Optional[str]:
        """Return the status of a stack; None if it does not exist."""
        found = self.account.client("cloudformation").describe_stacks()["Stacks"]
        return next((each["StackStatus"] for each in found if each["StackName"] == f"daybook-{ENV}-{stack}"), None)

    def client(self, service: str) -> Any:
        return self.account.client(service)


def new_deployment(emulator: Emulator, folder: Path, patch: pytest.MonkeyPatch) -> Deployment:
    """Create a project for an empty account without deploying it."""
    account = emulator.enter(patch)
    root = folder / "project"
    for name in ("params", "infra"):
        shutil.copytree(PROJECT / name, root / name, ignore=lambda _, names: list(filter(is_temporary_name, names)))
    (root / "orchestration").mkdir()
    for path in (*PROJECT.glob("orchestration/*.asl.json"), PROJECT / "orchestration" / "glue_bootstrap.py"):
        shutil.copy(path, root / "orchestration")
    content = b"dummy bundle"
    bundle = folder / f"daybook-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    bundle.write_bytes(content)
    patch.setenv("DAYBOOK_PROJECT", str(root))
    patch.setattr(change_sets, "POLL_SECONDS", 0.05)
    patch.setattr(smoke_test, "POLL_SECONDS", 0.05)
    made = Deployment(account, root, bundle, patch)
    # Bucket names are unique over all accounts.
    made.replace("params/prod.yaml", "s3://daybook-prod-", f"s3://{made.bucket('')}")
    for name in ("CodeBucket: ", "AccessLogBucket: "):
        made.replace("params/prod.yaml", f"{name}daybook-prod", f"{name}{made.bucket('')[:-1]}")
    principal = f"arn:aws:iam::{account.number}:role/ci"
    made.replace(
        "params/prod.yaml",
        "  parameters:",
        # The emulator does not support budgets.
        "  parameters:\n    BudgetUsd: 0\n    AlertEmail: data@shop.example\n    DeployerPrincipal: " + principal,
    )
    made.replace("params/prod.yaml", f"{principal}                  #", f"{principal}\n    #")
    return made


def set_bucket_encryption(made: Deployment) -> None:
    """Set the encryption of buckets, which the emulator's CloudFormation does not."""
    key = made.client("kms").describe_key(KeyId=f"alias/daybook-{ENV}")["KeyMetadata"]["Arn"]
    by_key = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    for name in ("lake", "archive", "landing", "code"):
        made.client("s3").put_bucket_encryption(Bucket=made.bucket(name), ServerSideEncryptionConfiguration={"Rules": [by_key]})
