"""Verify an erasure: read every file and search it for the person."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Callable, NamedTuple, Optional

from daybook.contracts.columns import column_key
from daybook.privacy.erasure.files import READ_ERRORS, FileText, TextReader, format_reason, list_files
from daybook.privacy.erasure.terms import SearchTerms, contains_any, raw_row_matches
from daybook.sources.compression import DEFAULT_LIMITS, UnpackLimits
from daybook.storage import CHUNK_BYTES

_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_SPACE_ESCAPE = re.compile(r"\\+[nrtvf]")


@dataclass
class SearchResult:
    """Number of searched files, and the files with matches or errors, by full name."""

    files: int = 0
    matches: dict[str, str] = field(default_factory=dict)
    """Kind of the first match in a file: its name, a column or its text."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file with a match."""
    unsearched: dict[str, str] = field(default_factory=dict)
    """Reason why a file could not be read to its end."""

    @property
    def is_clean(self) -> bool:
        """Whether every file was searched and none has a match."""
        return not self.matches and not self.unsearched


def search_files(
    places: Mapping[str, str],
    terms: SearchTerms,
    personal_columns: Iterable[str],
    allowed: Mapping[str, frozenset[str]],
    held: Collection[tuple[str, str]] = (),
    limits: UnpackLimits = DEFAULT_LIMITS,
    encodings: Iterable[str] = (),
    free_text_columns: Mapping[str, frozenset[str]] = {},
) -> SearchResult:
    """Search every file under some locations.

    Parameters
    ----------
    places
        URIs by name.
    terms
        What to search for.
    personal_columns
        Columns of tables in which personal terms count.
    allowed
        Terms that may occur, by prefix of a file's full name. The list of erased pseudonyms has some.
    held
        Full names and SHA-256 of files that had a match while the person's values were known. If unchanged, they match again.
    limits
        Limits on compressed files.
    encodings
        Encodings that are tried besides UTF-8 and UTF-16.
    free_text_columns
        Keys of columns of free text that the user names, by prefix of a file's full name.
    """
    columns = frozenset(map(column_key, personal_columns))

    def find_match(uri: str, name: str, texts: Iterable[FileText]) -> Optional[str]:
        allowed_here = {each for prefix, values in allowed.items() if name.startswith(prefix) for each in values}
        free_text = {each for prefix, keys in free_text_columns.items() if name.startswith(prefix) for each in keys}
        return next(_find_matches(name[len(uri) :], texts, terms, columns, allowed_here, free_text), None)

    return _search(places.values(), TextReader(_overlap_length(terms), limits, tuple(encodings)), find_match, held)


class LandingMatches(NamedTuple):
    """Landing files with a match, and those that could not be read to their end, with the reason."""

    files: list[str]
    unreadable: dict[str, str]


def search_landing(
    uri: str, terms: SearchTerms, limits: UnpackLimits = DEFAULT_LIMITS, encodings: Iterable[str] = ()
) -> LandingMatches:
    """Search the landing files under a URI, which belong to the source and are never changed."""

    def find_match(_uri: str, _name: str, texts: Iterable[FileText]) -> Optional[str]:
        # In binary data, a short id can occur by chance.
        found = any(contains_any(each.text, terms.everywhere if each.binary else terms.all) for each in texts)
        return "its text" if found else None

    reader = TextReader(_overlap_length(terms), limits, tuple(encodings), embedded=False)
    result = _search([uri], reader, find_match)
    return LandingMatches(list(result.matches), result.unsearched)


def _search(
    uris: Iterable[str],
    reader: TextReader,
    find_match: Callable[[str, str, Iterable[FileText]], Optional[str]],
    held: Optional[Collection[tuple[str, str]]] = None,
) -> SearchResult:
    """Search every file under some URIs with a function of the URI, the file's name and its texts.

    The files that match have digests if ``held`` is given.
    """
    result = SearchResult()
    suspected = {name for name, _ in held or ()}
    for uri in dict.fromkeys(uris):
        for name, open_file in list_files(uri, result.unsearched):
            try:
                with open_file() as file:
                    try:
                        match = find_match(uri, name, reader.read(file, name))
                    except READ_ERRORS as error:
                        match, result.unsearched[name] = None, format_reason(error)
                    if held is not None and (match or name in suspected):
                        digest = _digest_file(file)
                        if not match and (name, digest) in held:
                            match = "unchanged since an earlier try found the person in it"
                        if match:
                            result.digests[name] = digest
                    if match:
                        result.matches[name] = match
            except FileNotFoundError:
                continue  # The file was removed after the listing.
            except READ_ERRORS as error:
                result.unsearched[name] = format_reason(error)
            result.files += 1
    return result


def _overlap_length(terms: SearchTerms) -> int:
    return 8 * max(map(len, terms.all | terms.free_text), default=0) + 32


def _digest_file(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for chunk in iter(partial(file.read, CHUNK_BYTES), b""):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _find_matches(
    name: str,
    texts: Iterable[FileText],
    terms: SearchTerms,
    personal: frozenset[str],
    allowed_here: set[str],
    free_text: set[str],
) -> Iterator[str]:
    everywhere = terms.everywhere - allowed_here
    if contains_any(name, everywhere):
        yield "its name"
    for text, column, binary in texts:
        if column is not None:
            if _column_matches(text, column, terms, everywhere, personal, free_text):
                yield f"column {column}"
        elif any(contains_any(each, everywhere) for each in ({text} if binary else _decode_variants(text))):
            yield "its text"


def _column_matches(
    text: str, column: str, terms: SearchTerms, values: frozenset[str], personal: frozenset[str], free_text: set[str]
) -> bool:
    if column == "_raw" and raw_row_matches(text, terms):
        return True
    if column_key(column) in personal:
        if terms.whole_values.intersection(each.strip() for each in text.split("\n")):
            return True
        values = values | terms.personal
    return contains_any(text, values | terms.free_text if column_key(column) in free_text else values)


def _decode_variants(text: str) -> set[str]:
    """Return a text as it is, without HTML entities, and without the escapes of JSON and reprs."""
    unescaped = re.sub(r"\\+([\"'/])", r"\1", _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text))
    # With a space for \n, the word after it is a whole word.
    return {text, html.unescape(text), unescaped, _SPACE_ESCAPE.sub(" ", unescaped)}
