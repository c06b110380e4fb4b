"""A CSV file, plain or gzipped, as blocks of rows: whatever its size, some megabytes of it are in memory.

A file is gone through twice. An encoding is one that decodes all of it, and a quote that is never closed is seen at its end:
so the first look decodes, judges and notes where to cut, and only the second splits.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Optional

import pyarrow as pa
import pyarrow.csv

from daybook.contracts.columns import column_key, find_duplicate_column, matching_columns
from daybook.errors import FormatError, LandingError, LimitError
from daybook.sources.compression import DEFAULT_LIMITS, UnpackLimits, is_gzip, unpack
from daybook.sources.config import Entity, Source
from daybook.sources.formats import HEAD_BYTES, SUPPORTED_FORMATS, detect_binary_format, detect_text_format
from daybook.storage import CHUNK_BYTES, open_spooled_file

TECHNICAL_COLUMNS = ("_source_file", "_row_number", "_problem", "_raw")
"""Columns that reading adds: file (under landing), data row in it from 1, why it could not be split, and its text if so."""

_MIN_BLOCK_BYTES = 4 << 20
"""Bytes of text, at least, that are split at a time."""
_MAX_ROW_BYTES = 4 << 20
"""Bytes of one row. Without a limit, a file without line ends would be held in memory as a whole."""
_MAX_BROKEN_ROWS = 100_000
"""Rows of a block that do not split which are put aside one by one. More of them are no rows of this header."""
_MAX_HEADER_CHARACTERS = 256 << 10
"""Characters of the header."""
_MAX_COLUMNS = 4096


def read_csv_blocks(
    file: BinaryIO, shown: str, key: str, source: Source, name: str, limits: UnpackLimits = DEFAULT_LIMITS
) -> Iterator[pa.Table]:
    """The rows of a file as text, plus ``TECHNICAL_COLUMNS``, a table a block, one at least. Rows with a wrong number of fields are
    kept, with ``_problem`` saying so and ``_raw``."""
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
            text, cuts, at, encoding = _decode_file(file, recoded, shown, encodings, delimiter)
            file.seek(0)
            header = _read_header(
                io.TextIOWrapper(io.BufferedReader(_UnclosableFile(file)), encoding, newline=""), delimiter, shown
            )
            there = set(map(column_key, header))
            absent = [column for column in entity.columns if column_key(column) not in there]
            if absent:
                raise FormatError(
                    f"{shown}, line 1: column {absent[0]!r} of entity {name!r} is missing ({_describe_header(header, entity)}); "
                    "deliver the file again, or change the source's YAML."
                )
        except (FormatError, LimitError):
            if found := detect_text_format(head.decode(encodings[0], errors="ignore")):
                raise _unsupported_format_error(shown, found) from None
            raise
        if at is not None:
            line = _count_lines_before(file, encoding, at) + 1
            raise LandingError(
                f"{shown}, line {line}: a quoted field that begins here is never closed; deliver the file again."
            )
        yield from _parse_blocks(text, cuts, header, delimiter, shown, key)


def _unsupported_format_error(shown: str, found: str) -> FormatError:
    if found.startswith("UTF-"):
        return FormatError(f"{shown} is {found}; declare the file's encoding in the source's YAML, or deliver the file again.")
    return FormatError(f"{shown} is {found}; {SUPPORTED_FORMATS}: export it as CSV and deliver it again.")


class _UnclosableFile(io.RawIOBase):
    """A file that whoever reads it through this cannot close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._file.read(len(view))
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
    """That a file is not text of an encoding: from which line on, and why."""


def _decode_file(
    file: BinaryIO, recoded: BinaryIO, shown: str, encodings: list[str], delimiter: str
) -> tuple[BinaryIO, list[int], Optional[int], str]:
    """A file as UTF-8: where it is, its cuts in bytes (the first is where the text begins, the last its end), the character
    where a quoted field opens that is never closed, if any, and the encoding that it came in."""
    failures = []
    for encoding in encodings:
        plain = encoding == "utf-8"
        codec = _codec_name(file, encoding)
        recoded.seek(0)
        recoded.truncate()
        try:
            cuts, at = _find_block_ends(file, None if plain else recoded, codec, encoding, delimiter, shown)
        except _DecodingError as unfit:
            failures.append(unfit.args)
            continue
        if not cuts:
            raise LandingError(f"{shown}, line 1: the file is empty, without even a header; deliver it again.")
        return (file if plain else recoded), cuts, at, codec
    line, reason = failures[0]
    raise FormatError(
        f"{shown}, line {line}: {reason}; declare the file's encoding in the source's YAML, or deliver the file again."
    )


