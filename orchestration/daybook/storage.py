"""One way to read, list and create objects under a URI, be it a folder or a bucket.

An object is there whole or not at all: a folder's is written under another name and linked, a bucket's is one request.
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
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from daybook.errors import ObjectExistsError, StorageError

if TYPE_CHECKING:
    from obstore import ObjectMeta

_OS_ERROR_ADVICE = {
    errno.ENOSPC: "its disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than the disk or a limit allows; raise the limit",
    errno.EROFS: "it is read-only; make it writable",
    errno.EACCES: "permission is denied; let this user write there",
    errno.EPERM: "permission is denied; let this user write there",
    errno.EIO: "its disk fails to read or write; look at the disk",
    errno.ESTALE: "its network share is gone; mount it again",
    errno.EMFILE: "too many files are open; raise the limit",
}
"""What a machine may have against a file, and what a person can do about it."""
request_counts: Counter[str] = Counter()
"""Requests to buckets that this process has made here, by what S3 bills them as: ``writes`` (puts, listings) and ``reads``."""
CHUNK_BYTES = 1 << 20
"""Bytes that a large object or file is read by."""
_MAX_MEMORY_BYTES = 8 << 20
"""Bytes of a ``open_spooled_file`` file which are kept in memory; of a larger one all are on disk."""
_LIST_PAGE_SIZE = 1000
_PARTIAL_OBJECT_NAME = re.compile(r".*#\d+")
"""The names under which a folder's objects are written before they are whole; a killed process may leave one behind."""


def describe_os_error(error: BaseException) -> Optional[str]:
    """What a machine has against a file, and what to do; None where the error is of another kind.

    Libraries written in Rust tell the system's number in their text only.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        told = re.search(r"\(os error (\d+)\)|\bOs \{\s*code: (\d+)", str(error))
        number = int(told[1] or told[2]) if told else None
    return _OS_ERROR_ADVICE.get(number) if number is not None else None


def storage_write_error(place: object, error: BaseException, then: str = "run it again") -> StorageError:
    """The sentence for a place that could not be written, and what to do once it can be."""
    return StorageError(f"{place} could not be written: {describe_os_error(error) or _describe_error(error)}, then {then}.")


def storage_read_error(place: object, error: BaseException) -> StorageError:
    """The sentence for a place that could not be read or listed."""
    return StorageError(f"{place} could not be read: {describe_os_error(error) or _describe_error(error)}, then run it again.")


@contextlib.contextmanager
def _wrap_read_errors(place: str) -> Iterator[None]:
    """Tell what obstore could not read or list as ``StorageError``; that there is no such object stays what it is."""
    try:
        yield
    except BaseError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise storage_read_error(place, error) from error


@contextlib.contextmanager
def wrap_write_errors(place: object, then: str = "run it again") -> Iterator[None]:
    """Tell a machine's fault while ``place`` is written as ``StorageError``; what else goes wrong stays what it is."""
    try:
        yield
    except OSError as error:
        if describe_os_error(error) is None:
            raise
        raise storage_write_error(place, error, then) from error


def require_writable(uri: str) -> None:
    """Raise ``StorageError`` where a folder is certain not to take a file: told at once rather than by retries."""
    if "://" in uri:
        return
    place = Path(uri)
    there = next(each for each in (place, *place.parents) if each.exists())
    # The system answers for the mount too, which not even root can write to where it is read-only.
    if not os.access(there, os.W_OK):
        flags = os.statvfs(there).f_flag
        raise storage_write_error(uri, OSError(errno.EROFS if flags & os.ST_RDONLY else errno.EACCES, "not writable"))


def open_spooled_file() -> BinaryIO:
    """An empty file: in memory while it is small, then one of the system's for temporary files that has no name."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES))


class TaggedFile(NamedTuple):
    """What an object held, as a file that is in memory while it is small, and the mark of what was read."""

    file: BinaryIO
    mark: str


class ObjectInfo(NamedTuple):
    """An object as a listing has it: its size in bytes, and when it was last written, in UTC."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class ArrivedObject:
    """An object as a listing knows it, unread: its size in bytes, and when it came to be where it is (UTC)."""

    bytes: int
    arrived_at: datetime


