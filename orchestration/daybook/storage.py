"""Read, list and write objects under a URI, in a folder or a bucket.

Writes are atomic: a file is written under a temporary name and then linked; an object in a bucket is one request.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Optional, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from daybook.errors import ObjectExistsError, StorageError

if TYPE_CHECKING:
    from obstore import ObjectMeta

_OS_ERROR_ADVICE = {
    errno.ENOSPC: "its disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than the disk or a limit allows; raise the limit",
    errno.EROFS: "it is read-only; make it writable",
    errno.EACCES: "permission is denied; give this user write permission",
    errno.EPERM: "permission is denied; give this user write permission",
    errno.EIO: "its disk fails to read or write; check the disk",
    errno.ESTALE: "its network share is not mounted; mount it again",
    errno.EMFILE: "too many files are open; raise the limit",
}
"""Reason and advice by the error number of the operating system."""
request_counts: Counter[str] = Counter()
"""Number of requests to buckets that this process made, by S3 billing class: ``writes`` (puts, listings) and ``reads``."""
CHUNK_BYTES = 1 << 20
"""Bytes of a chunk of a large object or file."""
_MAX_MEMORY_BYTES = 8 << 20
"""Bytes up to which a file of ``open_spooled_file`` is kept in memory. A larger one is on disk."""
_LIST_PAGE_SIZE = 1000
_PARTIAL_OBJECT_NAME = re.compile(r".*#\d+")
"""Temporary names of partly written files. A killed process can leave such a file."""


def describe_os_error(error: BaseException) -> Optional[str]:
    """Return reason and advice for an I/O error of the operating system; None for any other error.

    Libraries written in Rust give the error number in their message only.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        matched = re.search(r"\(os error (\d+)\)|\bOs \{\s*code: (\d+)", str(error))
        number = int(matched[1] or matched[2]) if matched else None
    return _OS_ERROR_ADVICE.get(number) if number is not None else None


def storage_write_error(location: object, error: BaseException, retry_advice: str = "run it again") -> StorageError:
    """Return the error for a location that could not be written.

    ``retry_advice`` completes "…, then": what to do once the cause is removed.
    """
    reason = describe_os_error(error) or _describe_error(error)
    return StorageError(f"{location} could not be written: {reason}, then {retry_advice}.")


def storage_read_error(location: object, error: BaseException) -> StorageError:
    """Return the error for a location that could not be read or listed."""
    return StorageError(
        f"{location} could not be read: {describe_os_error(error) or _describe_error(error)}, then run it again."
    )


@contextlib.contextmanager
def wrap_write_errors(location: object, retry_advice: str = "run it again") -> Iterator[None]:
    """Wrap I/O errors of the operating system, while ``location`` is written, in ``StorageError``."""
    try:
        yield
    except OSError as error:
        if describe_os_error(error) is None:
            raise
        raise storage_write_error(location, error, retry_advice) from error


def require_writable(uri: str) -> None:
    """Raise ``StorageError`` if no file can be created in a folder, so that a run fails before it starts."""
    if "://" in uri:
        return
    folder = Path(uri)
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    # access() also detects a read-only mount, which root cannot write to either.
    if not os.access(existing, os.W_OK):
        flags = os.statvfs(existing).f_flag
        raise storage_write_error(uri, OSError(errno.EROFS if flags & os.ST_RDONLY else errno.EACCES, "not writable"))


def open_spooled_file() -> BinaryIO:
    """Open an empty temporary file that is in memory up to 8 MiB and then on disk without a name."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES))


class TaggedFile(NamedTuple):
    """The content of an object as a spooled file, and the version tag of that content."""

    file: BinaryIO
    version_tag: str


class ObjectInfo(NamedTuple):
    """An object in a listing: its key, its size in bytes and the UTC time of its last write."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class ArrivedObject:
    """An object in a listing: its size in bytes, and the UTC time at which it appeared under its key."""

    bytes: int
    arrived_at: datetime


