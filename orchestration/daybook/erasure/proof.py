"""The proof of an erasure: every file is read, and nothing of the person is in it.

Here: what to look for, reading every kind of file, and what was found where. Not here: erasing (``erasing``).

What is looked for everywhere: the id, its pseudonyms, and those of the person's values that are long enough to be no ordinary
word and that no other known person shares. What could be an ordinary word or number (``May``, ``17850``) is looked for where
personal values and pseudonyms stand, in columns of tables; elsewhere nobody could tell whether it is the person.
"""

from __future__ import annotations

import codecs
import hashlib
import html
import io
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daybook.columns import column_key
from daybook.errors import LimitError
from daybook.sources.packing import LIMITS, Limits, is_gzip, unpack
from daybook.storage import CHUNK, Store

_LEAST = 3
"""Shorter values are not looked for at all."""
_DAMAGED = (OSError, EOFError, zlib.error, LimitError)
"""Reasons why a gzip file cannot be unpacked to its end."""
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Needles:
    """What to look for: ``anywhere``, or only in ``personal`` columns of tables.

    ``ids`` are those of the personal ones that in a row which could not be split are the person's where they fill a field, as
    the source's ``delimiters`` end it: ``7`` is also a quantity and a part of a date.
    """

    anywhere: frozenset[str]
    personal: frozenset[str]
    ids: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    """Ids that in personal columns are looked for as whole values: as a word they stand in other people's, in a street say."""
    delimiters: str = ","

    @property
    def all(self) -> frozenset[str]:
        return self.anywhere | self.personal | self.ids


@dataclass
class Proof:
    """What the search found: how many files were read, and for each file with something in it, what kind of thing.

    ``digests`` holds the SHA-256 of each file found.
    """

    files: int = 0
    found: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.found


def needles_for(
    pseudonyms: Iterable[str], ids: Iterable[str], values: Iterable[str], others: Iterable[str], delimiters: str = ","
) -> Needles:
    """Divide what a person's rows held by where it can be looked for; values that are other people's too are left out."""
    wanted = {value.strip() for value in values if len(value.strip()) >= _LEAST}
    values_of_others = {value.casefold() for value in others}
    theirs = "\n".join(values_of_others)
    named = frozenset(ids)
    shared = {value for value in wanted | named if value.casefold() in theirs and _pattern(value).search(theirs)}
    own = (wanted | named) - shared
    certain = {value for value in own if _is_certain(value)}
    cells = frozenset(value for value in named & shared if value.casefold() not in values_of_others)
    return Needles(frozenset(pseudonyms) | certain, frozenset(own - certain), named - certain, cells, delimiters)


def search(
    places: Mapping[str, str],
    needles: Needles,
    personal_columns: Iterable[str],
    allowed: Mapping[str, frozenset[str]],
    held: Collection[tuple[str, str]] = (),
    limits: Limits = LIMITS,
) -> Proof:
    """Search every file under the places (URIs, by a name for people).

    ``allowed`` says, for the beginning of a file's full name, what may stand there: the list of erased pseudonyms is one.
    ``held`` are files, by full name and SHA-256, that held the person when that could still be told: unchanged, they still do.
    """
    proof = Proof()
    columns = frozenset(map(column_key, personal_columns))
    for uri in dict.fromkeys(places.values()):
        store = Store(uri)
        for key in store.keys(""):
            name = store.href(key)
            proof.files += 1
            let = {each for beginning, those in allowed.items() if name.startswith(beginning) for each in those}
            data = store.read(key)
            digest = hashlib.sha256(data).hexdigest()
            told = next(_findings(name, data, needles, columns, let, limits), None)
            if told is None and (name, digest) in held:
                told = "unchanged since an earlier try found the person in it"
            if told:
                proof.found[name], proof.digests[name] = told, digest
    return proof


class Holders(NamedTuple):
    """Landing files that hold something of a person, and those that could not be searched to their end."""

    found: list[str]
    unread: list[str]


def holders(uri: str, needles: Needles, limits: Limits = LIMITS) -> Holders:
    """Search the landing files under a URI. They belong to the source and are not changed."""
    store, result = Store(uri), Holders([], [])
    for key in store.keys(""):
        file, _ = store.read_marked(key)
        with file:
            try:
                if any(
                    next(_in_text(text, needles.all), None) for text in _windows(file, store.href(key), needles.all, limits)
                ):
                    result.found.append(store.href(key))
            except _DAMAGED:
                result.unread.append(store.href(key))
    return result


