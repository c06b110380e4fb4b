"""Reading landing files as they are: CSV, plain or gzipped, every value as text.

Here: finding a day's files, decoding, splitting into fields, and saying exactly where a file cannot be read. Nothing is
interpreted: no types, no nulls, no trimming. Not here: which rows belong to the date (``daybook.notebook.ingest``) nor
whether a row is any good (``daybook.quality``).
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Optional, Protocol

import pyarrow as pa
import pyarrow.csv

from daybook.errors import LandingError, StorageError
from daybook.sources.spec import Entity, Source
from daybook.storage import Store

TECHNICAL = ("_source_file", "_row_number", "_problem", "_raw")
"""Columns that reading adds: file (under landing), data row in it from 1, why it could not be split, and its text if so."""


Marks = dict[str, str]
"""Files by key, each with the mark of what it held when it was looked at (``Store.mark``)."""


@dataclass(frozen=True)
class LandedFile:
    """One file as it was read."""

    file: str
    bytes: int
    sha256: str
    rows: int


def open_landing(uri: str) -> Store:
    """The store that a deployment's files arrive in; ``LandingError`` where a folder is absent or empty."""
    if "://" not in uri and not (Path(uri).is_dir() and any(Path(uri).iterdir())):
        raise LandingError(
            f"{uri} holds no files; name the landing folder with --set landing=FOLDER, or make the demo's with `daybook demo`."
        )
    return Store(uri)


class Listed(Protocol):
    """What files are there: a store, or a look at one."""

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str = "") -> list[str]: ...


def find_files(store: Listed, entity: Entity, run_date: date) -> list[str]:
    """The entity's files for a business date, sorted by name; an empty list where there is none."""
    pattern = _pattern(entity, run_date)
    folder = pattern.rsplit("/", 1)[0] if "/" in pattern else ""
    if not any(mark in pattern for mark in "*?["):
        return [pattern] if store.exists(pattern) else []
    if any(mark in folder for mark in "*?["):
        folder = ""
    return [key for key in store.keys(folder) if is_file_of(entity, run_date, key)]


def is_file_of(entity: Entity, run_date: date, key: str) -> bool:
    """Whether a file of this name is one of the entity's for a business date, be it there or not."""
    pattern = _pattern(entity, run_date)
    return fnmatch.fnmatchcase(key, pattern) and key.count("/") == pattern.count("/")


def _pattern(entity: Entity, run_date: date) -> str:
    return entity.files.replace("{run_date}", run_date.isoformat())


def mark_files(store: Store, entity: Entity, run_date: date) -> Marks:
    """The entity's files for a business date as they are now, sorted by name."""
    marks = {}
    for key in find_files(store, entity, run_date):
        try:
            marks[key] = store.mark(key)
        except OSError as error:
            raise _unreadable(store, key, error) from None
    return marks


def refuse_changed(store: Store, entity: Entity, run_date: date, before: Marks) -> None:
    """Raise ``LandingError`` where the entity's files for a date are no longer what they were: delivered again, written on,
    taken away, or one more."""
    now = mark_files(store, entity, run_date)
    for key in sorted({*before, *now}):
        if key not in now:
            raise _gone(store, key)
        if before.get(key) != now[key]:
            raise _changed(store, key)


def read_entity(
    store: Store, source: Source, name: str, run_date: date, marks: Optional[Marks] = None
) -> tuple[Optional[pa.Table], list[LandedFile]]:
    """All rows of an entity's files for a date, as text plus ``TECHNICAL`` columns; None where no file is there.

    The files are those that ``marks`` were taken of (else: taken now), and must be unchanged until the last has been read.
    Raises ``LandingError`` naming file, line and reason when a file cannot be read, or changes meanwhile.
    """
    entity = source.entities[name]
    marks = mark_files(store, entity, run_date) if marks is None else marks
    tables, landed = [], []
    for key, mark in marks.items():
        try:
            data, read = store.read_marked(key)
            # Before its content is judged: half a file is told as one that changes, not as a broken one.
            if {read, store.mark(key)} != {mark}:
                raise _changed(store, key)
        except FileNotFoundError:
            raise _gone(store, key) from None
        except (OSError, StorageError) as error:
            raise _unreadable(store, key, error) from None
        table = read_csv(data, store.href(key), key, source, name)
        tables.append(table)
        landed.append(LandedFile(key, len(data), hashlib.sha256(data).hexdigest(), table.num_rows))
    refuse_changed(store, entity, run_date, marks)
    if not tables:
        return None, []
    return pa.concat_tables(tables, promote_options="default"), landed


def _changed(store: Store, key: str) -> LandingError:
    return LandingError(
        f"{store.href(key)} changed while it was being read; deliver files whole (write another name, then rename), "
        "and run the date again if its retries met no quiet moment."
    )


def _gone(store: Store, key: str) -> LandingError:
    return LandingError(f"{store.href(key)} was taken away while the date was being read; deliver it again, then run again.")


def _unreadable(store: Store, key: str, error: Exception) -> LandingError:
    if isinstance(error, FileNotFoundError):
        return _gone(store, key)
    if isinstance(error, StorageError):
        return LandingError(str(error))
    return LandingError(f"{store.href(key)} cannot be read: {str(error).splitlines()[0]}")


