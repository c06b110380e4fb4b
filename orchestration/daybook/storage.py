"""One way to read, list and create objects under a URI, be it a folder or a bucket.

Here: bytes in, bytes out, through obstore. Not here: what the bytes mean (``sources`` reads landing files, ``archive``
writes records) nor tables (``lake``).
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import datetime
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
        """Every object under a prefix (whole path segments) with its size and age, sorted by key."""
        found = obstore.list(self._open(), prefix or None).collect()
        return sorted(Listed(str(item["path"]), int(item["size"]), item["last_modified"]) for item in found)

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
