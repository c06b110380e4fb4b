"""Search terms of an erasure, and their search and replacement in texts.

Terms match whole words in upper or lower case. Unlike in redaction (``privacy.normalize``), accents count: an erasure changes
rows of other people, and two people can have names that differ by an accent only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from daybook.privacy.erasure.masking import ERASED_MARK
from daybook.privacy.redactor import Redactor

_MIN_LENGTH = 3
"""Minimum number of characters of a value that is searched for."""
_MAX_NAME_WORDS = 4
"""Maximum number of words of a name. A longer value is a sentence, whose words identify nobody."""


@dataclass(frozen=True)
class SearchTerms:
    """What to search for, by where a match certainly is the person.

    ``everywhere`` holds the id, its pseudonyms and the values that are no ordinary word and no other person's. ``personal``
    holds the other values, which are searched for in columns of personal data only: elsewhere ``May`` or ``17850`` can be
    an ordinary word or number.
    """

    everywhere: frozenset[str]
    personal: frozenset[str]
    ids: frozenset[str] = frozenset()
    """Short ids. In a malformed row they match whole fields only: ``7`` can be a quantity or part of a date."""
    whole_values: frozenset[str] = frozenset()
    """Ids that match whole values of personal columns only, since other people's values contain them as a word."""
    delimiters: str = ","
    """Delimiters of fields in malformed rows."""
    free_text: frozenset[str] = frozenset()
    """Terms for the columns of free text that the user names."""

    @property
    def all(self) -> frozenset[str]:
        """Terms of all kinds that match as words."""
        return self.everywhere | self.personal | self.ids


def build_search_terms(
    pseudonyms: Iterable[str], ids: Iterable[str], values: Iterable[str], others: Iterable[str], delimiters: str = ","
) -> SearchTerms:
    """Build the search terms for a person.

    Parameters
    ----------
    pseudonyms
        Pseudonyms of the person under all keys.
    ids
        The person's id in the source.
    values
        Personal values in the person's rows.
    others
        Personal values of other people. A value that occurs in them is not searched for.
    delimiters
        Delimiters of fields in malformed rows.
    """
    own_values = {value.strip() for value in values if len(value.strip()) >= _MIN_LENGTH}
    values_of_others = {value.casefold() for value in others}
    joined = "\n".join(values_of_others)
    person_ids = frozenset(ids)
    shared = {value for value in own_values | person_ids if value.casefold() in joined and _word_pattern(value).search(joined)}
    unshared = (own_values | person_ids) - shared
    certain = {value for value in unshared if _is_distinctive(value)}
    whole_values = frozenset(value for value in person_ids & shared if value.casefold() not in values_of_others)
    everywhere = frozenset(pseudonyms) | certain
    return SearchTerms(everywhere, frozenset(unshared - certain), person_ids - certain, whole_values, delimiters)


def contains_any(text: str, values: Iterable[str]) -> bool:
    """Return whether a text has one of the values as a whole word, in upper or lower case."""
    folded = text.casefold()
    return any(value.casefold() in folded and _word_pattern(value).search(folded) for value in values)


def contains_certain(text: str, terms: SearchTerms) -> bool:
    """Return whether a text has a term that is certainly the person."""
    return contains_any(text, terms.everywhere)


def replace_values(text: str, values: Iterable[str], replacement: str = ERASED_MARK) -> str:
    """Return a text with each of the values, as a whole word, replaced."""
    for value in sorted(values, key=len, reverse=True):
        if value.casefold() in text.casefold():
            text = re.sub(_word_pattern(value).pattern, replacement, text, flags=re.IGNORECASE)
    return text


def replace_certain(text: str, terms: SearchTerms, replacement: str = ERASED_MARK) -> str:
    """Return a text with each term that is certainly the person replaced."""
    return replace_values(text, terms.everywhere, replacement)


def raw_row_matches(text: str, terms: SearchTerms) -> bool:
    """Return whether a malformed row is certainly the person's, by a word or by a whole field."""
    ids = {each.casefold() for each in terms.ids}
    return contains_certain(text, terms) or bool(
        ids and ids & {_strip_field(part) for part in _split_fields(text, terms.delimiters)}
    )


def replace_in_raw_row(text: str, terms: SearchTerms, replacement: str = ERASED_MARK) -> str:
    """Return a malformed row, if it is the person's, without certain words and without whole fields of any value."""
    if not raw_row_matches(text, terms):
        return text
    values = {each.casefold() for each in terms.personal | terms.ids}
    parts = _split_fields(replace_certain(text, terms, replacement), terms.delimiters)
    return "".join(replacement if _strip_field(part) in values else part for part in parts)


def mask_reason(why: str, values: Iterable[str]) -> str:
    """Return the user's reason for an erasure without the person's values, words of their names and personal patterns."""
    values = set(values)
    words = {word.strip() for value in values if len(value.split()) <= _MAX_NAME_WORDS for word in value.split()}
    names = {word for word in words | {value.strip() for value in values} if len(word) > 1}
    return Redactor().redact_text(replace_values(why, names | values - {""}))


def _split_fields(text: str, delimiters: str) -> list[str]:
    """Return the fields of a text and, between them, their delimiters."""
    return re.split(rf"([{re.escape(delimiters)}\r\n])", text)


def _strip_field(part: str) -> str:
    return part.strip().strip('"').strip().casefold()


def _word_pattern(value: str) -> re.Pattern[str]:
    """Return a pattern for a value as a whole word of case-folded text."""
    return re.compile(rf"(?<![^\W_]){re.escape(value.casefold())}(?![^\W_])")


def _is_distinctive(value: str) -> bool:
    """Return whether a value is no ordinary word or number, so that each occurrence is the person."""
    if "@" in value:
        return True
    if any(letter.isspace() for letter in value):
        return len(value) >= 8
    return len(value) >= 6 and any(letter.isdigit() for letter in value) and not (value.isdigit() and len(value) < 8)
