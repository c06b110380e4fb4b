"""Read a CSV file, plain or gzipped, as Arrow tables of text, a block at a time.

pyarrow's streaming reader splits the rows. It cannot do three things, which are done here: try several encodings, name the line
of a byte that is not text, and reject a quoted field that is never closed (the rows after it would silently become its value).

DuckDB 1.2.2's ``read_csv`` with ``store_rejects`` fails more cases: it has no windows-1252, reads ``"5" nail`` as ``5 nai``
or not at all, and drops the rows after a quote that is never closed without rejecting them.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple, Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from daybook.contracts.columns import column_key, find_duplicate_column, matching_columns
from daybook.errors import FormatError, LandingError, LimitError
from daybook.sources.compression import DEFAULT_LIMITS, UnpackLimits, is_gzip, unpack
from daybook.sources.config import Entity, Source
from daybook.sources.formats import HEAD_BYTES, SUPPORTED_FORMATS, detect_binary_format, detect_text_format
from daybook.storage import CHUNK_BYTES, open_spooled_file

TECHNICAL_COLUMNS = ("_source_file", "_row_number", "_problem", "_raw")
"""Columns added to each row: the file's key below landing, the number of the data row in it from 1, and for a row that cannot
be split the reason and its text."""

_BLOCK_BYTES = 1 << 20
"""Bytes of text that are split at a time. pyarrow reads up to 32 blocks ahead, and needs the header within the first one."""
_MAX_ROW_BYTES = 4 << 20
"""Bytes of a row. A file without line ends would otherwise be held in memory as a whole. Only a file with a row of more than
``_BLOCK_BYTES`` is split in blocks of this size."""
_TABLE_BYTES = 8 << 20
"""Bytes of values from which on a table is yielded."""
_MAX_BROKEN_BYTES = 64 << 20
"""Memory that consecutive rows with a wrong number of fields may take."""
_BROKEN_ROW_BYTES = 200
"""Memory that such a row takes besides its text."""
_MAX_HEADER_CHARACTERS = 256 << 10
_MAX_COLUMNS = 4096
_LINE_END = re.compile(rb"[\r\n]")


def read_csv_blocks(
    file: BinaryIO, shown: str, key: str, source: Source, name: str, limits: UnpackLimits = DEFAULT_LIMITS
) -> Iterator[pa.Table]:
    """Yield the rows of a file as text.

    Parameters
    ----------
    file
        The file, plain or gzipped. It is read twice: an encoding fits only if all of the file can be decoded.
    shown, key
        The file's address, for messages, and its key below landing.
    source, name
        The source and the entity whose rows the file holds.
    limits
        How much the file may unpack to.

    Yields
    ------
    pyarrow.Table
        The file's columns and ``TECHNICAL_COLUMNS``; at least one table. Rows with a wrong number of fields have empty
        values, ``_problem`` and ``_raw``, and come after the other rows of their table.

    Raises
    ------
    LandingError
        The file is empty or damaged, or a quoted field is never closed.
    FormatError
        The file is not CSV of a declared encoding with the declared columns.
    LimitError
        The file unpacks to too much, or a row or the header is too long.
    """
    entity = source.entities[name]
    delimiter = entity.delimiter or source.delimiter
    encodings = source.encodings(name)
    with open_spooled_file() as unpacked, open_spooled_file() as recoded:
        packed = is_gzip(file)
        if packed:
            file = _decompress_to(file, unpacked, shown, limits)
        file.seek(0)
        head = file.read(HEAD_BYTES)
        if found := detect_binary_format(head, encodings, unpacked=packed):
            raise _unsupported_format_error(shown, found)
        try:
            text = _decode_file(file, recoded, shown, encodings)
            header = _read_header(text, delimiter, shown)
            there = set(map(column_key, header))
            absent = [column for column in entity.columns if column_key(column) not in there]
            if absent:
                raise FormatError(
                    f"{shown}, line 1: column {absent[0]!r} of entity {name!r} is missing "
                    f"({_describe_header(header, entity)}); deliver the file again, or change the source's YAML."
                )
            yield from _parse_blocks(text, header, delimiter, shown, key, block_bytes=_BLOCK_BYTES)
        except (FormatError, LimitError):
            if found := detect_text_format(head.decode(encodings[0], errors="ignore")):
                raise _unsupported_format_error(shown, found) from None
            raise


def _unsupported_format_error(shown: str, found: str) -> FormatError:
    if found.startswith("UTF-"):
        return FormatError(f"{shown} is {found}; declare the file's encoding in the source's YAML, or deliver the file again.")
    return FormatError(f"{shown} is {found}; {SUPPORTED_FORMATS}: export it as CSV and deliver it again.")


class _FileReader(io.RawIOBase):
    """Reads a file from its start, then ``end``. Others may move the file's position meanwhile; closing this leaves it open."""

    def __init__(self, file: BinaryIO, end: bytes = b"") -> None:
        self._file = file
        self._end = end
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        self._file.seek(self._position)
        data = self._file.read(len(view))
        self._position += len(data)
        if not data:
            data, self._end = self._end, b""
        view[: len(data)] = data
        return len(data)


