"""Test the permissions of the deployer's role in an emulator that enforces policies.

The emulator does not enforce the policies of the role that CloudFormation uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.emulator.deployments import ENV, Deployment, new_deployment
from tests.emulator.emulator import SECRET, run_emulator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def as_deployer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Create the deployer stack as an administrator, then assume the deployer's role."""
    with (
        pytest.MonkeyPatch.context() as patch,
        run_emulator(tmp_path_factory.mktemp("strict"), held_to_policies=True) as emulator,
    ):
        made = new_deployment(emulator, tmp_path_factory.mktemp("rights"), patch)
        iam = made.client("iam")
        made.replace("params/prod.yaml", f"{made.account.number}:role/ci", f"{made.account.number}:user/ci")
        iam.create_user(UserName="ci")
        code, _, error = made.deploy("--stack", "deployer")
        assert code == 0, error
        role = f"arn:aws:iam::{made.account.number}:role/deployer-daybook-{ENV}"
        assume = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}]}
        iam.put_user_policy(UserName="ci", PolicyName="deploy", PolicyDocument=json.dumps(assume))
        key = iam.create_access_key(UserName="ci")["AccessKey"]
        user = boto3.client("sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
        taken = user.assume_role(RoleArn=role, RoleSessionName="deploy")["Credentials"]
        patch.setenv("AWS_ACCESS_KEY_ID", taken["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", taken["SecretAccessKey"])
        patch.setenv("AWS_SESSION_TOKEN", taken["SessionToken"])
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        yield made


def test_deployer_role_can_deploy_and_run_doctor(as_deployer: Deployment) -> None:
    code, out, error = as_deployer.deploy()
    assert (code, error) == (0, "")
    assert f"daybook-{ENV}-deployer: nothing to change\n" in out
    assert (
        f"Deployed: {', '.join(f'daybook-{ENV}-{name}' for name in ('foundation', 'catalogue', 'pipeline', 'watch'))}." in out
    )

    _, found = as_deployer.doctor()
    # For these checks the emulator evaluates other resources than AWS: a schedule without group, a key's alias (without
    # kms:ResourceAliases), no principal.
    other = {f"schedule daybook-{ENV}-nightly", f"schedule daybook-{ENV}-catch-up", "encryption key", "passing roles"}
    assert {name for name, each in found.items() if each["state"] == "refused"} == other
    assert len(found) > 30


def test_deployer_role_can_run_smoke_test(as_deployer: Deployment) -> None:
    code, out, _ = as_deployer.deploy("--smoke", "2025-11-28")
    assert code == 1
    assert "daily-2025-11-28-1 ended FAILED" in out


def test_deployer_role_cannot_change_own_stack(as_deployer: Deployment) -> None:
    code, _, error = as_deployer.deploy("--parameter", f"DeployerPrincipal=arn:aws:iam::{as_deployer.account.number}:user/me")
    assert code == 1
    assert error.startswith(
        f"daybook-{ENV}-deployer differs from infra/deployer.yaml, and only an administrator can change it; "
    )


@pytest.mark.parametrize(
    ("service", "method", "arguments"),
    [
        ("s3", "put_object", {"Bucket": "{lake}", "Key": "gold/x", "Body": b""}),
        ("s3", "get_object", {"Bucket": "{archive}", "Key": "x"}),
        ("secretsmanager", "get_secret_value", {"SecretId": f"daybook-{ENV}-pii-key"}),
        ("iam", "create_role", {"RoleName": f"daybook-{ENV}-mine", "AssumeRolePolicyDocument": "{}"}),
        ("glue", "start_job_run", {"JobName": f"daybook-{ENV}-ingest"}),
        ("s3", "put_bucket_policy", {"Bucket": "{lake}", "Policy": "{}"}),
        ("kms", "put_key_policy", {"KeyId": f"alias/daybook-{ENV}", "PolicyName": "default", "Policy": "{}"}),
        ("iam", "update_assume_role_policy", {"RoleName": f"daybook-{ENV}-job", "PolicyDocument": "{}"}),
    ],
)
def test_deployer_role_cannot_access_data(as_deployer: Deployment, service: str, method: str, arguments: dict) -> None:
    given = {
        key: value.format(lake=as_deployer.bucket("lake"), archive=as_deployer.bucket("archive")) if key == "Bucket" else value
        for key, value in arguments.items()
    }
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(as_deployer.client(service), method)(**given)


def test_doctor_reports_missing_permissions(as_deployer: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", as_deployer.account.number)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    iam = as_deployer.client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    code, found = as_deployer.doctor()
    assert found["credentials"]["message"].endswith(":user/reader")
    refused = {name for name, each in found.items() if each["state"] == "refused"}
    assert refused == set(found) - {"credentials", "clock", "quotas"}
    assert code == 0
    code, _, error = as_deployer.deploy()
    assert code == 1
    assert error.endswith("; use credentials with this permission, see infra/deployer.yaml.\n")


@pytest.mark.parametrize(("user", "passing", "state"), [("passer", True, "ok"), ("looker", False, "failed")])
def test_doctor_simulates_pass_role(
    as_deployer: Deployment, monkeypatch: pytest.MonkeyPatch, user: str, passing: bool, state: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", as_deployer.account.number)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    role = f"arn:aws:iam::{as_deployer.account.number}:role/resources-daybook-{ENV}"
    statements = [{"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*"}]
    # Without a condition, of which the emulator's simulation knows none.
    statements += [{"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}] if passing else []
    iam = as_deployer.client("iam")
    iam.create_user(UserName=user)
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName=user, PolicyName="some", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    _, found = as_deployer.doctor()
    assert found["passing roles"]["state"] == state
    assert f":user/{user} {'can' if passing else 'cannot'} pass {role}" in found["passing roles"]["message"]
