"""``doctor`` on an emulated deployment: good as deployed, and with one thing broken each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
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

pytestmark = [pytest.mark.slow, pytest.mark.long]

DAILY_SALES = load_table("gold.daily_sales")


def test_a_deployment_is_well(shared: Deployment) -> None:
    code, found = shared.doctor()
    assert {name: each for name, each in found.items() if each["state"] != "ok"}.keys() == {"quotas"}  # not emulated
    assert code == 0
    assert shared.account.number in found["credentials"]["said"]
    assert found[f"schedule daybook-{ENV}-nightly"]["said"].endswith(" 02:00 UTC")
    assert f"bundles/{shared.bundle.name}" in found[f"job daybook-{ENV}-ingest"]["said"]


def test_the_table_says_the_same(shared: Deployment) -> None:
    code, out, error = shared.call("doctor")
    assert (code, error) == (0, "")
    assert out.splitlines()[-1].endswith(" ok, 1 warning")
    assert "active, as orchestration/daily.asl.json says" in out


def test_where_nothing_is_deployed_everything_is_told_to_be_missing(undeployed: Deployment) -> None:
    code, found = undeployed.doctor()
    assert code == 1
    missing = {name for name, each in found.items() if each["state"] == "failed"}
    assert missing == set(found) - {"credentials", "clock", "quotas", "passing roles"}
    assert {found[name]["remedy"] for name in missing if name.startswith(("stack", "job", "role"))} == {
        f"run `daybook deploy --env {ENV}`"
    }


def test_awswrangler_finds_every_published_table_with_the_types_of_its_contract(shared: Deployment) -> None:
    from awswrangler import catalog

    contracts = [each for layer in LAYERS for each in load_tables(layer).values()]
    found = {
        each.full_name: catalog.get_table_types(database_name(ENV, each.layer), each.name, boto3_session=boto3.Session())
        for each in contracts
    }
    assert found == {
        each.full_name: {column: athena_type(each.type_of(column)) for column in each.columns} for each in contracts
    }


# -- one thing broken each --------------------------------------------------------------------------------------------------


@contextmanager
def open_bucket(made: Deployment) -> Iterator[None]:
    s3, bucket = made.client("s3"), made.bucket("lake")
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={**closed, "BlockPublicPolicy": False})
    yield
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)


@contextmanager
def plain_bucket(made: Deployment) -> Iterator[None]:
    s3, bucket = made.client("s3"), made.bucket("archive")
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    s3.delete_bucket_encryption(Bucket=bucket)
    yield
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)


@contextmanager
def bucket_without_versions(made: Deployment) -> Iterator[None]:
    s3, bucket = made.client("s3"), made.bucket("landing")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    yield
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@contextmanager
def disabled_key(made: Deployment) -> Iterator[None]:
    kms = made.client("kms")
    key = kms.describe_key(KeyId=f"alias/daybook-{ENV}")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    yield
    kms.enable_key(KeyId=key)


@contextmanager
def deleted_secret(made: Deployment) -> Iterator[None]:
    secrets = made.client("secretsmanager")
    secrets.delete_secret(SecretId=f"daybook-{ENV}-pii-key", RecoveryWindowInDays=7)
    yield
    secrets.restore_secret(SecretId=f"daybook-{ENV}-pii-key")


@contextmanager
def changed_machine(made: Deployment) -> Iterator[None]:
    client, arn = made.client("stepfunctions"), made.arn("states", f"stateMachine:daybook-{ENV}-daily")
    definition = client.describe_state_machine(stateMachineArn=arn)["definition"]
    client.update_state_machine(stateMachineArn=arn, definition=json.dumps({**json.loads(definition), "TimeoutSeconds": 60}))
    yield
    client.update_state_machine(stateMachineArn=arn, definition=definition)


@contextmanager
def other_bundle(made: Deployment) -> Iterator[None]:
    s3, place = made.client("s3"), {"Bucket": made.bucket("code"), "Key": f"bundles/{made.bundle.name}"}
    s3.put_object(**place, Body=b"somebody's own", ChecksumAlgorithm="SHA256")
    yield
    s3.put_object(**place, Body=made.bundle.read_bytes(), ChecksumAlgorithm="SHA256")


@contextmanager
def removed_script(made: Deployment) -> Iterator[None]:
    s3, bucket = made.client("s3"), made.bucket("code")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    (key,) = [each for each in keys if each.endswith("glue_bootstrap.py")]
    s3.delete_object(Bucket=bucket, Key=key)
    yield
    script = (made.root / "orchestration" / "glue_bootstrap.py").read_bytes()
    s3.put_object(Bucket=bucket, Key=key, Body=script, ChecksumAlgorithm="SHA256")


@contextmanager
def removed_job(made: Deployment) -> Iterator[None]:
    glue = made.client("glue")
    job = glue.get_job(JobName=f"daybook-{ENV}-quality")["Job"]
    glue.delete_job(JobName=job["Name"])
    yield
    glue.create_job(**{key: job[key] for key in ("Name", "Role", "Command", "DefaultArguments")})


@contextmanager
def schedule_off(made: Deployment) -> Iterator[None]:
    scheduler, name = made.client("scheduler"), {"Name": f"daybook-{ENV}-nightly", "GroupName": f"daybook-{ENV}"}
    found = scheduler.get_schedule(**name)
    kept = {key: found[key] for key in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**name, **kept, State="DISABLED")
    yield
    scheduler.update_schedule(**name, **kept, State="ENABLED")


@contextmanager
def start_undelivered(made: Deployment) -> Iterator[None]:
    sqs = made.client("sqs")
    url = sqs.get_queue_url(QueueName=f"daybook-{ENV}-undelivered")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    yield
    sqs.purge_queue(QueueUrl=url)


@contextmanager
def nobody_told(made: Deployment) -> Iterator[None]:
    sns, topic = made.client("sns"), made.arn("sns", f"daybook-{ENV}")
    for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
    yield
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="data@shop.example")


@contextmanager
def removed_role(made: Deployment) -> Iterator[None]:
    iam, name = made.client("iam"), f"daybook-{ENV}-manifests"
    role = iam.get_role(RoleName=name)["Role"]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)
    yield
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]))


@contextmanager
def registered(made: Deployment, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """The registration of gold.daily_sales as somebody has changed it."""
    glue, database = made.client("glue"), database_name(ENV, "gold")
    found = glue.get_table(DatabaseName=database, Name="daily_sales")["Table"]
    kept = {key: found[key] for key in ("Name", "TableType", "Parameters", "StorageDescriptor")}
    changed = json.loads(json.dumps(kept))
    change(changed["StorageDescriptor"])
    glue.update_table(DatabaseName=database, TableInput=changed)
    yield
    glue.update_table(DatabaseName=database, TableInput=kept)


def column_unregistered(made: Deployment) -> Any:
    return registered(made, lambda told: told["Columns"].pop())


def column_registered_besides(made: Deployment) -> Any:
    return registered(made, lambda told: told["Columns"].append({"Name": "margin", "Type": "double"}))


def type_registered_otherwise(made: Deployment) -> Any:
    return registered(made, lambda told: told["Columns"][1].update(Type="string"))


def registered_elsewhere(made: Deployment) -> Any:
    return registered(made, lambda told: told.update(Location="s3://elsewhere/gold/daily_sales/"))


@contextmanager
def unregistered(made: Deployment) -> Iterator[None]:
    glue, database = made.client("glue"), database_name(ENV, "gold")
    found = glue.get_table(DatabaseName=database, Name="daily_sales")["Table"]
    glue.delete_table(DatabaseName=database, Name="daily_sales")
    yield
    kept = {key: found[key] for key in ("Name", "TableType", "Parameters", "StorageDescriptor")}
    glue.create_table(DatabaseName=database, TableInput=kept)


JOB = f"job daybook-{ENV}-ingest"


@pytest.mark.parametrize(
    ("broken", "name", "state", "said"),
    [
        (open_bucket, "bucket {lake}", "failed", "is not closed to the public"),
        (plain_bucket, "bucket {archive}", "failed", " instead of aws:kms"),
        (bucket_without_versions, "bucket {landing}", "failed", "keeps no versions of replaced objects"),
        (disabled_key, "encryption key", "failed", "is Disabled: nothing can be read or written"),
        (deleted_secret, "key of pseudonyms", "failed", f"daybook-{ENV}-pii-key is to be deleted"),
        (changed_machine, f"state machine daybook-{ENV}-daily", "failed", "is not what orchestration/daily.asl.json says"),
        (other_bundle, JOB, "failed", " is not what its name says"),
        (removed_script, JOB, "failed", "glue_bootstrap.py is not there"),
        (removed_job, f"job daybook-{ENV}-quality", "failed", "is not there"),
        (schedule_off, f"schedule daybook-{ENV}-nightly", "warning", "is switched off"),
        (start_undelivered, "undelivered starts", "failed", f"1 in the queue daybook-{ENV}-undelivered"),
        (nobody_told, "subscriptions", "failed", "nobody is told of anything"),
        (column_unregistered, "catalogue gold", "failed", f"daily_sales lacks {DAILY_SALES.columns[-1]}"),
        (column_registered_besides, "catalogue gold", "failed", "daily_sales has margin, which its contract has not"),
        (type_registered_otherwise, "catalogue gold", "failed", f"daily_sales.{DAILY_SALES.columns[1]} is string instead of "),
        (
            registered_elsewhere,
            "catalogue gold",
            "failed",
            "daily_sales is at s3://elsewhere/gold/daily_sales/ instead of s3://",
        ),
        (unregistered, "catalogue gold", "failed", "daily_sales is not registered"),
        (removed_role, f"role daybook-{ENV}-manifests", "failed", "is not there"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_what_is_broken_is_told_with_what_to_do(shared: Deployment, broken: Any, name: str, state: str, said: str) -> None:
    name = name.format(**{each: shared.bucket(each) for each in ("lake", "archive", "landing")})
    with broken(shared):
        code, found = shared.doctor()
    assert found[name]["state"] == state
    assert said in found[name]["said"]
    assert found[name]["remedy"]
    assert code == (1 if state == "failed" else 0)


def test_a_clock_that_is_off_is_told(shared: Deployment) -> None:
    def later() -> datetime:
        return datetime.now(timezone.utc) + timedelta(minutes=3)

    found = {each.name: each for each in run_checks(connect("eu-central-1", "doctor"), load_settings(ENV), later)}
    assert found["clock"].state == "warning"
    # AWS tells the time in whole seconds, and its answer takes some.
    assert 180 <= int(found["clock"].said.split(" s apart")[0]) <= 190


def test_a_subscription_that_nobody_confirmed_is_told(shared: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    # The emulator confirms what it is asked to; AWS waits for the link in the mail to be followed.
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
    assert found["subscriptions"]["said"] == "not confirmed by data@shop.example, who is told nothing"
