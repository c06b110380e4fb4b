"""The proof of an erasure: every file is read, and nothing of the person is in it.

What is looked for everywhere: the id, its pseudonyms, and those of the person's values that are long enough to be no ordinary
word and that no other known person shares. What could be an ordinary word or number (``May``, ``17850``) is looked for where
personal values and pseudonyms stand, in columns of tables; elsewhere nobody could tell whether it is the person.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple

from daybook.contracts.columns import column_key
from daybook.privacy.erasure.files import READ_ERRORS, FileText, TextReader, format_reason, list_files
from daybook.sources.compression import DEFAULT_LIMITS, UnpackLimits
from daybook.storage import CHUNK_BYTES

_MIN_LENGTH = 3
"""Shorter values are not looked for at all."""
_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class SearchTerms:
    """What to look for: ``everywhere``, or only in ``personal`` columns of tables.

    ``ids`` are those of the personal ones that in a row which could not be split are the person's where they fill a field, as
    the source's ``delimiters`` end it: ``7`` is also a quantity and a part of a date.
    """

    everywhere: frozenset[str]
    personal: frozenset[str]
    ids: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    """Ids that in personal columns are looked for as whole values: as a word they stand in other people's, in a street say."""
    delimiters: str = ","
    free: frozenset[str] = frozenset()
    """Values looked for in the columns of free text that the user names."""

    @property
    def all(self) -> frozenset[str]:
        return self.everywhere | self.personal | self.ids


@dataclass
class SearchResult:
    """What the search found: how many files were read, and for each file with something in it, what kind of thing.

    ``digests`` holds the SHA-256 of each file found, ``unsearched`` the reason for each that could not be read to its end.
    """

    files: int = 0
    found: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    unsearched: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.found and not self.unsearched


def build_search_terms(
    pseudonyms: Iterable[str], ids: Iterable[str], values: Iterable[str], others: Iterable[str], delimiters: str = ","
) -> SearchTerms:
    """Divide what a person's rows held by where it can be looked for; values that are other people's too are left out."""
    wanted = {value.strip() for value in values if len(value.strip()) >= _MIN_LENGTH}
    values_of_others = {value.casefold() for value in others}
    theirs = "\n".join(values_of_others)
    named = frozenset(ids)
    shared = {value for value in wanted | named if value.casefold() in theirs and _word_pattern(value).search(theirs)}
    own = (wanted | named) - shared
    certain = {value for value in own if _is_distinctive(value)}
    cells = frozenset(value for value in named & shared if value.casefold() not in values_of_others)
    return SearchTerms(frozenset(pseudonyms) | certain, frozenset(own - certain), named - certain, cells, delimiters)


def search_files(
    places: Mapping[str, str],
    needles: SearchTerms,
    personal_columns: Iterable[str],
    allowed: Mapping[str, frozenset[str]],
    held: Collection[tuple[str, str]] = (),
    limits: UnpackLimits = DEFAULT_LIMITS,
    encodings: Iterable[str] = (),
    free: Mapping[str, frozenset[str]] = {},
) -> SearchResult:
    """Search every file under the places (URIs, by a name for people).

    ``allowed`` says, for the beginning of a file's full name, what may stand there: the list of erased pseudonyms is one.
    ``held`` are files, by full name and SHA-256, that held the person when that could still be told: unchanged, they still do.
    ``free`` holds columns of free text, by the beginning of a file's full name.
    """
    proof = SearchResult()
    columns = frozenset(map(column_key, personal_columns))
    texts = TextReader(_overlap_length(needles), limits, tuple(encodings))
    suspected = {name for name, _ in held}
    for uri in dict.fromkeys(places.values()):
        for item in list_files(uri, proof.unsearched):
            name = item.name
            let = {each for beginning, those in allowed.items() if name.startswith(beginning) for each in those}
            also = {each for beginning, those in free.items() if name.startswith(beginning) for each in those}
            try:
                with item.open() as file:
                    try:
                        told = next(_find_matches(name[len(uri) :], texts.of(file, name), needles, columns, let, also), None)
                    except READ_ERRORS as error:
                        told, proof.unsearched[name] = None, format_reason(error)
                    if told or name in suspected:
                        digest = _digest_file(file)
                        if not told and (name, digest) in held:
                            told = "unchanged since an earlier try found the person in it"
                        if told:
                            proof.found[name], proof.digests[name] = told, digest
            except FileNotFoundError:
                continue  # Removed since it was listed.
            except READ_ERRORS as error:
                proof.unsearched[name] = format_reason(error)
            proof.files += 1
    return proof


class LandingMatches(NamedTuple):
    """Landing files that hold something of a person, and those that could not be searched to their end, with the reason."""

    found: list[str]
    unreadable: dict[str, str]