def _codec_name(file: BinaryIO, encoding: str) -> str:
    """What decodes a file piece by piece as Python decodes it whole."""
    if encoding == "utf-8":
        return "utf-8-sig"
    file.seek(0)
    if encoding == "utf-16" and file.read(2) not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return f"utf-16-{'le' if sys.byteorder == 'little' else 'be'}"
    return encoding


def _find_block_ends(
    file: BinaryIO, recoded: Optional[BinaryIO], codec: str, encoding: str, delimiter: str, shown: str
) -> tuple[list[int], Optional[int]]:
    """Decode a file to its end; its cuts (none where it is blank), and where a field opens that is never closed."""
    file.seek(0)
    start = len(codecs.BOM_UTF8) if recoded is None and file.read(3) == codecs.BOM_UTF8 else 0
    file.seek(0)
    quotes, cuts, size, lines, blank = _QuoteScanner(delimiter), [start], start, 0, True
    row = start
    for text in _decode_pieces(file, codec, encoding):
        if "\x00" in text:
            line = lines + text.count("\n", 0, text.index("\x00")) + 1
            raise _DecodingError(line, f"a NUL character, so it is hardly {encoding} text")
        blank = blank and not text.strip()
        if recoded is not None:
            recoded.write(text.encode())
        taken, cut = quotes.look(text)
        if cut:
            row = size + _utf8_length(taken[:cut])
            if row - cuts[-1] >= _MIN_BLOCK_BYTES:
                cuts.append(row)
        size += _utf8_length(taken)
        if size + quotes.held - row > _MAX_ROW_BYTES:
            if quotes.opened is not None:
                # Most likely the quote is never closed. The rest of the file is not read.
                return [*cuts, size], quotes.opened
            raise LimitError(
                f"{shown}, line {lines + 1}: a row has more than {_MAX_ROW_BYTES:,} bytes; deliver the file with line ends."
            )
        lines += text.count("\n")
    taken, _ = quotes.look("", final=True)
    size += _utf8_length(taken)
    if blank:
        return [], None
    return [*cuts, size], quotes.never_closed


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _decode_pieces(file: BinaryIO, codec: str, encoding: str) -> Iterator[str]:
    """A file decoded, piece by piece."""
    decoder = codecs.getincrementaldecoder(codec)()
    before = 0
    while True:
        data, state = file.read(CHUNK_BYTES), decoder.getstate()
        try:
            yield decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            # What the decoder was given: what was left of the pieces before, and this one.
            fit = len(data) - len(error.object) + error.start
            if fit > 0:
                # What is wrong with the text before comes first, in pieces of any size.
                decoder.setstate(state)
                yield decoder.decode(data[:fit])
            place = before + fit
            file.seek(0)
            line = sum(piece.count(b"\n") for piece in _read_pieces(file, place)) + 1
            raise _DecodingError(line, f"byte 0x{error.object[error.start]:02x} is not {encoding}") from None
        if not data:
            return
        before += len(data)


def _read_pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        piece = file.read(min(CHUNK_BYTES, size))
        size -= len(piece)
        yield piece


def _count_lines_before(file: BinaryIO, codec: str, at: int) -> int:
    """How many lines end in a file's first so many characters."""
    file.seek(0)
    lines, last = 0, ""
    for text in _decode_pieces(file, codec, codec):
        text = text[:at]
        at -= len(text)
        lines += len(re.findall(r"\r\n?|\n", text)) - (last == "\r" and text[:1] == "\n")
        last = text[-1:] or last
        if not at:
            break
    return lines