class Store:
    """The objects under one root URI. Keys are relative to it and use ``/``."""

    def __init__(self, uri: str) -> None:
        self.uri = re.sub(r"(?<=[^:/])/+$", "", uri)
        self._bucket: Optional[ObjectStore] = None
        if "://" in self.uri:
            self._bucket = from_url(self.uri, **(obstore_options() if is_bucket(self.uri) else {}))

    def _count(self, kind: str, number: int = 1) -> None:
        if self._bucket is not None:
            request_counts[kind] += number

    @contextlib.contextmanager
    def _reading(self, key: str, kind: str = "reads") -> Iterator[ObjectStore]:
        """Open the store for a request; wrap obstore errors in ``StorageError``, except ``FileNotFoundError``."""
        self._count(kind)
        try:
            yield self._open()
        except BaseError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise storage_read_error(self.href(key), error) from error

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[ObjectStore]:
        """Open the store for a put; wrap errors in ``StorageError``."""
        self._count("writes")
        try:
            yield self._open(write=True)
        except AlreadyExistsError:
            raise ObjectExistsError(
                f"{self.href(key)} already exists and is never overwritten; start another run instead."
            ) from None
        except (BaseError, OSError) as error:
            raise storage_write_error(self.href(key), error) from error

    def _list(self, prefix: str) -> list[ObjectMeta]:
        with self._reading(prefix, "writes") as store:
            found = list(obstore.list(store, prefix or None).collect())
        self._count("writes", len(found) // _LIST_PAGE_SIZE)
        return found

    def _open(self, *, write: bool = False) -> ObjectStore:
        if self._bucket is not None:
            return self._bucket
        if not write and not Path(self.uri).is_dir():
            # Reading must not create the folder. The first write does.
            return MemoryStore()
        return LocalStore(self.uri, mkdir=True)

    def href(self, key: str) -> str:
        """Return the full name of an object, for messages and links."""
        return f"{self.uri}/{key}"

    def read(self, key: str) -> bytes:
        """Return an object's bytes. Raises ``FileNotFoundError`` if it does not exist."""
        with self._reading(key) as store:
            return bytes(obstore.get(store, key).bytes())

    def read_with_e_tag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and its ETag, for ``replace_if_unchanged``. Raises ``FileNotFoundError``."""
        with self._reading(key) as store:
            found = obstore.get(store, key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def read_with_version_tag(self, key: str) -> TaggedFile:
        """Read an object and its version tag in one request. Raises ``FileNotFoundError`` if it does not exist."""
        with self._reading(key) as store:
            found = obstore.get(store, key)
            file = open_spooled_file()  # The caller closes it.
            if found.meta["size"] <= _MAX_MEMORY_BYTES:
                file.write(found.bytes())
            else:
                for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
            file.seek(0)
            return TaggedFile(file, _format_version_tag(dict(found.meta)))

    def version_tag(self, key: str) -> str:
        """Return a text that changes with each write of an object: ETag (inode, time and size in a folder), size and time of
        the last change. Raises ``FileNotFoundError`` if the object does not exist."""
        with self._reading(key) as store:
            return _format_version_tag(dict(obstore.head(store, key)))

    def exists(self, key: str) -> bool:
        try:
            self.version_tag(key)
        except FileNotFoundError:
            return False
        return True

    def keys(self, prefix: str = "") -> list[str]:
        """Return every key under a prefix of whole path segments, sorted."""
        return sorted(str(item["path"]) for item in self._list(prefix))

    def list_objects(self, prefix: str = "") -> list[ObjectInfo]:
        """Return every object under a prefix of whole path segments with size and write time, sorted by key.

        For landing, where files are moved in, use ``list_arrivals``.
        """
        return sorted(ObjectInfo(str(item["path"]), int(item["size"]), item["last_modified"]) for item in self._list(prefix))

    def list_arrivals(self, prefix: str = "") -> dict[str, ArrivedObject]:
        """Return every object under a prefix of whole path segments by key, sorted, with size and arrival time."""
        arrivals = {
            str(item["path"]): ArrivedObject(item["size"], self._arrival_time(item["path"], item["last_modified"]))
            for item in self._list(prefix)
        }
        return dict(sorted(arrivals.items()))

    def _arrival_time(self, key: str, modified: datetime) -> datetime:
        """Return when an object appeared under its key.

        A bucket records when an object was put. A file that is moved or copied (mv, cp -p, rsync -t, tar) keeps its
        modification time, but its status change time is new and cannot be set.
        """
        if self._bucket is not None:
            return modified
        try:
            changed = (Path(self.uri) / key).stat().st_ctime
        except FileNotFoundError:  # The listing escaped the name, or the file was removed since.
            return modified
        return max(modified, datetime.fromtimestamp(changed, timezone.utc))

    def list_folders(self, prefix: str = "") -> list[str]:
        """Return the names of folders with objects one level below a prefix, sorted."""
        with self._reading(prefix, "writes") as store:
            found = obstore.list_with_delimiter(store, prefix or None)
        paths = sorted(str(path) for path in found["common_prefixes"])
        if self._bucket is None:
            # A failed or interrupted first write leaves an empty folder.
            paths = [path for path in paths if _holds_objects(Path(self.uri) / path)]
        return [path.rsplit("/", 1)[-1] for path in paths]

    def create(self, key: str, data: bytes) -> None:
        """Write a new object with a conditional put.

        Raises ``ObjectExistsError`` if it exists and ``StorageError`` if it cannot be written.
        """
        with self._writing(key) as store:
            obstore.put(store, key, data, mode="create")

    def replace(self, key: str, data: bytes) -> None:
        """Write or overwrite an object. Not for records, which are immutable."""
        with self._writing(key) as store:
            obstore.put(store, key, data)

    def replace_if_unchanged(self, key: str, data: bytes, e_tag: str) -> bool:
        """Overwrite an object with a conditional put; return whether it still had this ETag. Not for folders."""
        with self._writing(key) as store:
            try:
                obstore.put(store, key, data, mode={"e_tag": e_tag})
            except (PreconditionError, FileNotFoundError):
                return False
        return True

    def remove(self, key: str) -> None:
        """Delete an object if it exists. Not for records, which are immutable."""
        try:
            obstore.delete(self._open(), key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise storage_write_error(self.href(key), error) from error


def _describe_error(error: BaseException) -> str:
    undecodable = re.search(r'Path "[^"]*?([^"/]+)" contained non-unicode', str(error))
    if undecodable:
        return f"the name of {undecodable[1]} is not UTF-8; rename or remove that file"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{first}; fix the cause"


def _format_version_tag(meta: dict[str, object]) -> str:
    return f"{meta.get('e_tag')} {meta['size']} {meta['last_modified']}"


def _holds_objects(folder: Path) -> bool:
    # A lazy walk stops at the first object: a table can have a thousand folders.
    return any(not _PARTIAL_OBJECT_NAME.fullmatch(name) for _, _, files in os.walk(folder) for name in files)


_MAX_RETRIES = 6
"""Maximum number of retries of a request, with pauses that double: about six seconds. After a longer outage the
state machine retries the stage."""
_RETRY_TIMEOUT = timedelta(seconds=60)
"""Timeout for all retries of one request together."""
_CREDENTIAL_LIFETIME = timedelta(minutes=5)
"""How long obstore caches credentials."""


def is_bucket(uri: str) -> bool:
    """Return whether a URI is in S3 rather than a local folder."""
    return uri.startswith("s3://")


def s3_endpoint() -> Optional[str]:
    """Return the S3 endpoint from the environment variables that AWS's tools read; None for AWS's own endpoint."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def obstore_options() -> dict[str, Any]:
    """Return arguments of ``obstore.store.from_url`` for a bucket.

    Raises ``StorageError`` if there are no credentials or no region.
    """
    config = {"aws_region": _find_region()}
    endpoint = s3_endpoint()
    if endpoint:
        config["aws_endpoint"] = endpoint
    _load_credentials()
    return {
        # A bucket with Object Lock refuses a put without a checksum.
        "config": {**config, "aws_checksum_algorithm": "SHA256"},
        "client_options": {"allow_http": True} if endpoint and endpoint.startswith("http://") else {},
        "retry_config": {"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        "credential_provider": _obstore_credentials,
    }


def delta_options(uri: str) -> Optional[dict[str, str]]:
    """Return delta-rs's ``storage_options`` for a table; None for a local folder.

    A commit is a conditional put: of two writers of one version, one gets an error. Raises ``StorageError`` if there are no
    credentials or no region.
    """
    if not is_bucket(uri):
        return None
    key, secret, token = _load_credentials()
    options = {
        "aws_region": _find_region(),
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_conditional_put": "etag",
        "max_retries": str(_MAX_RETRIES),
        "retry_timeout": f"{_RETRY_TIMEOUT.seconds}s",
    }
    if token:
        options["aws_session_token"] = token
    endpoint = s3_endpoint()
    if endpoint:
        options["aws_endpoint"] = endpoint
        options["aws_allow_http"] = str(endpoint.startswith("http://")).lower()
    return options


def arrow_options() -> dict[str, Any]:
    """Return arguments of ``pyarrow.fs.S3FileSystem``. Raises ``StorageError`` if there are no credentials or no region."""
    key, secret, token = _load_credentials()
    options: dict[str, Any] = {"access_key": key, "secret_key": secret, "session_token": token, "region": _find_region()}
    endpoint = s3_endpoint()
    if endpoint:
        scheme, _, host = endpoint.rstrip("/").partition("://")
        options.update(scheme=scheme, endpoint_override=host)
    return options


def _find_region() -> str:
    # AWS services set AWS_REGION. boto3 reads only AWS_DEFAULT_REGION and the profile.
    found = os.environ.get("AWS_REGION") or _session(_aws_environment()).get_config_variable("region")
    if not found:
        raise StorageError("No AWS region is configured; set AWS_REGION, or a region in the AWS profile.")
    return str(found)


def _load_credentials() -> tuple[str, str, Optional[str]]:
    """Return access key, secret key and session token, valid for at least some minutes."""
    from botocore.exceptions import BotoCoreError

    try:
        found = _session(_aws_environment()).get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise StorageError(f"AWS credentials cannot be loaded: {reason}; sign in again, or set AWS_PROFILE.") from error
    if frozen is None:
        raise StorageError("No AWS credentials were found; sign in with `aws sso login`, or set AWS_PROFILE.")
    return frozen.access_key, frozen.secret_key, frozen.token


def _obstore_credentials() -> dict[str, Any]:
    """Return credentials in the form that obstore expects."""
    key, secret, token = _load_credentials()
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": datetime.now(timezone.utc) + _CREDENTIAL_LIFETIME,
    }


def _aws_environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


@functools.lru_cache(maxsize=2)
def _session(environment: tuple[tuple[str, str], ...]) -> Any:
    """Return one botocore session per state of the environment variables. It caches the credentials of a role or sign-on."""
    import botocore.session  # A slow import, which deployments in local folders do not need.

    return botocore.session.Session()