def _decompress_to(file: BinaryIO, into: BinaryIO, shown: str, limits: UnpackLimits) -> BinaryIO:
    try:
        for piece in unpack(file, shown, limits):
            into.write(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise LandingError(f"{shown}: not a whole gzip file ({error}); deliver it again.") from None
    return into


class _DecodingError(Exception):
    """A file is not text of an encoding: the line, and the reason."""


def _decode_file(file: BinaryIO, recoded: BinaryIO, shown: str, encodings: list[str]) -> BinaryIO:
    """Return the file as UTF-8: itself, or ``recoded`` with its text in the first encoding that fits."""
    failures = []
    for encoding in encodings:
        plain, blank = encoding == "utf-8", True
        recoded.seek(0)
        recoded.truncate()
        try:
            for text in _decode_pieces(file, encoding):
                blank = blank and not text.strip()
                if not plain:
                    recoded.write(text.encode())
        except _DecodingError as unfit:
            failures.append(unfit.args)
            continue
        if blank:
            raise LandingError(f"{shown}, line 1: the file is empty, without even a header; deliver it again.")
        return file if plain else recoded
    line, reason = failures[0]
    raise FormatError(
        f"{shown}, line {line}: {reason}; declare the file's encoding in the source's YAML, or deliver the file again."
    )


def _decode_pieces(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Yield a file's text in pieces; raise ``_DecodingError`` at a wrong byte or a NUL character."""
    decoder = codecs.getincrementaldecoder(_codec_name(file, encoding))()
    file.seek(0)
    line, wrong = 1, ""
    while True:
        data, state = file.read(CHUNK_BYTES), decoder.getstate()
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{error.object[error.start]:02x} is not {encoding}"
            # The decoder was given the undecoded end of the pieces before, and this one.
            fit = len(data) - len(error.object) + error.start
            decoder.setstate(state)
            text = decoder.decode(data[:fit]) if fit > 0 else ""
        nul = text.find("\x00")
        if nul >= 0:
            line += text.count("\n", 0, nul)
            raise _DecodingError(line, f"a NUL character, so it is hardly {encoding} text")
        yield text
        line += text.count("\n")
        if wrong:
            raise _DecodingError(line, wrong)
        if not data:
            return


def _codec_name(file: BinaryIO, encoding: str) -> str:
    """Return the codec that decodes a file piece by piece as Python decodes it as a whole."""
    if encoding == "utf-8":
        return "utf-8-sig"
    file.seek(0)
    if encoding == "utf-16" and file.read(2) not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return f"utf-16-{'le' if sys.byteorder == 'little' else 'be'}"
    return encoding


def _find_open_quote(text: BinaryIO, delimiter: str) -> Optional[int]:
    """Return the line on which a quoted field begins that is never closed; None if there is none.

    Such a field ends with the file, or at the opening quote of a later field. In that case it holds a line break, and text
    follows its closing quote. A quote inside an unquoted field (5" nail) opens nothing, and text after the closing quote of the
    same line ("5" nail) is accepted.
    """
    ends = re.escape(delimiter.encode()) + rb"\r\n"
    opening, field_end = re.compile(rb'[%s]"' % ends), re.compile(rb"[%s]" % ends)
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("latin-1")(), translate=True)
    text.seek(0)
    if text.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        text.seek(0)
    # The first field begins as if after a line end, and the last one ends with a line end.
    line, buffer, opened = 0, b"\n", None
    for piece in chain(iter(lambda: text.read(CHUNK_BYTES), b""), [b"\n"]):
        buffer += piece
        position = 0
        while opened := opening.search(buffer, position):
            close = _find_closing_quote(buffer, opened.end())
            after = field_end.search(buffer, close + 1) if close >= 0 else None
            if after is None:
                break
            if buffer[close + 1 : after.start()].strip() and _LINE_END.search(buffer, opened.end(), close):
                return line + newlines.decode(buffer[: opened.end()]).count("\n")
            position = after.start()
        done = opened.start() if opened else max(position, len(buffer) - 1)
        line += newlines.decode(buffer[:done]).count("\n")
        buffer = buffer[done:]
        if opened and len(buffer) > _MAX_ROW_BYTES:
            break  # Most likely it is never closed.
    return line + newlines.decode(buffer[:2]).count("\n") if opened else None


def _find_closing_quote(text: bytes, position: int) -> int:
    """Return the position of the next quote that is not doubled, or -1."""
    while (quote := text.find(b'"', position)) >= 0 and text[quote + 1 : quote + 2] == b'"':
        position = quote + 2
    return quote


def _parse_blocks(
    text: BinaryIO, header: list[str], delimiter: str, shown: str, key: str, *, block_bytes: int, start: int = 1
) -> Iterator[pa.Table]:
    """Yield the rows from number ``start`` on."""
    pending = _BrokenRows()
    schema = pa.schema([(column, pa.string()) for column in header])
    batches: list[pa.RecordBatch] = []
    first, checked = 1, False
    try:
        blocks = pa.csv.open_csv(
            # With line ends after the last row, an open quote always has a line break in its value. There are two of
            # them, since the text of a broken row comes without its last one.
            io.BufferedReader(_FileReader(text, end=b"\n\n")),
            # One thread, so that a broken row knows its number.
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=block_bytes, column_names=header, skip_rows_after_names=1
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=pending.keep_aside
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=schema, strings_can_be_null=False, quoted_strings_can_be_null=False
            ),
        )
        for block in chain(blocks, [None]):
            if block is not None:
                batches.append(block)
                if sum(each.nbytes for each in batches) < _TABLE_BYTES:
                    continue
            rows = pa.Table.from_batches(batches, schema)
            broken = pending.take(first, rows.num_rows)
            if not checked and (_has_line_break(rows) or any(_LINE_END.search(row.raw.encode()) for row in broken)):
                _require_closed_quotes(text, delimiter, shown)
                checked = True
            count = rows.num_rows + len(broken)
            if first + count > start or first + count == 1:
                table = _number_rows(rows, broken, first, key)
                yield table if first >= start else table.filter(pc.field("_row_number") >= start)
            first += count
            batches = []
    except pa.ArrowInvalid as error:
        if pending.bytes > _MAX_BROKEN_BYTES:
            raise FormatError(
                f"{shown}: {len(pending.rows):,} consecutive rows do not have the header's number of fields; "
                f"check the delimiter ({delimiter!r}) in the source's YAML, or deliver the file again."
            ) from None
        _require_closed_quotes(text, delimiter, shown)
        reason = str(error).splitlines()[0]
        if reason.startswith("straddling object") and block_bytes < _MAX_ROW_BYTES:
            yield from _parse_blocks(text, header, delimiter, shown, key, block_bytes=_MAX_ROW_BYTES, start=max(first, start))
            return
        if reason.startswith("straddling object"):
            number = first + sum(each.num_rows for each in batches) + len(pending.rows)
            raise LimitError(
                f"{shown}, data row {number}: the row has more than {_MAX_ROW_BYTES:,} bytes; deliver the file with line ends."
            ) from None
        raise FormatError(f"{shown}: not a CSV file ({reason}); deliver it again.") from None