class _QuoteScanner:
    """Where quoted fields open and close in a text that comes in pieces, as the parser will see it.

    A quoted field that is never closed would silently make one value of the rows after it. Such a field ends with the file, or
    at the next field's opening quote, so that text follows its closing one. A quote amid a field (5" nails) opens nothing, and
    text after a closing quote of the same line ("5" nails) is let pass.
    """

    def __init__(self, delimiter: str) -> None:
        ends = re.escape(delimiter) + r"\r\n"
        field = rf'"(?P<value>[^"]*(?:""[^"]*)*)(?P<closed>"?)(?P<rest>[^{ends}]*)'
        self._first = re.compile(rf"(?:\A|[{ends}]){field}")
        self._others = re.compile(rf"[{ends}]{field}")
        self._end = re.compile(rf"[{ends}]")
        self._ends = f"{delimiter}\r\n"
        self._held = ""
        self._before = 0
        self._opened: Optional[int] = None
        self._in_value = False
        self._has_line_break = self._more = False
        self.never_closed: Optional[int] = None

    @property
    def held(self) -> int:
        """Return how many characters were looked at but not taken yet."""
        return len(self._held)

    @property
    def opened(self) -> Optional[int]:
        """Return the position of the quoted field that is open at present."""
        return self._opened if self._in_value else None

    def look(self, piece: str, *, final: bool = False) -> tuple[str, int]:
        """Take the next piece; what of the text was gone through now, and after how many of its characters it can be cut last
        (0 for nowhere)."""
        text = self._held + piece
        kept = len(text)
        if not final:
            # What quotes at the end mean depends on what follows, and on the end of a field before them.
            kept = len(text.rstrip('"'))
            kept -= self._is_field_end(text[kept - 1 : kept])
        text, self._held = text[:kept], text[kept:]
        if self._opened is None and (plain := self._plain_cut(text)) is not None:
            self._before += len(text)
            return text, plain
        position, outside = 0, 0
        if self._opened is not None:
            position = outside = self._continue_field(text, final)
        spans = []
        if self._opened is None:
            pattern = self._others if self._before else self._first
            for field in pattern.finditer(text, position):
                spans.append((outside, field.start("value") - 1))
                outside = field.end()
                self._opened = self._before + field.start("value")
                self._has_line_break, self._more = bool(re.search(r"[\r\n]", field["value"])), bool(field["rest"].strip())
                self._in_value = not field["closed"]
                if field.end() == len(text) and not final:
                    break  # It may go on.
                self._close()
        if not self._in_value:
            spans.append((outside, len(text)))
        if final and self._opened is not None:
            self._close()
        self._before += len(text)
        return text, _find_last_line_end(text, spans)

    def _plain_cut(self, text: str) -> Optional[int]:
        """Where to cut a text in which every quote opens or closes a field of one line, or is doubled in one; None for others,
        which take ten times as long to look at."""
        parts = text.split('"')
        if len(parts) > 1:
            begins = self._is_field_end(parts[0][-1:]) or (not self._before and not parts[0])
            if not (len(parts) % 2 and begins and self._is_field_end(parts[-1][:1])):
                return None
            # Between two quoted fields there are ends of fields, and nothing between the quotes that are doubled in one.
            between = parts[2:-1:2]
            beside = {part[:1] for part in between} | {part[-1:] for part in between}
            within = "".join(parts[1::2])
            if not beside <= {"", *self._ends} or "\n" in within or "\r" in within:
                return None
        stop = len(text)
        for number in range(len(parts) - 1, -1, -1):
            start = stop - len(parts[number])
            found = _find_last_line_end(text, [(start, stop)]) if number % 2 == 0 else 0
            if found:
                return found
            stop = start - 1
        return 0

    def _is_field_end(self, character: str) -> bool:
        return character != "" and character in self._ends

    def _continue_field(self, text: str, final: bool) -> int:
        """Go on in a field that an earlier piece has opened; where it ends."""
        position = 0
        while self._in_value:
            quote = text.find('"', position)
            if quote < 0:
                self._has_line_break = self._has_line_break or bool(re.search(r"[\r\n]", text[position:]))
                return len(text)
            self._has_line_break = self._has_line_break or bool(re.search(r"[\r\n]", text[position:quote]))
            doubled = text[quote + 1 : quote + 2] == '"'
            self._in_value = doubled
            position = quote + 1 + doubled
        end = self._end.search(text, position)
        stop = end.start() if end else len(text)
        self._more = self._more or bool(text[position:stop].strip())
        if end or final:
            self._close()
        return stop

    def _close(self) -> None:
        if self.never_closed is None and (self._in_value or (self._more and self._has_line_break)):
            self.never_closed = self._opened
        self._opened, self._in_value, self._has_line_break, self._more = None, False, False, False


