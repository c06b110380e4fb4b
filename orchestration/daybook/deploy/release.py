"""Upload a release to the code bucket: bundle, state machines, bootstrap script and templates, named by their digests.

releases/<digest>/orchestration/*.asl.json, glue_bootstrap.py     CodePrefix in infra/pipeline.yaml
bundles/daybook-<digest>.zip                                      BundleUri
templates/<digest>/<name>.yaml                                    the templates of the stacks, for auditors
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook.deploy.bundle import DIGEST_LENGTH
from daybook.deploy.templates import STACKS
from daybook.errors import BundleError
from daybook.execution.aws.account import NOT_FOUND_CODES, Account, error_code, wrap_aws_errors
from daybook.records.archive import sha256
from daybook.settings import list_files, project_root

_RELEASED_PATTERNS = ("*.asl.json", "glue_bootstrap.py")


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release with its key in the bucket. ``sha256`` is hexadecimal."""

    key: str
    path: Path
    sha256: str

    @property
    def checksum(self) -> str:
        """The digest in base64, as S3 computes it from the received bytes."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


@dataclass(frozen=True)
class Release:
    """The files of a release and their bucket. ``prefix`` ends with a slash."""

    bucket: str
    prefix: str
    bundle: ReleaseFile
    items: tuple[ReleaseFile, ...]

    def parameters(self) -> dict[str, str]:
        """Return the template parameters for the release."""
        return {"CodePrefix": self.prefix, "BundleUri": f"s3://{self.bucket}/{self.bundle.key}"}


def plan_release(bucket: str, bundle: Path) -> Release:
    """Return the release of this checkout with ``bundle``. The same files get the same keys.

    Raises
    ------
    BundleError
        The name of the bundle does not match its digest.
    """
    bundle_file = _build_release_file("bundles", bundle)
    if bundle.name != f"daybook-{bundle_file.sha256[:DIGEST_LENGTH]}.zip":
        raise BundleError(
            f"{bundle} does not match its name: its SHA-256 starts with {bundle_file.sha256[:DIGEST_LENGTH]}; build it again "
            "with `daybook bundle`."
        )
    files = list_files(project_root() / "orchestration", *_RELEASED_PATTERNS)
    digest = sha256("".join(f"{path.name} {sha256(path.read_bytes())}\n" for path in files).encode())
    prefix = f"releases/{digest[:DIGEST_LENGTH]}/"
    items = [_build_release_file(f"{prefix}orchestration", path) for path in files]
    for name in STACKS:
        path = project_root() / "infra" / f"{name}.yaml"
        items.append(_build_release_file(f"templates/{sha256(path.read_bytes())[:DIGEST_LENGTH]}", path))
    return Release(bucket, prefix, bundle_file, (bundle_file, *items))


def upload_file(account: Account, bucket: str, item: ReleaseFile) -> bool:
    """Upload a file unless the bucket has it; return whether it was uploaded. S3 verifies the digest."""
    s3 = account.client("s3")
    with wrap_aws_errors(f"s3://{bucket}/{item.key} could not be uploaded"):
        if stored_checksum(s3, bucket, item.key) == item.checksum:
            return False
        with item.path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=item.key, Body=body, ChecksumSHA256=item.checksum)
    return True


def stored_checksum(s3: Any, bucket: str, key: str) -> str:
    """Return the SHA-256 that S3 computed for an object, in base64; empty if it has no object or no digest."""
    from botocore.exceptions import ClientError

    try:
        found = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if error_code(error) in NOT_FOUND_CODES:
            return ""
        raise
    return str(found.get("ChecksumSHA256", ""))


def _build_release_file(folder: str, path: Path) -> ReleaseFile:
    return ReleaseFile(f"{folder}/{path.name}", path, sha256(path.read_bytes()))
