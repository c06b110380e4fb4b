"""List all files of a location and read the texts in them: plain, compressed, Parquet, and embedded in notebooks and pages.

A file that cannot be read to its end is reported with the reason.
"""

from __future__ import annotations

import base64
import codecs
import io
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Callable, NamedTuple, Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daybook.errors import LimitError, StorageError
from daybook.sources.compression import DEFAULT_LIMITS, UNCHECKED_RATIO_BYTES, UnpackLimits, is_gzip, unpack
from daybook.sources.formats import HEAD_BYTES, detect_binary_format
from daybook.storage import CHUNK_BYTES, Store, open_spooled_file

READ_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
    pa.ArrowException,
    StorageError,
    LimitError,
)
"""Errors of a file that cannot be read to its end."""
_WINDOW_BYTES = 8 << 20
"""Bytes of a file that are searched at once."""
_MAX_DEPTH = 3
"""Maximum depth of nested files, such as a CSV file in a ZIP archive in an output of a notebook."""
_ENCODING_BY_BOM = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by byte order mark. A longer mark precedes its prefix."""
_TEXT_SEARCHABLE_FORMATS = ("an image", "an SQLite database", "a tar archive")
"""Binary formats with uncompressed text, such as metadata of images."""
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?:(?:[A-Za-z0-9+/_-]{40,}(?:\\r|\\n|[\r\n])+)+[A-Za-z0-9+/_-]{2,}|[A-Za-z0-9+/_-]{12,})(?:%3[Dd]|=){0,2}"
)
"""Possible base64 of at least 9 bytes, on one line or, as in MIME, on several."""
_MIN_CERTAIN_BYTES = 1024
"""Number of decoded bytes above which a text certainly was base64."""
_ARCHIVE_SIGNATURES = (b"\x1f\x8b\x08", b"PK\x03\x04", b"PAR1")
"""The first bytes of gzip, ZIP and Parquet."""
_URL_SAFE = str.maketrans("-_", "+/")
_CONTROL_BYTES = bytes(each for each in range(1, 32) if each not in b"\t\r\n")


class SearchFile(NamedTuple):
    """A file with its full name, as messages show it."""

    name: str
    open: Callable[[], BinaryIO]


class FileText(NamedTuple):
    """A text from a file. ``column`` is set for a column of a Parquet file, ``binary`` for binary data."""

    text: str
    column: Optional[str] = None
    binary: bool = False


class _Unsearchable(StorageError):
    """A file has a format or type that cannot be searched."""


def list_files(uri: str, unsearched: dict[str, str]) -> Iterator[SearchFile]:
    """List every file under a folder or bucket. Files and folders that cannot be listed are added to ``unsearched``."""
    if "://" not in uri:
        yield from _list_folder(Store(uri).uri, unsearched)
        return
    store = Store(uri)
    try:
        keys = store.keys("")
    except StorageError as error:
        unsearched[uri] = format_reason(error)
        return
    for key in keys:
        yield SearchFile(store.href(key), partial(_open_object, store, key))


def _open_object(store: Store, key: str) -> BinaryIO:
    return store.read_with_version_tag(key).file


def _open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def _list_folder(root: str, unsearched: dict[str, str]) -> Iterator[SearchFile]:
    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # A missing location, or a folder that was removed meanwhile.
            unsearched[_printable_path(str(error.filename))] = format_reason(error)

    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, onerror=failed, followlinks=True):
        try:
            found = Path(folder).stat()
        except OSError as error:
            failed(error)
            continue
        if (found.st_dev, found.st_ino) in seen:  # A link back to a folder above.
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders.sort()
        for path in (Path(folder) / name for name in sorted(names)):
            shown = _printable_path(str(path))
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    yield SearchFile(shown, partial(_open_file, path))
                else:
                    # Opening a FIFO waits for a writer.
                    unsearched[shown] = "not a regular file"
            except FileNotFoundError:
                if path.is_symlink():
                    unsearched[shown] = "a link whose target is missing"
            except OSError as error:
                unsearched[shown] = format_reason(error)


def _printable_path(path: str) -> str:
    """Return a path as text; bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def format_reason(error: BaseException) -> str:
    """Return why a file could not be searched, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@dataclass(frozen=True)
class TextReader:
    """Read the texts in files.

    Parameters
    ----------
    overlap
        Number of characters that consecutive windows of a long text share. No search term is longer than a quarter of it.
    limits
        Limits on compressed files.
    encodings
        Encodings that are tried besides UTF-8 and UTF-16.
    embedded
        Whether base64 in texts is decoded.
    """

    overlap: int
    limits: UnpackLimits = DEFAULT_LIMITS
    encodings: tuple[str, ...] = ()
    embedded: bool = True

    def read(self, file: BinaryIO, name: str, depth: int = 0) -> Iterator[FileText]:
        """Yield the texts of a file. Raise one of ``READ_ERRORS`` at the end if some of its content could not be read."""
        file.seek(0)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if head.startswith(b"PAR1") or (name.endswith(".parquet") and not depth):
            yield from self._read_parquet(file)
        elif head.startswith(b"PK\x03\x04") and depth < _MAX_DEPTH:
            yield from self._read_zip(file, depth)
        elif is_gzip(file):
            yield from self._read_pieces(unpack(file, name, self.limits), depth, unpacked=True)
        else:
            file.seek(0)
            yield from self._read_pieces(iter(partial(file.read, CHUNK_BYTES), b""), depth)

    def _read_parquet(self, file: BinaryIO) -> Iterator[FileText]:
        problem: Optional[BaseException] = None
        try:
            parquet = pq.ParquetFile(pa.BufferReader(file.read()))
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group)
                for column in rows.column_names:
                    # Searching one joined text is faster than searching each value.
                    yield FileText("\n".join(_extract_column_texts(rows.column(column))), column)
        except READ_ERRORS as error:
            problem = error
        # Search the bytes of the file too, since minimum and maximum of columns are not compressed.
        file.seek(0)
        for text in self._windows(iter(partial(file.read, CHUNK_BYTES), b""), ["utf-8"]):
            yield FileText(text, binary=True)
        if problem:
            raise problem

    def _read_zip(self, file: BinaryIO, depth: int) -> Iterator[FileText]:
        problem: Optional[BaseException] = None
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            for member in archive.infolist():
                yield FileText(member.filename)
                try:
                    self._require_small(member)
                    with open_spooled_file() as content, archive.open(member) as packed:
                        shutil.copyfileobj(packed, content)
                        yield from self.read(content, member.filename, depth + 1)
                except READ_ERRORS as error:
                    problem = problem or _Unsearchable(f"a file inside it: {format_reason(error)}")
        if problem:
            raise problem

    def _require_small(self, member: zipfile.ZipInfo) -> None:
        if member.flag_bits & 1:
            raise _Unsearchable("it is encrypted")
        if member.file_size > min(self.limits.size, max(UNCHECKED_RATIO_BYTES, self.limits.ratio * member.compress_size)):
            raise LimitError("it unpacks to more than max_unpacked_bytes or max_unpacked_ratio allow")

    def _read_pieces(self, pieces: Iterator[bytes], depth: int, *, unpacked: bool = False) -> Iterator[FileText]:
        first = next(pieces, b"")
        head = first[:HEAD_BYTES]
        known = detect_binary_format(head, ["utf-16"], unpacked=unpacked)
        binary = known is not None and not known.endswith("text and not utf-16")
        for text in self._windows(chain([first], pieces), self._codecs(head)):
            yield FileText(text, binary=binary)
            if self.embedded and depth < _MAX_DEPTH and not binary:
                words = []
                for content in _decode_base64(text):
                    if len(content) > _MIN_CERTAIN_BYTES or b"\0" in content or content.startswith(_ARCHIVE_SIGNATURES):
                        yield from self.read(io.BytesIO(content), "", depth + 1)
                    else:
                        words.append(content)
                # A page has thousands of them. Searching one joined text takes a tenth of the time.
                yield from self._read_pieces(iter([b"\n".join(words)] if words else []), depth + 1)
        if known and binary and known not in _TEXT_SEARCHABLE_FORMATS:
            raise _Unsearchable(f"{known}, whose content cannot be read")

    def _codecs(self, head: bytes) -> list[str]:
        marked = [name for mark, name in _ENCODING_BY_BOM.items() if head.startswith(mark)][:1]
        wide = ["utf-16-le", "utf-16-be"] if b"\0" in head and not marked else []
        declared = [name for name in self.encodings if name != "utf-16"]
        return list(dict.fromkeys([*(marked or ["utf-8"]), *declared, *wide]))

    def _windows(self, pieces: Iterable[bytes], encodings: list[str]) -> Iterator[str]:
        """Yield the text in overlapping windows, each in every encoding."""
        decoders = [codecs.getincrementaldecoder(name)("replace") for name in encodings]
        tails = [""] * len(decoders)

        def decoded(content: bytes, *, final: bool = False) -> Iterator[str]:
            shown: set[str] = set()
            for index, decoder in enumerate(decoders):
                text = tails[index] + decoder.decode(content, final=final)
                tails[index] = (
                    _trim_leading_word(text[-self.overlap :], self.overlap // 4) if len(text) > self.overlap else text
                )
                # Most encodings decode ASCII to the same text.
                if text not in shown:
                    shown.add(text)
                    yield text if final else _trim_trailing_word(text, self.overlap // 4)

        problem: Optional[BaseException] = None
        gathered = bytearray()
        try:
            for piece in pieces:
                gathered += piece
                if len(gathered) >= _WINDOW_BYTES:
                    yield from decoded(bytes(gathered))
                    gathered.clear()
        except READ_ERRORS as error:
            problem = error
        yield from decoded(bytes(gathered), final=True)
        if problem:
            raise problem


def _trim_leading_word(text: str, max_length: int) -> str:
    """Return a text without its leading letters and digits, which may be the rest of a word."""
    start = next((index for index, each in enumerate(text[: max_length + 1]) if not each.isalnum()), 0)
    return text[start:]


def _trim_trailing_word(text: str, max_length: int) -> str:
    """Return a text without its trailing letters and digits, since the word may continue in the next window."""
    end = next((index for index, each in enumerate(reversed(text[-max_length - 1 :])) if not each.isalnum()), 0)
    return text[: len(text) - end]


def _decode_base64(text: str) -> Iterator[bytes]:
    """Yield the content of base64 in a text if it may be text or a file."""
    seen: set[str] = set()
    for found in _BASE64.finditer(text):
        if found.start() and found[0] in seen:
            continue
        seen.add(found[0])
        # In JSON, the letter of an escaped line end may precede it. Its beginning may be in the previous window.
        first = 1 if text[found.start() - 1 : found.start()] == "\\" else 0
        code = re.sub(r"\\[rn]|[\r\n]|=|%3[Dd]", "", found[0][first:]).translate(_URL_SAFE)
        for offset in range(1 if found.start() else 4):
            part = code[offset:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            content = base64.b64decode(part + "=" * (-len(part) % 4))
            if _may_be_text(content):
                yield content


def _may_be_text(content: bytes) -> bool:
    """Return whether bytes may be a text or a file, rather than a word or a digest that looks like base64."""
    if len(content) >= _MIN_CERTAIN_BYTES or content.startswith(_ARCHIVE_SIGNATURES):
        return True
    return len(content) - len(content.translate(None, _CONTROL_BYTES)) <= len(content) // 32


def _extract_column_texts(column: pa.ChunkedArray) -> Iterator[str]:
    """Yield the distinct texts in a column, also in nested types."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # As bytes, since a table of another program may have text that is not UTF-8.
        column, kind = pc.unique(column).cast(pa.large_binary()), pa.large_binary()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield from (value.decode("utf-8", errors="replace") for value in column.to_pylist() if value)
    elif pa.types.is_nested(kind):
        yield from (str(value) for value in column.to_pylist() if value is not None)