def _find_last_line_end(text: str, spans: Sequence[tuple[int, int]]) -> int:
    """After how many characters the last line ends that ends in one of these spans."""
    for start, stop in reversed(spans):
        found = text.rfind("\n", start, stop)
        if found < 0:
            found = text.rfind("\r", start, stop)
        if found >= 0 and not (text[found] == "\r" and text[found + 1 : found + 2] in ("\n", "")):
            return found + 1
    return 0


def _parse_blocks(
    text: BinaryIO, cuts: Sequence[int], header: list[str], delimiter: str, shown: str, key: str
) -> Iterator[pa.Table]:
    before, names = 0, None
    for start, stop in zip(cuts, cuts[1:]):
        text.seek(start)
        data = text.read(stop - start)
        # Arrow takes a header without a line end for no header.
        table, broken = _parse_block(data if data.endswith((b"\n", b"\r")) else data + b"\n", names, header, delimiter, shown)
        names = names or table.column_names
        first = before + 1
        before += table.num_rows + len(broken)
        aside = {first + number for number, _, _ in broken}
        numbers = pa.array(range(first, before + 1), pa.int64())
        if aside:
            numbers = pa.array([number for number in range(first, before + 1) if number not in aside], pa.int64())
        nothing = pa.nulls(table.num_rows, pa.string())
        good = _add_technical_columns(table, key, numbers, nothing, nothing)
        if broken:
            empty = pa.table({column: pa.array([""] * len(broken), pa.string()) for column in table.column_names})
            where, problems, raw = zip(*broken)
            lines = pa.array([first + number for number in where], pa.int64())
            good = pa.concat_tables(
                [good, _add_technical_columns(empty, key, lines, pa.array(problems, pa.string()), pa.array(raw, pa.string()))]
            )
        yield good


def _parse_block(
    data: bytes, names: Optional[list[str]], header: list[str], delimiter: str, shown: str
) -> tuple[pa.Table, list[tuple[int, str, str]]]:
    """A block's rows (the header's block where there are no names yet), and those that do not split: their number in it from 0,
    why, and their text."""
    broken: list[tuple[int, str, str]] = []
    begin = 2 if names is None else 1

    def keep_aside(row: pa.csv.InvalidRow) -> str:
        if len(broken) == _MAX_BROKEN_ROWS:
            return "error"
        said = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        broken.append((row.number - begin, said, row.text))
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            # One thread, so that a broken row knows its number.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=max(len(data), 1), column_names=names),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep_aside),
            convert_options=pa.csv.ConvertOptions(
                column_types={column: pa.string() for column in header},
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if names is not None and not data.strip(b"\r\n"):
            return pa.schema([(column, pa.string()) for column in names]).empty_table(), []
        if len(broken) == _MAX_BROKEN_ROWS:
            raise FormatError(
                f"{shown}: more than {_MAX_BROKEN_ROWS:,} rows in {len(data):,} bytes do not have the header's number of fields; "
                f"check the delimiter ({delimiter!r}) in the source's YAML, or deliver the file again."
            ) from None
        reason = str(error).splitlines()[0]
        raise FormatError(f"{shown}: not a CSV file ({reason}); deliver it again.") from None
    return table, broken


def _add_technical_columns(table: pa.Table, key: str, numbers: pa.Array, problems: pa.Array, raw: pa.Array) -> pa.Table:
    for name, column in zip(TECHNICAL_COLUMNS, (pa.repeat(key, table.num_rows), numbers, problems, raw)):
        table = table.append_column(name, column)
    return table


def _describe_header(header: list[str], entity: Entity) -> str:
    """What an error may say of a header: its names, unless it is hardly one. A first row of data can hold personal data."""
    if matching_columns(header, entity.columns):
        return f"the header has: {', '.join(header)}"
    return f"the first line has {len(header)} fields, none of them a declared column"


def _read_header(text: io.TextIOWrapper, delimiter: str, shown: str) -> list[str]:
    begin = io.StringIO(text.read(_MAX_HEADER_CHARACTERS), newline="")
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
        raise FormatError(f"{shown}, line 1: column {twice!r} stands twice in the header; deliver the file again.")
    reserved = [column for column in header if column_key(column).startswith("_") or column_key(column) == "run_date"]
    if reserved:
        raise FormatError(f"{shown}, line 1: column {reserved[0]!r} has a name that is Daybook's own; rename it at the source.")
    return header