class Store:
    """The objects under one root URI; keys are relative and use ``/``."""

    def __init__(self, uri: str) -> None:
        self.uri = re.sub(r"(?<=[^:/])/+$", "", uri)
        self._bucket: Optional[ObjectStore] = None
        if "://" in self.uri:
            self._bucket = from_url(self.uri, **(obstore_options() if is_bucket(self.uri) else {}))

    def _count(self, kind: str, number: int = 1) -> None:
        if self._bucket is not None:
            request_counts[kind] += number

    def _list(self, prefix: str) -> list[ObjectMeta]:
        with _wrap_read_errors(self.href(prefix)):
            found = list(obstore.list(self._open(), prefix or None).collect())
        self._count("writes", 1 + len(found) // _LIST_PAGE_SIZE)
        return found

    def _open(self, *, write: bool = False) -> ObjectStore:
        if self._bucket is not None:
            return self._bucket
        if not write and not Path(self.uri).is_dir():
            # Looking at a place must not make it: a folder appears with its first object.
            return MemoryStore()
        return LocalStore(self.uri, mkdir=True)

    def href(self, key: str) -> str:
        """The full name of an object, for messages and links."""
        return f"{self.uri}/{key}"

    def read(self, key: str) -> bytes:
        """The object's bytes; ``FileNotFoundError`` where there is none."""
        self._count("reads")
        with _wrap_read_errors(self.href(key)):
            return bytes(obstore.get(self._open(), key).bytes())

    def read_with_version_tag(self, key: str) -> TaggedFile:
        """The object's bytes and its mark when they began to be read, from one request; ``FileNotFoundError`` without one."""
        self._count("reads")
        with _wrap_read_errors(self.href(key)):
            found = obstore.get(self._open(), key)
            file = open_spooled_file()  # Its reader closes it.
            if found.meta["size"] <= _MAX_MEMORY_BYTES:
                file.write(found.bytes())
            else:
                for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
            file.seek(0)
            return TaggedFile(file, _format_version_tag(dict(found.meta)))

    def mark(self, key: str) -> str:
        """What tells an object from any other that had its name: ETag (inode, time and size in a folder), size and time of
        the last change. ``FileNotFoundError`` where there is none."""
        self._count("reads")
        with _wrap_read_errors(self.href(key)):
            return _format_version_tag(dict(obstore.head(self._open(), key)))

    def exists(self, key: str) -> bool:
        try:
            self.mark(key)
        except FileNotFoundError:
            return False
        return True

    def keys(self, prefix: str = "") -> list[str]:
        """Every key under a prefix (whole path segments), sorted."""
        return sorted(str(item["path"]) for item in self._list(prefix))

    def listed(self, prefix: str = "") -> list[ObjectInfo]:
        """Every object under a prefix (whole path segments) with its size and when its bytes were written, sorted by key.

        For tables, which nobody moves files into; ``entries`` is for places where others drop them.
        """
        return sorted(ObjectInfo(str(item["path"]), int(item["size"]), item["last_modified"]) for item in self._list(prefix))

    def entries(self, prefix: str = "") -> dict[str, ArrivedObject]:
        """Every object under a prefix (whole path segments) by its key, sorted, without reading any."""
        found = self._list(prefix)
        entries = {
            str(item["path"]): ArrivedObject(item["size"], self._arrival_time(item["path"], item["last_modified"]))
            for item in found
        }
        return dict(sorted(entries.items()))

    def _arrival_time(self, key: str, modified: datetime) -> datetime:
        """A bucket notes when an object was put there. A file keeps its time of modification when it is moved or copied here
        (mv, cp -p, rsync -t, tar), but its status changes then, which nobody can date back."""
        if self._bucket is not None:
            return modified
        try:
            changed = (Path(self.uri) / key).stat().st_ctime
        except FileNotFoundError:  # A name that listings write otherwise, or a file removed since.
            return modified
        return max(modified, datetime.fromtimestamp(changed, timezone.utc))

    def list_folders(self, prefix: str = "") -> list[str]:
        """The names one level below a prefix that hold objects, sorted."""
        self._count("writes")
        with _wrap_read_errors(self.href(prefix)):
            found = obstore.list_with_delimiter(self._open(), prefix or None)
        paths = sorted(str(path) for path in found["common_prefixes"])
        if self._bucket is None:
            # A folder may be there without its first object, whose writing failed or was cut off.
            paths = [path for path in paths if _holds_objects(Path(self.uri) / path)]
        return [path.rsplit("/", 1)[-1] for path in paths]

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet (a conditional put): nothing is ever overwritten.

        Raises ``ObjectExistsError`` where it exists, ``StorageError`` where it cannot be written.
        """
        self._count("writes")
        try:
            obstore.put(self._open(write=True), key, data, mode="create")
        except AlreadyExistsError:
            raise ObjectExistsError(
                f"{self.href(key)} exists already and is never overwritten; start another run instead."
            ) from None
        except (BaseError, OSError) as error:
            raise storage_write_error(self.href(key), error) from error

    def replace(self, key: str, data: bytes) -> None:
        """Write an object whether it exists or not: only for what is no record, such as the last outcome of a stage."""
        self._count("writes")
        try:
            obstore.put(self._open(write=True), key, data)
        except (BaseError, OSError) as error:
            raise storage_write_error(self.href(key), error) from error

    def remove(self, key: str) -> None:
        """Remove an object, if it is there: only for what is no record, such as a candidate or an erased person's old files."""
        try:
            obstore.delete(self._open(), key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise storage_write_error(self.href(key), error) from error


def _describe_error(error: BaseException) -> str:
    unnamed = re.search(r'Path "[^"]*?([^"/]+)" contained non-unicode', str(error))
    if unnamed:
        return f"the name of {unnamed[1]} is not UTF-8; rename or remove that file"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{first}; mend that"


def _format_version_tag(meta: dict[str, object]) -> str:
    return f"{meta.get('e_tag')} {meta['size']} {meta['last_modified']}"


def _holds_objects(folder: Path) -> bool:
    # Down the first folders at once: a table's may hold a thousand more.
    return any(not _PARTIAL_OBJECT_NAME.fullmatch(name) for _, _, files in os.walk(folder) for name in files)


_MAX_RETRIES = 6
"""After so many, a service that cannot be reached is told of: some six seconds, each pause twice the one before it. What lasts
longer the state machine tries again."""
_RETRY_TIMEOUT = timedelta(seconds=60)
"""For all tries of one request together."""
_CREDENTIAL_LIFETIME = timedelta(minutes=5)
"""For so long a library keeps credentials before it asks again."""


def is_bucket(uri: str) -> bool:
    """Whether a place is in S3, rather than a folder of this machine."""
    return uri.startswith("s3://")


def s3_endpoint() -> Optional[str]:
    """Another place than AWS's own where S3 is, as AWS's tools are told it; None without one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def obstore_options() -> dict[str, Any]:
    """Arguments of ``obstore.store.from_url`` for a bucket. ``StorageError`` where there are no credentials or no region."""
    config = {"aws_region": _find_region()}
    place = s3_endpoint()
    if place:
        config["aws_endpoint"] = place
    _load_credentials()
    return {
        # A bucket with Object Lock refuses a put without a checksum.
        "config": {**config, "aws_checksum_algorithm": "SHA256"},
        "client_options": {"allow_http": True} if place and place.startswith("http://") else {},
        "retry_config": {"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        "credential_provider": _obstore_credentials,
    }


def delta_options(uri: str) -> Optional[dict[str, str]]:
    """Delta-rs's ``storage_options`` for a table: None in a folder. ``StorageError`` as above.

    A commit is a conditional put: of two writers of one version, one is told that it came second.
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
    place = s3_endpoint()
    if place:
        options["aws_endpoint"] = place
        options["aws_allow_http"] = str(place.startswith("http://")).lower()
    return options


def arrow_options() -> dict[str, Any]:
    """Arguments of ``pyarrow.fs.S3FileSystem``. ``StorageError`` as above."""
    key, secret, token = _load_credentials()
    options: dict[str, Any] = {"access_key": key, "secret_key": secret, "session_token": token, "region": _find_region()}
    place = s3_endpoint()
    if place:
        scheme, _, host = place.rstrip("/").partition("://")
        options.update(scheme=scheme, endpoint_override=host)
    return options


def _find_region() -> str:
    # AWS_REGION is what its services set; boto3 reads the other name only, and the profile's.
    found = os.environ.get("AWS_REGION") or _session(_aws_environment()).get_config_variable("region")
    if not found:
        raise StorageError("No AWS region is known here; set AWS_REGION, or a region in the profile of AWS's own tools.")
    return str(found)


def _load_credentials() -> tuple[str, str, Optional[str]]:
    """Access key, secret key and session token, valid for some minutes at least."""
    from botocore.exceptions import BotoCoreError

    try:
        found = _session(_aws_environment()).get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise StorageError(f"AWS credentials cannot be had here: {said}; sign in again, or set AWS_PROFILE.") from error
    if frozen is None:
        raise StorageError("There are no AWS credentials here; sign in with `aws sso login`, or set AWS_PROFILE.")
    return frozen.access_key, frozen.secret_key, frozen.token


def _obstore_credentials() -> dict[str, Any]:
    """Credentials as obstore asks for them."""
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
def _session(surroundings: tuple[tuple[str, str], ...]) -> Any:
    """One session as long as the surroundings are the same: it keeps credentials that a role or a sign-on gave."""
    import botocore.session  # slow, and not needed where all places are folders

    return botocore.session.Session()
