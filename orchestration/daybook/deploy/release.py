"""A release: what jobs and state machines run from, under names made of its content, in the code bucket.

releases/<digits>/orchestration/*.asl.json, glue_bootstrap.py     CodePrefix in infra/pipeline.yaml
bundles/daybook-<digits>.zip                                      BundleUri
templates/<digits>/<name>.yaml                                    what the stacks were made from, for the record
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook.deploy.bundle import DIGEST_LENGTH
from daybook.deploy.templates import STACKS
from daybook.errors import BundleError
from daybook.execution.aws.account import NOT_FOUND_CODES, Account, error_code, wrap_aws_errors
from daybook.settings import list_files, project_root

_RELEASED_PATTERNS = ("*.asl.json", "glue_bootstrap.py")


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release, and its key in the bucket; ``sha256`` in hexadecimal digits."""

    key: str
    path: Path
    sha256: str

    @property
    def checksum(self) -> str:
        """The digest as S3 says it, which it works out itself from the bytes that it got."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


@dataclass(frozen=True)
class Release:
    """What is put into ``bucket``; ``prefix`` ends in a slash."""

    bucket: str
    prefix: str
    bundle: ReleaseFile
    items: tuple[ReleaseFile, ...]

    def parameters(self) -> dict[str, str]:
        """What the templates are told of it."""
        return {"CodePrefix": self.prefix, "BundleUri": f"s3://{self.bucket}/{self.bundle.key}"}


def plan_release(bucket: str, bundle: Path) -> Release:
    """The release of this checkout with a bundle that was built from it. The same files have the same names.

    Raises ``BundleError`` where the bundle is not what its name says.
    """
    packed = _build_release_file("bundles", bundle)
    if bundle.name != f"daybook-{packed.sha256[:DIGEST_LENGTH]}.zip":
        raise BundleError(
            f"{bundle} is not what its name says: its SHA-256 begins with {packed.sha256[:DIGEST_LENGTH]}; build it anew."
        )
    files = list_files(project_root() / "orchestration", *_RELEASED_PATTERNS)
    digest = hashlib.sha256("".join(f"{path.name} {_file_sha256(path)}\n" for path in files).encode()).hexdigest()
    prefix = f"releases/{digest[:DIGEST_LENGTH]}/"
    items = [_build_release_file(f"{prefix}orchestration", path) for path in files]
    for name in STACKS:
        path = project_root() / "infra" / f"{name}.yaml"
        items.append(_build_release_file(f"templates/{_file_sha256(path)[:DIGEST_LENGTH]}", path))
    return Release(bucket, prefix, packed, (packed, *items))


def upload_file(account: Account, bucket: str, item: ReleaseFile) -> bool:
    """Put a file where it is not yet; whether it had to be. S3 refuses bytes that are not those of the digest."""
    s3 = account.client("s3")
    with wrap_aws_errors(f"s3://{bucket}/{item.key} could not be uploaded"):
        if stored_checksum(s3, bucket, item.key) == item.checksum:
            return False
        with item.path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=item.key, Body=body, ChecksumSHA256=item.checksum)
    return True


def stored_checksum(s3: Any, bucket: str, key: str) -> str:
    """The SHA-256 that S3 worked out when it got an object, in base64; empty where there is no object, or none was."""
    from botocore.exceptions import ClientError

    try:
        found = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if error_code(error) in NOT_FOUND_CODES:
            return ""
        raise
    return str(found.get("ChecksumSHA256", ""))


def _build_release_file(folder: str, path: Path) -> ReleaseFile:
    return ReleaseFile(f"{folder}/{path.name}", path, _file_sha256(path))


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
