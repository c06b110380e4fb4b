"""Test ``daybook doctor`` on an emulated deployment, intact and with one problem each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

import boto3
import pytest

from daybook.contracts import LAYERS, load_table, load_tables
from daybook.deploy.catalogue import athena_type, database_name
from daybook.deploy.doctor.examine import run_checks
from daybook.execution.aws.account import connect
from daybook.settings import load_settings
from tests.emulator.deployments import ENV, Deployment

pytestmark = pytest.mark.slow

DAILY_SALES = load_table("gold.daily_sales")


def test_deployment_passes_checks(shared: Deployment) -> None:
    code, found = shared.doctor()
    assert {name: each for name, each in found.items() if each["state"] != "ok"}.keys() == {"quotas"}  # not emulated
    assert code == 0
    assert shared.account.number in found["credentials"]["message"]
    assert found[f"schedule daybook-{ENV}-nightly"]["message"].endswith(" 02:00 UTC")
    assert f"bundles/{shared.bundle.name}" in found[f"job daybook-{ENV}-ingest"]["message"]


def test_doctor_table_shows_checks(shared: Deployment) -> None:
    code, out, error = shared.call("doctor")
    assert (code, error) == (0, "")
    assert out.splitlines()[-1].endswith(" ok, 1 warning")
    assert "active, equal to orchestration/daily.asl.json" in out


def test_doctor_reports_missing_deployment(undeployed: Deployment) -> None:
    code, found = undeployed.doctor()
    assert code == 1
    missing = {name for name, each in found.items() if each["state"] == "failed"}
    assert missing == set(found) - {"credentials", "clock", "quotas", "passing roles"}
    assert {found[name]["remedy"] for name in missing if name.startswith(("stack", "job", "role"))} == {
        f"run `daybook deploy --env {ENV}`"
    }


def test_awswrangler_reads_tables_with_contract_types(shared: Deployment) -> None:
    from awswrangler import catalog

    contracts = [each for layer in LAYERS for each in load_tables(layer).values()]
    found = {
        each.full_name: catalog.get_table_types(database_name(ENV, each.layer), each.name, boto3_session=boto3.Session())
        for each in contracts
    }
    assert found == {
        each.full_name: {column: athena_type(each.type_of(column)) for column in each.columns} for each in contracts
    }


# -- problems ---------------------------------------------------------------------------------------------------------------


@contextmanager
def open_bucket(deployment: Deployment) -> Iterator[None]:
    s3, bucket = deployment.client("s3"), deployment.bucket("lake")
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={**closed, "BlockPublicPolicy": False})
    yield
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)


@contextmanager
def plain_bucket(deployment: Deployment) -> Iterator[None]:
    s3, bucket = deployment.client("s3"), deployment.bucket("archive")
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    s3.delete_bucket_encryption(Bucket=bucket)
    yield
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)


@contextmanager
def bucket_without_versions(deployment: Deployment) -> Iterator[None]:
    s3, bucket = deployment.client("s3"), deployment.bucket("landing")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    yield
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@contextmanager
def disabled_key(deployment: Deployment) -> Iterator[None]:
    kms = deployment.client("kms")
    key = kms.describe_key(KeyId=f"alias/daybook-{ENV}")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    yield
    kms.enable_key(KeyId=key)


@contextmanager
def deleted_secret(deployment: Deployment) -> Iterator[None]:
    secrets = deployment.client("secretsmanager")
    secrets.delete_secret(SecretId=f"daybook-{ENV}-pii-key", RecoveryWindowInDays=7)
    yield
    secrets.restore_secret(SecretId=f"daybook-{ENV}-pii-key")


@contextmanager
def changed_machine(deployment: Deployment) -> Iterator[None]:
    client, arn = deployment.client("stepfunctions"), deployment.arn("states", f"stateMachine:daybook-{ENV}-daily")
    definition = client.describe_state_machine(stateMachineArn=arn)["definition"]
    client.update_state_machine(stateMachineArn=arn, definition=json.dumps({**json.loads(definition), "TimeoutSeconds": 60}))
    yield
    client.update_state_machine(stateMachineArn=arn, definition=definition)


@contextmanager
def other_bundle(deployment: Deployment) -> Iterator[None]:
    s3, place = deployment.client("s3"), {"Bucket": deployment.bucket("code"), "Key": f"bundles/{deployment.bundle.name}"}
    s3.put_object(**place, Body=b"somebody's own", ChecksumAlgorithm="SHA256")
    yield
    s3.put_object(**place, Body=deployment.bundle.read_bytes(), ChecksumAlgorithm="SHA256")


@contextmanager
def removed_script(deployment: Deployment) -> Iterator[None]:
    s3, bucket = deployment.client("s3"), deployment.bucket("code")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    (key,) = [each for each in keys if each.endswith("glue_bootstrap.py")]
    s3.delete_object(Bucket=bucket, Key=key)
    yield
    script = (deployment.root / "orchestration" / "glue_bootstrap.py").read_bytes()
    s3.put_object(Bucket=bucket, Key=key, Body=script, ChecksumAlgorithm="SHA256")


@contextmanager
def removed_job(deployment: Deployment) -> Iterator[None]:
    glue = deployment.client("glue")
    job = glue.get_job(JobName=f"daybook-{ENV}-quality")["Job"]
    glue.delete_job(JobName=job["Name"])
    yield
    glue.create_job(**{key: job[key] for key in ("Name", "Role", "Command", "DefaultArguments")})


@contextmanager
def schedule_off(deployment: Deployment) -> Iterator[None]:
    scheduler, name = deployment.client("scheduler"), {"Name": f"daybook-{ENV}-nightly", "GroupName": f"daybook-{ENV}"}
    found = scheduler.get_schedule(**name)
    kept = {key: found[key] for key in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**name, **kept, State="DISABLED")
    yield
    scheduler.update_schedule(**name, **kept, State="ENABLED")


@contextmanager
def start_undelivered(deployment: Deployment) -> Iterator[None]:
    sqs = deployment.client("sqs")
    url = sqs.get_queue_url(QueueName=f"daybook-{ENV}-undelivered")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    yield
    sqs.purge_queue(QueueUrl=url)


@contextmanager
def nobody_told(deployment: Deployment) -> Iterator[None]:
    sns, topic = deployment.client("sns"), deployment.arn("sns", f"daybook-{ENV}")
    for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
    yield
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="data@shop.example")


@contextmanager
def removed_role(deployment: Deployment) -> Iterator[None]:
    iam, name = deployment.client("iam"), f"daybook-{ENV}-manifests"
    role = iam.get_role(RoleName=name)["Role"]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)
    yield
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]))


@contextmanager
def registered(deployment: Deployment, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Change the registration of gold.daily_sales."""
    glue, database = deployment.client("glue"), database_name(ENV, "gold")
    found = glue.get_table(DatabaseName=database, Name="daily_sales")["Table"]
    kept = {key: found[key] for key in ("Name", "TableType", "Parameters", "StorageDescriptor")}
    changed = json.loads(json.dumps(kept))
    change(changed["StorageDescriptor"])
    glue.update_table(DatabaseName=database, TableInput=changed)
    yield
    glue.update_table(DatabaseName=database, TableInput=kept)


