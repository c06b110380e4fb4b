"""Find the landing files of a business date and read them as text."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Optional, Protocol

import pyarrow as pa

from daybook.contracts.columns import column_key, normalize_column_name
from daybook.errors import LandingError, LinkError, MissingFileError, StorageError
from daybook.sources.compression import DEFAULT_LIMITS, UnpackLimits
from daybook.sources.config import Entity, Source
from daybook.sources.csv import read_csv_blocks
from daybook.storage import CHUNK_BYTES, Store, TaggedFile

FileMarks = dict[str, str]
"""Version tags of files by key (``Store.version_tag``)."""


@dataclass(frozen=True)
class LandedFile:
    """A file that was read: key, size in bytes, digest and number of rows."""

    file: str
    bytes: int
    sha256: str
    rows: int


class LandingStore(Store):
    """The store that files arrive in. Symbolic links that lead out of its folder are not followed."""

    def require_no_outside_links(self) -> None:
        """Raise ``LinkError`` if a symbolic link in the folder leads out of it. Call this before a listing."""
        folders = [self.uri] if "://" not in self.uri and Path(self.uri).is_dir() else []
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        self._require_inside(os.path.relpath(entry.path, self.uri))
                    elif entry.is_dir():
                        folders.append(entry.path)

    def _require_inside(self, key: str) -> None:
        if "://" in self.uri:
            return
        try:
            place = (Path(self.uri) / key).resolve()
        except RuntimeError:  # Python before 3.13.
            raise LinkError(f"{self.href(key)} is reached by a cycle of symbolic links; remove them.") from None
        if not place.is_relative_to(Path(self.uri).resolve()):
            raise LinkError(
                f"{self.href(key)} is reached by a symbolic link to {place}, outside of the landing folder; "
                "deliver the file itself, or remove the link."
            )

    def read(self, key: str) -> bytes:
        self._require_inside(key)
        return super().read(key)

    def read_with_version_tag(self, key: str) -> TaggedFile:
        self._require_inside(key)
        return super().read_with_version_tag(key)

    def version_tag(self, key: str) -> str:
        self._require_inside(key)
        return super().version_tag(key)


def open_landing(uri: str) -> LandingStore:
    """Open the store that a deployment's files arrive in; raises ``MissingFileError`` if it is an empty or missing folder."""
    if "://" not in uri and not (Path(uri).is_dir() and any(Path(uri).iterdir())):
        raise MissingFileError(
            f"{uri} holds no files; name the landing folder with --set landing=FOLDER, "
            "or create the demo files with `daybook demo`."
        )
    return LandingStore(uri)


class FileListing(Protocol):
    """A list of files: a store, or a listing of one."""

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str = "") -> list[str]: ...


def find_files(store: FileListing, entity: Entity, run_date: date) -> list[str]:
    """Return the entity's files for a business date, sorted by name."""
    pattern = entity.pattern(run_date)
    folder = pattern.rsplit("/", 1)[0] if "/" in pattern else ""
    if not any(mark in pattern for mark in "*?["):
        return [pattern] if store.exists(pattern) else []
    if any(mark in folder for mark in "*?["):
        folder = ""
    return [key for key in store.keys(folder) if is_entity_file(entity, run_date, key)]


def is_entity_file(entity: Entity, run_date: date, key: str) -> bool:
    """Return whether a key is that of an entity's file for a business date; the file need not exist."""
    pattern = entity.pattern(run_date)
    return fnmatch.fnmatchcase(key, pattern) and key.count("/") == pattern.count("/")


def mark_files(store: Store, entity: Entity, run_date: date) -> FileMarks:
    """Return the current version tags of the entity's files for a business date, sorted by name."""
    marks = {}
    for key in find_files(store, entity, run_date):
        try:
            marks[key] = store.version_tag(key)
        except OSError as error:
            raise _read_error(store, key, error) from None
    return marks


def require_unchanged(store: Store, entity: Entity, run_date: date, before: FileMarks) -> None:
    """Raise ``LandingError`` if the entity's files for a date have changed: a file was replaced, written, removed or added."""
    now = mark_files(store, entity, run_date)
    for key in sorted({*before, *now}):
        if key not in now:
            raise _removed_error(store, key)
        if before.get(key) != now[key]:
            raise _changed_error(store, key)


def read_blocks(
    store: Store,
    source: Source,
    name: str,
    run_date: date,
    landed: list[LandedFile],
    marks: Optional[FileMarks] = None,
    limits: UnpackLimits = DEFAULT_LIMITS,
) -> Iterator[pa.Table]:
    """Yield the rows of an entity's files for a date as text.

    Parameters
    ----------
    store, source, name, run_date
        The landing, the source, the entity and the business date.
    landed
        Each file is added to this list after it has been read.
    marks
        The files to read with their version tags; by default the current ones. They must not change before the last has been
        read.
    limits
        How much a file may unpack to.

    Yields
    ------
    pyarrow.Table
        Some ten thousand rows with ``TECHNICAL_COLUMNS``; a file without rows gives a table without rows. Columns have the
        names of the contract: case, Unicode form and blanks of a header may differ.

    Raises
    ------
    LandingError
        A file cannot be read, with its line and the reason, or has changed meanwhile.
    """
    entity = source.entities[name]
    marks = mark_files(store, entity, run_date) if marks is None else marks
    # The name of each column: as declared, else as in the first file.
    names = {column_key(column): column for column in entity.columns}
    for key, mark in marks.items():
        try:
            file, read = store.read_with_version_tag(key)
            # Before the content is parsed: half a file is reported as one that changes, not as a broken one.
            if {read, store.version_tag(key)} != {mark}:
                raise _changed_error(store, key)
        except FileNotFoundError:
            raise _removed_error(store, key) from None
        except (OSError, StorageError) as error:
            raise _read_error(store, key, error) from None
        with file:
            digest, size, rows = hashlib.sha256(), 0, 0
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
            for table in read_csv_blocks(file, store.href(key), key, source, name, limits):
                rows += table.num_rows
                yield table.rename_columns(
                    [names.setdefault(column_key(each), normalize_column_name(each)) for each in table.column_names]
                )
            landed.append(LandedFile(key, size, digest.hexdigest(), rows))
    require_unchanged(store, entity, run_date, marks)


def _changed_error(store: Store, key: str) -> LandingError:
    return LandingError(
        f"{store.href(key)} changed while it was being read; deliver files whole (write another name, then rename), "
        "and run the date again if all its retries met a change."
    )


def _removed_error(store: Store, key: str) -> LandingError:
    return LandingError(f"{store.href(key)} was removed while the date was being read; deliver it again, then run again.")


def _read_error(store: Store, key: str, error: Exception) -> LandingError:
    if isinstance(error, FileNotFoundError):
        return _removed_error(store, key)
    if isinstance(error, StorageError):
        return LandingError(str(error))
    return LandingError(
        f"{store.href(key)} cannot be read ({str(error).splitlines()[0].rstrip('.')}); check its permissions, then run again."
    )