class _BrokenRow(NamedTuple):
    """A row with a wrong number of fields: its number, the problem, and its text."""

    number: int
    problem: str
    raw: str


class _BrokenRows:
    """The rows that pyarrow could not split and that are in no table yet, in order. pyarrow reads some blocks ahead."""

    def __init__(self) -> None:
        self.rows: list[_BrokenRow] = []
        self.bytes = 0

    def keep_aside(self, row: pa.csv.InvalidRow) -> str:
        """Keep a row; return what pyarrow has to do with it."""
        self.bytes += len(row.text) + _BROKEN_ROW_BYTES
        if self.bytes > _MAX_BROKEN_BYTES:
            return "error"
        problem = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        self.rows.append(_BrokenRow(row.number - 1, problem, row.text))  # pyarrow counts the header.
        return "skip"

    def take(self, first: int, others: int) -> list[_BrokenRow]:
        """Remove and return the rows that stand among ``others`` rows from number ``first`` on, or directly after them."""
        count = 0
        while count < len(self.rows) and self.rows[count].number <= first + others + count:
            count += 1
        taken, self.rows = self.rows[:count], self.rows[count:]
        self.bytes -= sum(len(row.raw) + _BROKEN_ROW_BYTES for row in taken)
        return taken


def _has_line_break(rows: pa.Table) -> bool:
    """Return whether any value of text columns has a line break."""
    texts = (chunk.buffers()[2] for column in rows.columns for chunk in column.chunks)
    # Faster than a compute function for each column.
    return any(end in text for text in (each.to_pybytes() for each in texts if each is not None) for end in (b"\n", b"\r"))