def column_unregistered(deployment: Deployment) -> Any:
    return registered(deployment, lambda descriptor: descriptor["Columns"].pop())


def column_registered_besides(deployment: Deployment) -> Any:
    return registered(deployment, lambda descriptor: descriptor["Columns"].append({"Name": "margin", "Type": "double"}))


def type_registered_otherwise(deployment: Deployment) -> Any:
    return registered(deployment, lambda descriptor: descriptor["Columns"][1].update(Type="string"))


def registered_elsewhere(deployment: Deployment) -> Any:
    return registered(deployment, lambda descriptor: descriptor.update(Location="s3://elsewhere/gold/daily_sales/"))


@contextmanager
def unregistered(deployment: Deployment) -> Iterator[None]:
    glue, database = deployment.client("glue"), database_name(ENV, "gold")
    found = glue.get_table(DatabaseName=database, Name="daily_sales")["Table"]
    glue.delete_table(DatabaseName=database, Name="daily_sales")
    yield
    kept = {key: found[key] for key in ("Name", "TableType", "Parameters", "StorageDescriptor")}
    glue.create_table(DatabaseName=database, TableInput=kept)


JOB = f"job daybook-{ENV}-ingest"


PROBLEMS = {
    "of different resources": [
        (open_bucket, "bucket {lake}", "failed", "does not block public access"),
        (plain_bucket, "bucket {archive}", "failed", " instead of aws:kms"),
        (bucket_without_versions, "bucket {landing}", "failed", "has no versioning"),
        (deleted_secret, "key of pseudonyms", "failed", f"daybook-{ENV}-pii-key is scheduled for deletion"),
        (changed_machine, f"state machine daybook-{ENV}-daily", "failed", "differs from orchestration/daily.asl.json"),
        (other_bundle, JOB, "failed", " does not match the digest in its name"),
        (removed_job, f"job daybook-{ENV}-quality", "failed", "does not exist"),
        (start_undelivered, "undelivered starts", "failed", f"1 in the queue daybook-{ENV}-undelivered"),
        (nobody_told, "subscriptions", "failed", "none, so messages are sent to nobody"),
        (column_unregistered, "catalogue gold", "failed", f"daily_sales lacks {DAILY_SALES.columns[-1]}"),
        (removed_role, f"role daybook-{ENV}-manifests", "failed", "does not exist"),
    ],
    "a schedule": [(schedule_off, f"schedule daybook-{ENV}-nightly", "warning", "is disabled")],
    "a key": [(disabled_key, "encryption key", "failed", "is Disabled, so no data can be read or written")],
    "a script and a column": [
        (removed_script, JOB, "failed", "glue_bootstrap.py does not exist"),
        (column_registered_besides, "catalogue gold", "failed", "daily_sales has margin, which is not in its contract"),
    ],
    "a type": [
        (type_registered_otherwise, "catalogue gold", "failed", f"daily_sales.{DAILY_SALES.columns[1]} is string instead of ")
    ],
    "a location": [
        (registered_elsewhere, "catalogue gold", "failed", "daily_sales has s3://elsewhere/gold/daily_sales/ instead of s3://")
    ],
    "a table": [(unregistered, "catalogue gold", "failed", "daily_sales is not registered")],
}
"""What is broken at once: how, and the name, state and message of the check that reports it."""