def _windows(file: BinaryIO, shown: str, wanted: Collection[str], limits: Limits) -> Iterator[str]:
    """Yield the text of a plain or gzip file in pieces, each of which begins with the end of the one before.

    The common part is longer than any wanted value. Raises one of ``_DAMAGED`` if a gzip file cannot be unpacked to its end.
    """
    file.seek(0)
    pieces = unpack(file, shown, limits) if is_gzip(file) else iter(partial(file.read, CHUNK), b"")
    file.seek(0)
    common = 4 * max(map(len, wanted), default=0) + 8
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = ""
    for piece in pieces:
        text = text[-common:] + decoder.decode(piece)
        # What may go on in the next piece is left to it: the end of a word is not known yet.
        yield re.sub(r"[^\W_]+\Z", "", text)
    yield text[-common:] + decoder.decode(b"", final=True)


def mentions(text: str, wanted: Iterable[str]) -> bool:
    """Whether a text holds any of the values as a whole word, in upper or lower case."""
    return next(_in_text(text, wanted), None) is not None


def without(text: str, wanted: Iterable[str], instead: str) -> str:
    """The text with each of the values, as a whole word, replaced."""
    for value in sorted(wanted, key=len, reverse=True):
        if value.casefold() in text.casefold():
            text = re.sub(_pattern(value).pattern, instead, text, flags=re.IGNORECASE)
    return text


def in_raw(text: str, needles: Needles) -> bool:
    """Whether the text of a row that could not be split is certainly the person's, by a word or by a whole field."""
    ids = {each.casefold() for each in needles.ids}
    return mentions(text, needles.anywhere) or bool(ids and ids & {_bare(part) for part in _fields(text, needles.delimiters)})


def raw_without(text: str, needles: Needles, instead: str) -> str:
    """Such a text without the person, where it is the person's: words that are certain, and whole fields of all the values."""
    if not in_raw(text, needles):
        return text
    values = {each.casefold() for each in needles.personal | needles.ids}
    parts = _fields(without(text, needles.anywhere, instead), needles.delimiters)
    return "".join(instead if _bare(part) in values else part for part in parts)


def _fields(text: str, delimiters: str) -> list[str]:
    """The fields of a text and, between them, what ended each."""
    return re.split(rf"([{re.escape(delimiters)}\r\n])", text)


def _bare(part: str) -> str:
    return part.strip().strip('"').strip().casefold()


def _findings(
    name: str, data: bytes, needles: Needles, personal: frozenset[str], let: set[str], limits: Limits
) -> Iterator[str]:
    anywhere = needles.anywhere - let
    if name.endswith(".parquet"):
        table = pq.read_table(pa.BufferReader(data))
        for column in table.column_names:
            if column == "_raw" and in_raw("\n".join(_texts(table.column(column))), needles):
                yield f"column {column}"
            restricted = column_key(column) in personal
            wanted = anywhere | needles.personal if restricted else anywhere
            if restricted and needles.cells.intersection(text.strip() for text in _texts(table.column(column))):
                yield f"column {column}"
            # One text of all: looking for a few values in it is fast.
            if next(_in_text("\n".join(_texts(table.column(column))), wanted), None):
                yield f"column {column}"
    try:
        # Parquet's own bytes too: smallest and largest values of columns stand in them as they are.
        for text in _windows(io.BytesIO(data), name, anywhere, limits):
            written = {text} if name.endswith(".parquet") else {text, html.unescape(text), _unescaped(text)}
            for variant in written:
                if next(_in_text(variant, anywhere), None):
                    yield "its text"
    except _DAMAGED as error:
        yield f"it cannot be searched to its end: {error}"


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    """The different texts in a column, however deep."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from (value for value in pc.unique(column).to_pylist() if value)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield from (value.decode("utf-8", errors="replace") for value in column.to_pylist() if value)
    elif pa.types.is_nested(kind):
        yield from (str(value) for value in column.to_pylist() if value is not None)


def _in_text(text: str, wanted: Iterable[str]) -> Iterator[str]:
    folded = text.casefold()
    for value in wanted:
        if value.casefold() in folded and _pattern(value).search(folded):
            yield value


def _pattern(value: str) -> re.Pattern[str]:
    """The value as a whole word of a case-folded text."""
    return re.compile(rf"(?<![^\W_]){re.escape(value.casefold())}(?![^\W_])")


def _unescaped(text: str) -> str:
    """What JSON and reprs have escaped, as it was."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"\\+([\"'/])", r"\1", text)


def _is_certain(value: str) -> bool:
    """Whether a value is no ordinary word or number, so that where it stands, it is the person."""
    if "@" in value:
        return True
    if any(letter.isspace() for letter in value):
        return len(value) >= 8
    return len(value) >= 6 and any(letter.isdigit() for letter in value) and not (value.isdigit() and len(value) < 8)