def _require_closed_quotes(text: BinaryIO, delimiter: str, shown: str) -> None:
    line = _find_open_quote(text, delimiter)
    if line is not None:
        raise LandingError(f"{shown}, line {line}: a quoted field that begins here is never closed; deliver the file again.")


def _number_rows(rows: pa.Table, broken: list[_BrokenRow], first: int, key: str) -> pa.Table:
    """Return the rows with the technical columns, then the broken rows."""
    numbers = range(first, first + rows.num_rows + len(broken))
    aside = {row.number for row in broken}
    own = pa.array((number for number in numbers if number not in aside) if aside else numbers, pa.int64())
    columns = [*rows.columns, pa.repeat(key, len(own)), own, pa.nulls(len(own)), pa.nulls(len(own))]
    schema = pa.schema([*rows.schema, *zip(TECHNICAL_COLUMNS, (pa.string(), pa.int64(), pa.string(), pa.string()))])
    numbered = pa.table(columns, schema=schema)
    if not broken:
        return numbered
    empty = dict.fromkeys(rows.column_names, "")
    others = [{**empty, **dict(zip(TECHNICAL_COLUMNS, (key, *row)))} for row in broken]
    return pa.concat_tables([numbered, pa.Table.from_pylist(others, schema)])


def _describe_header(header: list[str], entity: Entity) -> str:
    """Return what an error may say of a header. A first row of data can hold personal data, so its values are not shown."""
    if matching_columns(header, entity.columns):
        return f"the header has: {', '.join(header)}"
    return f"the first line has {len(header)} fields, none of them a declared column"


def _read_header(text: BinaryIO, delimiter: str, shown: str) -> list[str]:
    reader = io.TextIOWrapper(io.BufferedReader(_FileReader(text)), "utf-8-sig", newline="")
    begin = io.StringIO(reader.read(_MAX_HEADER_CHARACTERS), newline="")
    try:
        header = next(csv.reader(begin, delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        raise FormatError(f"{shown}, line 1: the header cannot be read ({error}); deliver the file again.") from None
    if begin.tell() == _MAX_HEADER_CHARACTERS or len(header) > _MAX_COLUMNS:
        raise LimitError(
            f"{shown}, line 1: the header has more than {_MAX_COLUMNS:,} columns or {_MAX_HEADER_CHARACTERS:,} characters; "
            "deliver the file with a shorter header."
        )
    twice = find_duplicate_column(header)
    if twice is not None:
        raise FormatError(f"{shown}, line 1: column {twice!r} appears twice in the header; deliver the file again.")
    reserved = [column for column in header if column_key(column).startswith("_") or column_key(column) == "run_date"]
    if reserved:
        raise FormatError(f"{shown}, line 1: column {reserved[0]!r} has a name that is Daybook's own; rename it at the source.")
    return header
