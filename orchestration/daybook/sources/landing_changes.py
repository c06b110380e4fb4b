"""What lies in the landing now, and whether it is what a run has read: one listing, and as few files opened as can be."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from datetime import date, datetime, timedelta

from daybook.sources.config import Entity
from daybook.sources.files import find_files
from daybook.storage import Store

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clock that dates files and the clock that dates runs may be apart. A file that arrived less than this before it
was read is not trusted by its times."""


class LandingListing:
    """The files of a landing as they are listed at one moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = store.list_arrivals()
        self._keys = list(self._entries)
        self._undated: dict[str, list[str]] = {}
        self._digests: dict[str, str] = {}

    def exists(self, key: str) -> bool:
        return key in self._entries

    def keys(self, prefix: str = "") -> list[str]:
        """Every file under a prefix (whole path segments), sorted."""
        if not prefix:
            return self._keys
        # Files are listed once for thousands of dates: each looks at its own only. The character after / is 0.
        return self._keys[bisect_left(self._keys, f"{prefix}/") : bisect_left(self._keys, f"{prefix}0")]

    def files(self, entity: Entity, run_date: date) -> list[str]:
        """The entity's files for a business date, sorted by name."""
        if entity.pattern(run_date) != entity.files:
            return find_files(self, entity, run_date)
        if entity.files not in self._undated:
            self._undated[entity.files] = find_files(self, entity, run_date)
        return self._undated[entity.files]

    def is_unchanged(self, file: str, *, size: int, sha256: str, read_at: datetime) -> bool:
        """Whether a file that is there still has the content (``size`` in bytes, digest) that a stage read which began at
        ``read_at``.

        A file of another size is another one. One of the same size that came to its place before it was read is the same:
        ``Entry.arrived_at`` cannot be set back by whoever moves or copies a file in, and a margin covers clocks that differ.
        Any other is read and its digest compared, once, whatever number of dates asks.
        """
        entry = self._entries[file]
        if entry.bytes != size:
            return False
        if entry.arrived_at < read_at - CLOCK_TOLERANCE:
            return True
        if file not in self._digests:
            self._digests[file] = self._digest(file)
        return self._digests[file] == sha256

    def _digest(self, file: str) -> str:
        try:
            return hashlib.sha256(self._store.read(file)).hexdigest()
        except FileNotFoundError:  # Removed since the listing.
            return ""
