"""What outlives a deployment that is removed, what it costs to keep, and removing that too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from daybook.deploy.change_sets import Stacks
from daybook.deploy.templates import RETAINED_STACKS, read_template
from daybook.execution.aws.account import Account, wrap_aws_errors

MAX_COUNTED_VERSIONS = 20_000
"""So many versions of objects are looked at to tell a bucket's size; of a larger one, the price is a least one."""
RECOVERY_DAYS = 30
"""The longest time that AWS lets a key or secret be called back in."""
USD_PER_GB_MONTH = {"bucket": 0.023, "log group": 0.03}
USD_PER_MONTH = {"key": 1.0, "secret": 0.4}
"""List prices of us-east-1, mid 2026."""
_RETAINED_TYPES = {"AWS::S3::Bucket": "bucket", "AWS::KMS::Key": "key", "AWS::SecretsManager::Secret": "secret"}


@dataclass(frozen=True)
class RetainedResource:
    """Something that stays: ``size`` in bytes, 0 where it has none; ``monthly_usd`` at list prices."""

    kind: str
    name: str
    size: int = 0
    is_lower_bound: bool = False

    @property
    def monthly_usd(self) -> float:
        return USD_PER_MONTH.get(self.kind, 0.0) + self.size / 1e9 * USD_PER_GB_MONTH.get(self.kind, 0.0)

    def describe(self) -> str:
        size = (
            f", {'more than ' if self.is_lower_bound else ''}{self.size / 1e6:,.1f} MB" if self.kind in USD_PER_GB_MONTH else ""
        )
        return f"{self.kind} {self.name}{size}, about {self.monthly_usd:,.2f} USD a month"


def list_retained(account: Account, env: str) -> list[RetainedResource]:
    """What of a deployment holds data: the foundation's buckets and keys, and the logs of state machines."""
    found = []
    for each in _foundation_resources(account, env):
        kind = _RETAINED_TYPES.get(each["ResourceType"])
        if kind == "bucket":
            found.append(_measure_bucket(account, each["PhysicalResourceId"]))
        elif kind:
            found.append(RetainedResource(kind, each["PhysicalResourceId"]))
    with wrap_aws_errors("The log groups could not be listed"):
        pages = account.client("logs").get_paginator("describe_log_groups")
        for page in pages.paginate(logGroupNamePrefix=f"/aws/vendedlogs/states/daybook-{env}-"):
            found += [
                RetainedResource("log group", each["logGroupName"], each.get("storedBytes", 0)) for each in page["logGroups"]
            ]
    return found


def _foundation_resources(account: Account, env: str) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError

    from daybook.execution.aws.account import error_reason

    stack = read_template("foundation").stack_name(env)
    with wrap_aws_errors(f"The resources of {stack} could not be listed"):
        try:
            found = account.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        except ClientError as error:
            if "does not exist" in error_reason(error):
                return []
            raise
    return [each for each in found if each["ResourceStatus"] != "DELETE_COMPLETE"]


def _measure_bucket(account: Account, bucket: str) -> RetainedResource:
    with wrap_aws_errors(f"The bucket {bucket} could not be listed"):
        counted = size = 0
        for version in _list_versions(account, bucket):
            counted, size = counted + 1, size + version.get("Size", 0)
            if counted >= MAX_COUNTED_VERSIONS:
                return RetainedResource("bucket", bucket, size, is_lower_bound=True)
    return RetainedResource("bucket", bucket, size)


def _list_versions(account: Account, bucket: str) -> Iterator[dict[str, Any]]:
    """Every version of every object, and the marks of deleted ones."""
    from botocore.exceptions import ClientError

    from daybook.execution.aws.account import NOT_FOUND_CODES, error_code

    try:
        for page in account.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket):
            yield from (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    except ClientError as error:
        # A bucket that somebody removed by hand.
        if error_code(error) not in NOT_FOUND_CODES:
            raise


def remove_data(account: Account, stacks: Stacks, held: Sequence[RetainedResource]) -> Iterator[str]:
    """Remove what holds data, then the stacks that held it; a line for each. Keys can be called back for 30 days.

    What Object Lock keeps is kept, and with it the key that it is encrypted by, and its stack: nothing here goes around a lock.
    """
    locked = 0
    for each in held:
        if each.kind == "bucket":
            left = _delete_bucket(account, each.name)
            locked += left
            yield f"bucket {each.name}: {f'{left} versions of objects are locked and stay' if left else 'removed'}"
        elif each.kind == "log group":
            with wrap_aws_errors(f"{each.name} could not be removed"):
                account.client("logs").delete_log_group(logGroupName=each.name)
            yield f"log group {each.name}: removed"
    if locked:
        yield "Keys and stacks stay for what is locked; run it again once the locks have run out."
        return
    for each in held:
        with wrap_aws_errors(f"The {each.kind} {each.name} could not be removed"):
            if each.kind == "key":
                account.client("kms").schedule_key_deletion(KeyId=each.name, PendingWindowInDays=RECOVERY_DAYS)
                yield f"key {each.name}: goes in {RECOVERY_DAYS} days, until when it can be called back"
            elif each.kind == "secret":
                account.client("secretsmanager").delete_secret(SecretId=each.name, RecoveryWindowInDays=RECOVERY_DAYS)
                yield f"secret {each.name}: goes in {RECOVERY_DAYS} days, until when it can be called back"
    for name in reversed(RETAINED_STACKS):
        template = read_template(name)
        if stacks.describe_stack(template).status not in ("", "DELETE_COMPLETE"):
            stacks.delete(template)
            yield f"stack {template.stack_name(stacks.env)}: removed"


def _delete_bucket(account: Account, bucket: str) -> int:
    """Remove every version of every object, and the bucket; how many versions could not be."""
    s3 = account.client("s3")
    kept = 0
    with wrap_aws_errors(f"The bucket {bucket} could not be emptied"):
        batch: list[dict[str, str]] = []
        for version in _list_versions(account, bucket):
            batch.append({"Key": version["Key"], "VersionId": version["VersionId"]})
            if len(batch) == 1000:
                kept += _delete_versions(s3, bucket, batch)
                batch = []
        if batch:
            kept += _delete_versions(s3, bucket, batch)
    if not kept:
        with wrap_aws_errors(f"The bucket {bucket} could not be removed"):
            s3.delete_bucket(Bucket=bucket)
    return kept


def _delete_versions(s3: Any, bucket: str, batch: list[dict[str, str]]) -> int:
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
    return len(done.get("Errors", []))
