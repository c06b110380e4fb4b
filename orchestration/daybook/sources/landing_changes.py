"""List the landing once, and find whether its files are those that a run has read, while opening as few as possible."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from datetime import date, datetime, timedelta

from daybook.sources.config import Entity
from daybook.sources.files import find_files
from daybook.storage import Store

CLOCK_TOLERANCE = timedelta(minutes=5)
"""Largest difference between the clocks of files and of runs. The time of a file that arrived less than this before it was read
is not used."""


class LandingListing:
    """The files of a landing at one moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = store.list_arrivals()
        self._keys = list(self._entries)
        self._undated: dict[str, list[str]] = {}
        self._digests: dict[str, str] = {}

    def exists(self, key: str) -> bool:
        return key in self._entries

    def keys(self, prefix: str = "") -> list[str]:
        """Return all files under a prefix of whole path segments, sorted."""
        if not prefix:
            return self._keys
        # One listing serves thousands of dates, so each searches its own part only. The character after / is 0.
        return self._keys[bisect_left(self._keys, f"{prefix}/") : bisect_left(self._keys, f"{prefix}0")]

    def files(self, entity: Entity, run_date: date) -> list[str]:
        """Return the entity's files for a business date, sorted by name."""
        if entity.pattern(run_date) != entity.files:
            return find_files(self, entity, run_date)
        if entity.files not in self._undated:
            self._undated[entity.files] = find_files(self, entity, run_date)
        return self._undated[entity.files]

    def size(self, file: str) -> int:
        """Return the size of a file in the listing, in bytes."""
        return self._entries[file].bytes

    def is_unchanged(self, file: str, *, size: int, sha256: str, read_at: datetime) -> bool:
        """Return whether a file still has the content that a stage has read.

        A file of another size has changed. A file of the same size that arrived before it was read is the same, because moving
        or copying a file cannot set ``arrived_at`` back. Any other file is read, once, and its digest compared.

        Parameters
        ----------
        file
            The key of a file in the listing.
        size, sha256
            Size in bytes and digest of the content that the stage has read.
        read_at
            When the stage began (UTC).
        """
        entry = self._entries[file]
        if entry.bytes != size:
            return False
        if entry.arrived_at < read_at - CLOCK_TOLERANCE:
            return True
        if file not in self._digests:
            try:
                self._digests[file] = hashlib.sha256(self._store.read(file)).hexdigest()
            except FileNotFoundError:  # Removed since the listing.
                self._digests[file] = ""
        return self._digests[file] == sha256