@pytest.mark.parametrize("problems", PROBLEMS.values(), ids=PROBLEMS)
def test_doctor_reports_problems_with_remedies(shared: Deployment, problems: list[tuple[Any, str, str, str]]) -> None:
    buckets = {each: shared.bucket(each) for each in ("lake", "archive", "landing")}
    with ExitStack() as broken:
        for enter, *_ in problems:
            broken.enter_context(enter(shared))
        code, found = shared.doctor()
    for _, name, state, message in problems:
        reported = found[name.format(**buckets)]
        assert reported["state"] == state
        assert message in reported["message"]
        assert reported["remedy"]
    assert code == (1 if any(state == "failed" for _, _, state, _ in problems) else 0)


def test_doctor_reports_clock_skew(shared: Deployment) -> None:
    def later() -> datetime:
        return datetime.now(timezone.utc) + timedelta(minutes=3)

    found = {each.name: each for each in run_checks(connect("eu-central-1", "doctor"), load_settings(ENV), later)}
    assert found["clock"].state == "warning"
    # AWS returns the time in whole seconds, and the request takes some.
    assert 180 <= int(found["clock"].message.split()[2]) <= 190


def test_doctor_reports_unconfirmed_subscription(shared: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    # The emulator confirms subscriptions at once; on AWS the receiver must follow a link.
    from daybook.execution.aws.account import Account

    class Waiting:
        def get_paginator(self, name: str) -> Waiting:
            assert name == "list_subscriptions_by_topic"
            return self

        def paginate(self, **_: object) -> list[dict[str, Any]]:
            return [{"Subscriptions": [{"SubscriptionArn": "PendingConfirmation", "Endpoint": "data@shop.example"}]}]

    real = Account.client
    monkeypatch.setattr(Account, "client", lambda self, name: Waiting() if name == "sns" else real(self, name))
    code, found = shared.doctor()
    assert (code, found["subscriptions"]["state"]) == (0, "warning")
    assert found["subscriptions"]["message"] == "not confirmed by data@shop.example, so they get no messages"