def search_landing(
    uri: str, needles: SearchTerms, limits: UnpackLimits = DEFAULT_LIMITS, encodings: Iterable[str] = ()
) -> LandingMatches:
    """Search the landing files under a URI. They belong to the source and are not changed."""
    result = LandingMatches([], {})
    texts = TextReader(_overlap_length(needles), limits, tuple(encodings), embedded=False)
    for item in list_files(uri, result.unreadable):
        try:
            with item.open() as file:
                for each in texts.of(file, item.name):
                    # Among bytes that are no text, a short id stands by chance.
                    if contains_any(each.text, needles.everywhere if each.binary else needles.all):
                        result.found.append(item.name)
                        break
        except FileNotFoundError:
            continue
        except READ_ERRORS as error:
            result.unreadable[item.name] = format_reason(error)
    return result


def _overlap_length(needles: SearchTerms) -> int:
    return 8 * max(map(len, needles.all | needles.free), default=0) + 32


def _digest_file(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for piece in iter(partial(file.read, CHUNK_BYTES), b""):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def contains_any(text: str, wanted: Iterable[str]) -> bool:
    """Whether a text holds any of the values as a whole word, in upper or lower case."""
    return next(_find_in_text(text, wanted), None) is not None


def replace_values(text: str, wanted: Iterable[str], instead: str) -> str:
    """The text with each of the values, as a whole word, replaced."""
    for value in sorted(wanted, key=len, reverse=True):
        if value.casefold() in text.casefold():
            text = re.sub(_word_pattern(value).pattern, instead, text, flags=re.IGNORECASE)
    return text


def raw_row_matches(text: str, needles: SearchTerms) -> bool:
    """Whether the text of a row that could not be split is certainly the person's, by a word or by a whole field."""
    ids = {each.casefold() for each in needles.ids}
    return contains_any(text, needles.everywhere) or bool(
        ids and ids & {_strip_field(part) for part in _split_fields(text, needles.delimiters)}
    )


def replace_in_raw_row(text: str, needles: SearchTerms, instead: str) -> str:
    """Such a text without the person, where it is the person's: words that are certain, and whole fields of all the values."""
    if not raw_row_matches(text, needles):
        return text
    values = {each.casefold() for each in needles.personal | needles.ids}
    parts = _split_fields(replace_values(text, needles.everywhere, instead), needles.delimiters)
    return "".join(instead if _strip_field(part) in values else part for part in parts)


def _split_fields(text: str, delimiters: str) -> list[str]:
    """The fields of a text and, between them, what ended each."""
    return re.split(rf"([{re.escape(delimiters)}\r\n])", text)


def _strip_field(part: str) -> str:
    return part.strip().strip('"').strip().casefold()


def _find_matches(
    name: str, texts: Iterable[FileText], needles: SearchTerms, personal: frozenset[str], let: set[str], free: set[str]
) -> Iterator[str]:
    anywhere = needles.everywhere - let
    if contains_any(name, anywhere):
        yield "its name"
    for text, column, binary in texts:
        if column is not None:
            if _column_matches(text, column, needles, anywhere, personal, free):
                yield f"column {column}"
        elif any(contains_any(each, anywhere) for each in ({text} if binary else {text, html.unescape(text), _unescape(text)})):
            yield "its text"


def _column_matches(
    text: str, column: str, needles: SearchTerms, anywhere: frozenset[str], personal: frozenset[str], free: set[str]
) -> bool:
    if column == "_raw" and raw_row_matches(text, needles):
        return True
    if column_key(column) in personal:
        if needles.cells.intersection(each.strip() for each in text.split("\n")):
            return True
        anywhere = anywhere | needles.personal
    return contains_any(text, anywhere | needles.free if column_key(column) in free else anywhere)


def _find_in_text(text: str, wanted: Iterable[str]) -> Iterator[str]:
    folded = text.casefold()
    for value in wanted:
        if value.casefold() in folded and _word_pattern(value).search(folded):
            yield value


def _word_pattern(value: str) -> re.Pattern[str]:
    """The value as a whole word of a case-folded text."""
    return re.compile(rf"(?<![^\W_]){re.escape(value.casefold())}(?![^\W_])")


def _unescape(text: str) -> str:
    """What JSON and reprs have escaped, as it was."""
    text = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"\\+([\"'/])", r"\1", text)


def _is_distinctive(value: str) -> bool:
    """Whether a value is no ordinary word or number, so that where it stands, it is the person."""
    if "@" in value:
        return True
    if any(letter.isspace() for letter in value):
        return len(value) >= 8
    return len(value) >= 6 and any(letter.isdigit() for letter in value) and not (value.isdigit() and len(value) < 8)
