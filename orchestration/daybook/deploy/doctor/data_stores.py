"""What holds data: buckets, the key that encrypts them, the key of pseudonyms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from daybook.deploy.doctor.checks import Check, CheckContext, build_check, is_not_found, run_check

_BUCKETS = {
    "LakeBucket": ("aws:kms", False),
    "ArchiveBucket": ("aws:kms", True),
    "LandingBucket": ("aws:kms", True),
    "CodeBucket": ("aws:kms", True),
    # S3 delivers access logs to buckets encrypted by its own keys only.
    "AccessLogBucket": ("AES256", False),
}
"""By the parameter that names it: how a bucket is encrypted, and whether it keeps versions."""


def check_data_stores(patient: CheckContext) -> Iterator[Check]:
    """All of these questions."""
    for parameter, (encryption, versioned) in _BUCKETS.items():
        bucket = patient.values.get(parameter)
        if bucket:
            yield _check_bucket(patient, bucket, encryption, versioned)
        else:
            yield Check(parameter, "failed", "has no name", "name it under `deployment.parameters` in params/")
    yield run_check("encryption key", patient.deploy_command, lambda: _check_key(patient))
    yield run_check("key of pseudonyms", patient.deploy_command, lambda: _check_secret(patient))


def _check_bucket(patient: CheckContext, bucket: str, encryption: str, versioned: bool) -> Check:
    name = f"bucket {bucket}"

    def question() -> Check:
        s3 = patient.account.client("s3")
        s3.head_bucket(Bucket=bucket)
        wrong = [
            _encryption_problem(s3, bucket, encryption),
            _public_access_problem(s3, bucket),
            _versioning_problem(s3, bucket) if versioned else None,
        ]
        good = f"encrypted ({encryption}), closed to the public{', versioned' if versioned else ''}"
        return build_check(name, good, wrong, f"{patient.deploy_command} and see who changed it")

    return run_check(name, patient.deploy_command, question)


def _encryption_problem(s3: Any, bucket: str, wanted: str) -> Optional[str]:
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    found = {each["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for each in rules}
    return None if found == {wanted} else f"is encrypted by {', '.join(sorted(found)) or 'nothing'} instead of {wanted}"


def _public_access_problem(s3: Any, bucket: str) -> Optional[str]:
    from botocore.exceptions import ClientError

    try:
        found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if not is_not_found(error):
            raise
        found = {}
    return None if found and all(found.values()) else "is not closed to the public"


def _versioning_problem(s3: Any, bucket: str) -> Optional[str]:
    found = s3.get_bucket_versioning(Bucket=bucket).get("Status")
    return None if found == "Enabled" else "keeps no versions of replaced objects"


def _check_key(patient: CheckContext) -> Check:
    alias = f"alias/daybook-{patient.env}"
    found = patient.account.client("kms").describe_key(KeyId=alias)["KeyMetadata"]
    state = found["KeyState"]
    wrong = None if state == "Enabled" else f"{alias} is {state}: nothing can be read or written"
    return build_check("encryption key", f"{alias} is enabled", [wrong], f"`aws kms enable-key --key-id {found['KeyId']}`")


def _check_secret(patient: CheckContext) -> Check:
    name = f"daybook-{patient.env}-pii-key"
    found = patient.account.client("secretsmanager").describe_secret(SecretId=name)
    wrong = f"{name} is to be deleted" if found.get("DeletedDate") else None
    return build_check(
        "key of pseudonyms", f"{name} is there", [wrong], f"`aws secretsmanager restore-secret --secret-id {name}`"
    )
