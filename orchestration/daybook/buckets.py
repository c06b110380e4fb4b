"""How each library that reads or writes a bucket gets there: region, endpoint and credentials as boto3 finds them.

Here: what obstore, delta-rs and Arrow are told, so that a profile, a role or a single sign-on that works for one of them works
for all; each by itself knows only some ways to credentials. Not here: what is read and written (``storage``, ``lake``).

Whoever opens something gets credentials that are valid then; botocore renews them before they end.
"""

from __future__ import annotations

import functools
import os
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from daybook.errors import StorageError

_TRIES = 6
"""After so many, a service that cannot be reached is told of: some six seconds, each pause twice the one before it. What lasts
longer the state machine tries again."""
_PATIENCE = timedelta(seconds=60)
"""For all tries of one request together."""
_RENEWED = timedelta(minutes=5)
"""For so long a library keeps credentials before it asks again."""


def is_bucket(uri: str) -> bool:
    """Whether a place is in S3, rather than a folder of this machine."""
    return uri.startswith("s3://")


def endpoint() -> Optional[str]:
    """Another place than AWS's own where S3 is, as AWS's tools are told it; None without one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def obstore_options() -> dict[str, Any]:
    """Arguments of ``obstore.store.from_url`` for a bucket. ``StorageError`` where there are no credentials or no region."""
    config = {"aws_region": _region()}
    place = endpoint()
    if place:
        config["aws_endpoint"] = place
    _credentials()
    return {
        # A bucket with Object Lock refuses a put without a checksum.
        "config": {**config, "aws_checksum_algorithm": "SHA256"},
        "client_options": {"allow_http": True} if place and place.startswith("http://") else {},
        "retry_config": {"max_retries": _TRIES, "retry_timeout": _PATIENCE},
        "credential_provider": _fresh,
    }


def delta_options(uri: str) -> Optional[dict[str, str]]:
    """Delta-rs's ``storage_options`` for a table: None in a folder. ``StorageError`` as above.

    A commit is a conditional put: of two writers of one version, one is told that it came second.
    """
    if not is_bucket(uri):
        return None
    key, secret, token = _credentials()
    options = {
        "aws_region": _region(),
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_conditional_put": "etag",
        "max_retries": str(_TRIES),
        "retry_timeout": f"{_PATIENCE.seconds}s",
    }
    if token:
        options["aws_session_token"] = token
    place = endpoint()
    if place:
        options["aws_endpoint"] = place
        options["aws_allow_http"] = str(place.startswith("http://")).lower()
    return options


def arrow_options() -> dict[str, Any]:
    """Arguments of ``pyarrow.fs.S3FileSystem``. ``StorageError`` as above."""
    key, secret, token = _credentials()
    options: dict[str, Any] = {"access_key": key, "secret_key": secret, "session_token": token, "region": _region()}
    place = endpoint()
    if place:
        scheme, _, host = place.rstrip("/").partition("://")
        options.update(scheme=scheme, endpoint_override=host)
    return options


def _region() -> str:
    # AWS_REGION is what its services set; boto3 reads the other name only, and the profile's.
    found = os.environ.get("AWS_REGION") or _session(_surroundings()).get_config_variable("region")
    if not found:
        raise StorageError("No AWS region is known here; set AWS_REGION, or a region in the profile of AWS's own tools.")
    return str(found)


def _credentials() -> tuple[str, str, Optional[str]]:
    """Access key, secret key and session token, valid for some minutes at least."""
    from botocore.exceptions import BotoCoreError

    try:
        found = _session(_surroundings()).get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise StorageError(f"AWS credentials cannot be had here: {said}; sign in again, or set AWS_PROFILE.") from error
    if frozen is None:
        raise StorageError("There are no AWS credentials here; sign in with `aws sso login`, or set AWS_PROFILE.")
    return frozen.access_key, frozen.secret_key, frozen.token


def _fresh() -> dict[str, Any]:
    """Credentials as obstore asks for them."""
    key, secret, token = _credentials()
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": datetime.now(timezone.utc) + _RENEWED,
    }


def _surroundings() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


@functools.lru_cache(maxsize=2)
def _session(surroundings: tuple[tuple[str, str], ...]) -> Any:
    """One session as long as the surroundings are the same: it keeps credentials that a role or a sign-on gave."""
    import botocore.session  # slow, and not needed where all places are folders

    return botocore.session.Session()