def read_csv(data: bytes, shown: str, key: str, source: Source, name: str) -> pa.Table:
    """One CSV file as text. Rows with a wrong number of fields are kept, with ``_problem`` saying so and ``_raw``."""
    entity = source.entities[name]
    if key.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise LandingError(f"{shown}: not a whole gzip file ({error}); deliver it again.") from None
    text = _decode(data, shown, source.encodings(name))
    delimiter = entity.delimiter or source.delimiter
    header = _header(text, delimiter, shown)
    absent = [column for column in entity.columns if column not in header]
    if absent:
        raise LandingError(
            f"{shown}, line 1: column {absent[0]!r} of entity {name!r} is missing ({_said_of(header, entity)}); "
            "deliver the file again, or change the source's YAML."
        )
    _refuse_open_quote(text, delimiter, shown)

    broken: list[pa.csv.InvalidRow] = []

    def keep_aside(row: pa.csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    # Arrow takes a header without a line end for no header.
    encoded = (text if text.endswith(("\n", "\r")) else text + "\n").encode("utf-8")
    try:
        table = pa.csv.read_csv(
            io.BytesIO(encoded),
            # One thread, so that a broken row knows its number.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=max(len(encoded), 1)),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep_aside),
            convert_options=pa.csv.ConvertOptions(
                column_types={column: pa.string() for column in header},
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise LandingError(f"{shown}: not a CSV file ({reason}); deliver it again.") from None

    broken_numbers = [row.number - 1 for row in broken]
    numbers = _numbers_without(broken_numbers, table.num_rows + len(broken))
    good = _with_technical(table, key, numbers, [None] * table.num_rows, [None] * table.num_rows)
    if not broken:
        return good
    empty = pa.table({column: pa.array([""] * len(broken), pa.string()) for column in header})
    problems = [f"{row.actual_columns} fields where the header has {row.expected_columns}" for row in broken]
    aside = _with_technical(empty, key, broken_numbers, problems, [row.text for row in broken])
    return pa.concat_tables([good, aside])


def _with_technical(
    table: pa.Table, key: str, numbers: list[int], problems: Sequence[Optional[str]], raw: Sequence[Optional[str]]
) -> pa.Table:
    columns = [
        pa.array([key] * table.num_rows, pa.string()),
        pa.array(numbers, pa.int64()),
        pa.array(problems, pa.string()),
        pa.array(raw, pa.string()),
    ]
    for name, column in zip(TECHNICAL, columns):
        table = table.append_column(name, column)
    return table


def _numbers_without(broken: list[int], total: int) -> list[int]:
    if not broken:
        return list(range(1, total + 1))
    aside = set(broken)
    return [number for number in range(1, total + 1) if number not in aside]


def _decode(data: bytes, shown: str, encodings: list[str]) -> str:
    failures = []
    for encoding in encodings:
        try:
            text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            failures.append((line, f"byte 0x{data[error.start]:02x} is not {encoding}"))
            continue
        if "\x00" in text:
            failures.append((text.count("\n", 0, text.index("\x00")) + 1, f"a NUL character, so it is hardly {encoding} text"))
            continue
        if not text.strip():
            raise LandingError(f"{shown}, line 1: the file is empty, without even a header; deliver it again.")
        return text
    line, reason = failures[0]
    raise LandingError(
        f"{shown}, line {line}: {reason}; declare the file's encoding in the source's YAML, or deliver the file again."
    )


def _said_of(header: list[str], entity: Entity) -> str:
    """What an error may say of a header: its names, unless it is hardly one. A first row of data can hold personal data."""
    if any(column in entity.columns for column in header):
        return f"the header has: {', '.join(header)}"
    return f"the first line has {len(header)} fields, none of them a declared column"


def _header(text: str, delimiter: str, shown: str) -> list[str]:
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        raise LandingError(f"{shown}, line 1: the header cannot be read ({error}); deliver the file again.") from None
    # SQL does not tell A from a.
    folded = [column.lower() for column in header]
    twice = [column for column in header if folded.count(column.lower()) > 1]
    if twice:
        raise LandingError(f"{shown}, line 1: column {twice[0]!r} stands twice in the header; deliver the file again.")
    reserved = [column for column in header if column.startswith("_") or column == "run_date"]
    if reserved:
        raise LandingError(
            f"{shown}, line 1: column {reserved[0]!r} has a name that is Daybook's own; rename it at the source."
        )
    return header


def _refuse_open_quote(text: str, delimiter: str, shown: str) -> None:
    """Raise when a quoted field is never closed: the rows after it would silently become one value.

    Such a field ends with the file, or at the next field's opening quote, so that text follows its closing one. A quote
    amid a field (5" nails) opens nothing, and text after a closing quote of the same line ("5" nails) is let pass.
    """
    ends = re.escape(delimiter) + r"\r\n"
    quoted = re.compile(rf'(?:\A|[{ends}])"(?P<value>[^"]*(?:""[^"]*)*)(?P<closed>"?)(?P<rest>[^{ends}]*)')
    for field in quoted.finditer(text):
        if field["closed"] and not (field["rest"].strip() and re.search(r"[\r\n]", field["value"])):
            continue
        line = len(re.findall(r"\r\n?|\n", text[: field.start("value")])) + 1
        raise LandingError(f"{shown}, line {line}: a quoted field that begins here is never closed; deliver the file again.")
