"""List the resources that remain after a deployment is destroyed, and delete them with their data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from daybook.deploy.change_sets import Stacks
from daybook.deploy.templates import RETAINED_STACKS, read_template
from daybook.execution.aws.account import NOT_FOUND_CODES, Account, error_code, error_reason, wrap_aws_errors

MAX_COUNTED_VERSIONS = 20_000
"""Maximum number of object versions that are counted for a bucket's size. A larger bucket shows a lower bound."""
_BATCH_SIZE = 1000
"""Maximum number of objects in a call of DeleteObjects."""
RECOVERY_DAYS = 30
"""Maximum recovery period of AWS for deleted keys and secrets, in days."""
USD_PER_GB_MONTH = {"bucket": 0.023, "log group": 0.03}
USD_PER_MONTH = {"key": 1.0, "secret": 0.4}
"""List prices of us-east-1, mid 2026."""
_RETAINED_TYPES = {"AWS::S3::Bucket": "bucket", "AWS::KMS::Key": "key", "AWS::SecretsManager::Secret": "secret"}


@dataclass(frozen=True)
class RetainedResource:
    """A resource that remains. ``size`` is in bytes, 0 for keys and secrets; ``monthly_usd`` uses list prices."""

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
    """Return the resources of a deployment that hold data: buckets, keys, secrets and logs of state machines."""
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
        sizes = [each.get("Size", 0) for each in islice(_list_versions(account, bucket), MAX_COUNTED_VERSIONS)]
    return RetainedResource("bucket", bucket, sum(sizes), is_lower_bound=len(sizes) == MAX_COUNTED_VERSIONS)


def _list_versions(account: Account, bucket: str) -> Iterator[dict[str, Any]]:
    """Yield every object version and delete marker; nothing if the bucket does not exist."""
    from botocore.exceptions import ClientError

    try:
        for page in account.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket):
            yield from (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    except ClientError as error:
        # The bucket was deleted by hand.
        if error_code(error) not in NOT_FOUND_CODES:
            raise


def remove_data(account: Account, stacks: Stacks, held: Sequence[RetainedResource]) -> Iterator[str]:
    """Delete resources that hold data, then their stacks; yield a line for each.

    Deleted keys and secrets can be restored for 30 days. Objects under Object Lock remain, and with them all keys and stacks.
    """
    locked = 0
    for each in held:
        if each.kind == "bucket":
            remaining = _delete_bucket(account, each.name)
            locked += remaining
            yield f"bucket {each.name}: {f'kept, {remaining} object versions are locked' if remaining else 'deleted'}"
        elif each.kind == "log group":
            with wrap_aws_errors(f"{each.name} could not be deleted"):
                account.client("logs").delete_log_group(logGroupName=each.name)
            yield f"log group {each.name}: deleted"
    if locked:
        yield "Keys and stacks are kept because of locked objects; run the command again after the locks expire."
        return
    for each in held:
        with wrap_aws_errors(f"The {each.kind} {each.name} could not be deleted"):
            if each.kind == "key":
                account.client("kms").schedule_key_deletion(KeyId=each.name, PendingWindowInDays=RECOVERY_DAYS)
                yield f"key {each.name}: will be deleted in {RECOVERY_DAYS} days and can be restored until then"
            elif each.kind == "secret":
                account.client("secretsmanager").delete_secret(SecretId=each.name, RecoveryWindowInDays=RECOVERY_DAYS)
                yield f"secret {each.name}: will be deleted in {RECOVERY_DAYS} days and can be restored until then"
    for name in reversed(RETAINED_STACKS):
        template = read_template(name)
        if stacks.describe_stack(template).status not in ("", "DELETE_COMPLETE"):
            stacks.delete(template)
            yield f"stack {template.stack_name(stacks.env)}: deleted"


def _delete_bucket(account: Account, bucket: str) -> int:
    """Delete every object version, then the bucket; return the number of versions that could not be deleted."""
    s3 = account.client("s3")
    remaining = 0
    versions = _list_versions(account, bucket)
    with wrap_aws_errors(f"The bucket {bucket} could not be emptied"):
        while batch := [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in islice(versions, _BATCH_SIZE)]:
            done = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            remaining += len(done.get("Errors", []))
    if not remaining:
        with wrap_aws_errors(f"The bucket {bucket} could not be deleted"):
            s3.delete_bucket(Bucket=bucket)
    return remaining
