"""Reading landing files as they are: CSV, plain or gzipped, every value as text."""

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
"""Files by key, each with the mark of what it held when it was looked at (``Store.version_tag``)."""


@dataclass(frozen=True)
class LandedFile:
    """One file as it was read."""

    file: str
    bytes: int
    sha256: str
    rows: int


class LandingStore(Store):
    """The store that files arrive in. No file is read through a symbolic link that leads out of its folder."""

    def require_no_outside_links(self) -> None:
        """Raise ``LinkError`` if any symbolic link in the folder leads out of it, before a listing follows it."""
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
        except RuntimeError:  # So says Python before 3.13.
            raise LinkError(f"{self.href(key)} is reached by symbolic links that lead to each other; remove them.") from None
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
    """The store that a deployment's files arrive in; ``MissingFileError`` where a folder is absent or empty."""
    if "://" not in uri and not (Path(uri).is_dir() and any(Path(uri).iterdir())):
        raise MissingFileError(
            f"{uri} holds no files; name the landing folder with --set landing=FOLDER, or make the demo's with `daybook demo`."
        )
    return LandingStore(uri)


class FileListing(Protocol):
    """What files are there: a store, or a look at one."""

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str = "") -> list[str]: ...


def find_files(store: FileListing, entity: Entity, run_date: date) -> list[str]:
    """The entity's files for a business date, sorted by name; an empty list where there is none."""
    pattern = entity.pattern(run_date)
    folder = pattern.rsplit("/", 1)[0] if "/" in pattern else ""
    if not any(mark in pattern for mark in "*?["):
        return [pattern] if store.exists(pattern) else []
    if any(mark in folder for mark in "*?["):
        folder = ""
    return [key for key in store.keys(folder) if is_entity_file(entity, run_date, key)]


def is_entity_file(entity: Entity, run_date: date, key: str) -> bool:
    """Whether a file of this name is one of the entity's for a business date, be it there or not."""
    pattern = entity.pattern(run_date)
    return fnmatch.fnmatchcase(key, pattern) and key.count("/") == pattern.count("/")


def mark_files(store: Store, entity: Entity, run_date: date) -> FileMarks:
    """The entity's files for a business date as they are now, sorted by name."""
    marks = {}
    for key in find_files(store, entity, run_date):
        try:
            marks[key] = store.version_tag(key)
        except OSError as error:
            raise _read_error(store, key, error) from None
    return marks


def require_unchanged(store: Store, entity: Entity, run_date: date, before: FileMarks) -> None:
    """Raise ``LandingError`` where the entity's files for a date are no longer what they were: delivered again, written on,
    taken away, or one more."""
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
    """The rows of an entity's files for a date, some ten thousands at a time, as text plus ``TECHNICAL`` columns; a file
    without rows gives a table without rows. Columns have the names that the contract declares, whatever case, Unicode form
    and blanks a header has. Each file is added to ``landed`` once it has been read.

    The files are those that ``marks`` were taken of (else: taken now), and must be unchanged until the last has been read.
    Raises ``LandingError`` naming file, line and reason when a file cannot be read, or changes meanwhile.
    """
    entity = source.entities[name]
    marks = mark_files(store, entity, run_date) if marks is None else marks
    # How each column is written: as declared, else as the first file has it.
    written = {column_key(column): column for column in entity.columns}
    for key, mark in marks.items():
        try:
            file, read = store.read_with_version_tag(key)
            # Before its content is judged: half a file is told as one that changes, not as a broken one.
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
                names = [written.setdefault(column_key(each), normalize_column_name(each)) for each in table.column_names]
                yield table.rename_columns(names)
            landed.append(LandedFile(key, size, digest.hexdigest(), rows))
    require_unchanged(store, entity, run_date, marks)


def _changed_error(store: Store, key: str) -> LandingError:
    return LandingError(
        f"{store.href(key)} changed while it was being read; deliver files whole (write another name, then rename), "
        "and run the date again if its retries met no quiet moment."
    )


def _removed_error(store: Store, key: str) -> LandingError:
    return LandingError(f"{store.href(key)} was taken away while the date was being read; deliver it again, then run again.")


def _read_error(store: Store, key: str, error: Exception) -> LandingError:
    if isinstance(error, FileNotFoundError):
        return _removed_error(store, key)
    if isinstance(error, StorageError):
        return LandingError(str(error))
    return LandingError(f"{store.href(key)} cannot be read: {str(error).splitlines()[0]}")
