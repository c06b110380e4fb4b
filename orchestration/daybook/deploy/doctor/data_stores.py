"""Check the buckets, their encryption key and the key of pseudonyms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from daybook.deploy.doctor.checks import Check, CheckContext, ProblemError, require_none
from daybook.execution.aws.account import NOT_FOUND_CODES, error_code

_BUCKETS = {
    "LakeBucket": ("aws:kms", False),
    "ArchiveBucket": ("aws:kms", True),
    "LandingBucket": ("aws:kms", True),
    "CodeBucket": ("aws:kms", True),
    # S3 delivers access logs only to buckets with SSE-S3.
    "AccessLogBucket": ("AES256", False),
}
"""Encryption and versioning of each bucket, by the parameter with its name."""


def check_data_stores(context: CheckContext) -> Iterator[Check]:
    """Run all checks of this module."""
    for parameter, (encryption, versioned) in _BUCKETS.items():
        bucket = context.values.get(parameter)
        if bucket:
            yield context.run(f"bucket {bucket}", _check_bucket, bucket, encryption, versioned)
        else:
            yield Check(parameter, "failed", "has no value", "set it under `deployment.parameters` in params/")
    yield context.run("encryption key", _check_key)
    yield context.run("key of pseudonyms", _check_secret)


def _check_bucket(context: CheckContext, bucket: str, encryption: str, versioned: bool) -> str:
    s3 = context.account.client("s3")
    s3.head_bucket(Bucket=bucket)
    problems = [
        _encryption_problem(s3, bucket, encryption),
        _public_access_problem(s3, bucket),
        _versioning_problem(s3, bucket) if versioned else None,
    ]
    require_none(problems, f"{context.deploy_command} and find out who changed it")
    return f"encrypted ({encryption}), not public{', versioned' if versioned else ''}"


def _encryption_problem(s3: Any, bucket: str, expected: str) -> Optional[str]:
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    found = {each["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for each in rules}
    return None if found == {expected} else f"is encrypted with {', '.join(sorted(found)) or 'nothing'} instead of {expected}"


def _public_access_problem(s3: Any, bucket: str) -> Optional[str]:
    from botocore.exceptions import ClientError

    try:
        found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if error_code(error) not in NOT_FOUND_CODES:
            raise
        found = {}
    return None if found and all(found.values()) else "does not block public access"


def _versioning_problem(s3: Any, bucket: str) -> Optional[str]:
    found = s3.get_bucket_versioning(Bucket=bucket).get("Status")
    return None if found == "Enabled" else "has no versioning"


def _check_key(context: CheckContext) -> str:
    alias = f"alias/daybook-{context.env}"
    found = context.account.client("kms").describe_key(KeyId=alias)["KeyMetadata"]
    if found["KeyState"] != "Enabled":
        message = f"{alias} is {found['KeyState']}, so no data can be read or written"
        raise ProblemError(message, f"run `aws kms enable-key --key-id {found['KeyId']}`")
    return f"{alias} is enabled"


def _check_secret(context: CheckContext) -> str:
    name = f"daybook-{context.env}-pii-key"
    if context.account.client("secretsmanager").describe_secret(SecretId=name).get("DeletedDate"):
        remedy = f"run `aws secretsmanager restore-secret --secret-id {name}`"
        raise ProblemError(f"{name} is scheduled for deletion", remedy)
    return f"{name} exists"
