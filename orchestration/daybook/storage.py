"""One way to read, list and create objects under a URI, be it a folder or a bucket.

Here: bytes in, bytes out, through obstore. Not here: what the bytes mean (``sources`` reads landing files, ``archive``
writes records) nor tables (``lake``).
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from daybook.errors import ArchiveError


class Listed(NamedTuple):
    """An object as a listing has it: its size in bytes, and when it was last written, in UTC."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Entry:
    """An object as a listing knows it, unread: its size in bytes, and when it came to be where it is (UTC)."""

    bytes: int
    arrived_at: datetime


class Store:
    """The objects under one root URI; keys are relative and use ``/``."""

    def __init__(self, uri: str) -> None:
        self.uri = re.sub(r"(?<=[^:/])/+$", "", uri)
        self._bucket: Optional[ObjectStore] = None
        if "://" in self.uri:
            options = {}
            if self.uri.startswith("s3://") and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
                options = {"client_options": {"allow_http": True}}
            self._bucket = from_url(self.uri, **options)  # type: ignore[call-overload]

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
        return bytes(obstore.get(self._open(), key).bytes())

    def exists(self, key: str) -> bool:
        try:
            obstore.head(self._open(), key)
        except FileNotFoundError:
            return False
        return True

    def keys(self, prefix: str = "") -> list[str]:
        """Every key under a prefix (whole path segments), sorted."""
        found = obstore.list(self._open(), prefix or None).collect()
        return sorted(str(item["path"]) for item in found)

    def listed(self, prefix: str = "") -> list[Listed]:
        """Every object under a prefix (whole path segments) with its size and when its bytes were written, sorted by key.

        For tables, which nobody moves files into; ``entries`` is for places where others drop them.
        """
        found = obstore.list(self._open(), prefix or None).collect()
        return sorted(Listed(str(item["path"]), int(item["size"]), item["last_modified"]) for item in found)

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """Every object under a prefix (whole path segments) by its key, sorted, without reading any."""
        found = obstore.list(self._open(), prefix or None).collect()
        entries = {str(item["path"]): Entry(item["size"], self._arrived(item["path"], item["last_modified"])) for item in found}
        return dict(sorted(entries.items()))

    def _arrived(self, key: str, modified: datetime) -> datetime:
        """A bucket notes when an object was put there. A file keeps its time of modification when it is moved or copied here
        (mv, cp -p, rsync -t, tar), but its status changes then, which nobody can date back."""
        if self._bucket is not None:
            return modified
        try:
            changed = (Path(self.uri) / key).stat().st_ctime
        except FileNotFoundError:  # A name that listings write otherwise, or a file removed since.
            return modified
        return max(modified, datetime.fromtimestamp(changed, timezone.utc))

    def folders(self, prefix: str = "") -> list[str]:
        """The names one level below a prefix that hold objects, sorted."""
        found = obstore.list_with_delimiter(self._open(), prefix or None)
        return sorted(str(path).rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet (a conditional put): nothing is ever overwritten."""
        try:
            obstore.put(self._open(write=True), key, data, mode="create")
        except AlreadyExistsError:
            raise ArchiveError(
                f"{self.href(key)} exists already and is never overwritten; start another run instead."
            ) from None

    def replace(self, key: str, data: bytes) -> None:
        """Write an object whether it exists or not: only for what is no record, such as the last outcome of a stage."""
        obstore.put(self._open(write=True), key, data)

    def remove(self, key: str) -> None:
        """Remove an object, if it is there: only for what is no record, such as a candidate or an erased person's old files."""
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._open(), key)
