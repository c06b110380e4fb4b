"""Index the personal values of a run and find all of them in a text.

Some values are too common to redact by themselves:

- One or two characters, and words for "no value", are never hits.
- Fewer than five digits, or fewer than six of an address (a postal code), look like a count. They are *weak*: hits only in a
  text with another value.
- A comment of one word or under 12 characters is not a hit. A longer one is found by its first six words, since it is often
  truncated.
- *Ordinary* words, which notebooks, contracts, sources or Daybook use, are not hits as they are written there: gold, for a
  customer called Gold.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Callable, NamedTuple, Optional

from daybook.privacy.normalize import (
    SPACELESS_SCRIPTS,
    WORD,
    collapse_digraphs,
    collapse_word_digraphs,
    fold_text,
    fold_with_positions,
    split_folded_words,
    split_words,
)
from daybook.privacy.patterns import Hit
from daybook.privacy.pseudonyms import ERASED_PREFIX

NULL_WORDS = {"null", "none", "nan", "nat", "n/a", "true", "false", "unknown"}
_ELLIPSIS = re.compile(r"\.{3}")
_WORD_WITH_DIGITS = re.compile(r"\d{0,8}([^\W\d_]{4,})\d{0,8}")
_HEX_LETTERS = re.compile(r"[a-f]+")
_PHONE_LIKE = re.compile(r"(?<!\w)\+?\(?\d(?:[ ()./-]{0,3}\d){7,17}(?!\w)")

MAX_LEADING_WORDS = 4
"""Number of words, or all if there are fewer, with which a value begins wherever it is found whole."""
MIN_NAME_PART_LENGTH = 4
"""Minimum number of characters of a word of a name that is searched for by itself."""
_PHRASE_WORDS = 6
MIN_TEXT_LENGTH = 12
MIN_TRUNCATED_LENGTH = 4
PHONE_TAIL_DIGITS = 8
"""Number of last digits that identify a telephone number, whatever its prefix."""
MAX_PREFIX_MATCHES = 20
"""Maximum number of values with the same beginning that are compared with a truncated text."""
_WINDOW = 120
"""Number of characters before and after an ellipsis that are searched."""
_MAX_GAP = 1000
"""Maximum number of characters between two words of a value."""
_MAX_PHRASE_WORDS = 500
"""Maximum number of words of a long text that are redacted together."""
_SHORT = 8
"""Number of characters below which only an ellipsis marks a truncated value."""


_IsOrdinary = Callable[[int, int], bool]


class _Value(NamedTuple):
    words: tuple[str, ...]
    column: str
    kind: str
    written: str
    """The value in normal form with its separators and single spaces."""


class SearchForms(NamedTuple):
    """The forms in which a value is searched for. All are empty for a value that is not searched for."""

    weak: str = ""
    """Digits that are a hit only in a text with other hits."""
    whole: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Words in sequence and their text: the value, then parts that identify a person."""
    tail: str = ""
    """The last ``PHONE_TAIL_DIGITS`` digits of a telephone number."""


def build_search_forms(kind: str, text: str) -> SearchForms:
    """Return the forms in which a value of a class is searched for."""
    raw = split_folded_words(text)
    words, letters = collapse_word_digraphs(raw), "".join(raw)
    if not _is_searchable(text, letters):
        return SearchForms()
    if letters.isdigit():
        if len(letters) < (6 if kind == "address" else 5):
            return SearchForms(weak=letters if len(words) == 1 else "")
    elif kind == "text" and (len(words) < 2 or len(text.strip()) < MIN_TEXT_LENGTH):
        return SearchForms()
    whole, tail = [(words, text)], ""
    if kind == "phone":
        digits = re.sub(r"\D", "", fold_text(text))
        tail = digits[-PHONE_TAIL_DIGITS:] if len(digits) >= PHONE_TAIL_DIGITS else ""
    elif kind == "email":
        before, at, _ = text.partition("@")
        local = split_words(before)
        if at and (len(local) > 1 or any(character.isdigit() for character in "".join(local))):
            whole.append((local, before))
    elif kind == "name" and len(words) > 1:
        whole += [((word,), long) for word, long in zip(words, raw) if len(long) >= MIN_NAME_PART_LENGTH and not long.isdigit()]
    return SearchForms("", tuple(whole), tail)


class SearchKeys(NamedTuple):
    """Search keys of a text. A value that matches none of them is not in the text."""

    leads: set[str]
    """Sequences of 1 to ``MAX_LEADING_WORDS`` words, joined by a space: the first words of whole values."""
    tails: set[str]
    """Sequences of ``PHONE_TAIL_DIGITS`` digits of possible telephone numbers."""
    beginnings: set[str]
    """Beginnings of truncated values: words joined by a space."""
    endings: set[str]
    """Ends of values whose beginning is cut off."""


def extract_search_keys(text: str) -> SearchKeys:
    """Return the search keys of a text."""
    plain = fold_with_positions(text).text
    words = collapse_word_digraphs(WORD.findall(plain))
    leads = {" ".join(words[at : at + size]) for size in range(1, MAX_LEADING_WORDS + 1) for at in range(len(words) - size + 1)}
    leads.update(filter(None, map(_strip_digits, words)))
    tails = {
        digits[end - PHONE_TAIL_DIGITS : end]
        for _, digits in _find_phone_like(plain)
        for end in range(PHONE_TAIL_DIGITS, len(digits) + 1)
    }
    beginnings: set[str] = set()
    endings: set[str] = set()
    for places, from_start in _find_truncations(plain):
        (beginnings if from_start else endings).update(written for _, _, written in places)
    cut = ({each for each in found if _can_be_truncated(each)} for found in (beginnings, endings))
    return SearchKeys(leads, tails, *cut)


class PersonalValues:
    """Find personal values in texts, in memory."""

    in_memory = True
    """Whether all values are in memory, so that a search is cheap."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], str] = {}
        """Class of each value that was added, by column and value, in the order of addition."""
        # By their words; long texts by their first words.
        self._strong: dict[tuple[str, ...], list[_Value]] = {}
        self._phrases: dict[tuple[str, ...], list[_Value]] = {}
        self._sizes: dict[str, set[int]] = {}
        """Numbers of words of the keys above, by first word."""
        self._sorted: set[tuple[str, ...]] = set()
        """Keys of phrases whose values are sorted by their words."""
        self._weak: dict[str, str] = {}
        self._tails: dict[str, str] = {}
        self._all: list[_Value] = []

    def __len__(self) -> int:
        return len(self._all) + len(self._weak)

    def add(self, column: str, kind: str, values: Iterable[Optional[str]]) -> None:
        """Add a column's values, except those that are too common.

        ``kind`` is the column's class of personal data: name, email, phone, address, id or text.
        """
        for text in values:
            if text is None or text.startswith(ERASED_PREFIX) or (column, text) in self.known:
                continue
            self.known[column, text] = kind
            self._add_value(column, kind, text)

    def _add_value(self, column: str, kind: str, text: str) -> None:
        found = build_search_forms(kind, text)
        if found.weak:
            self._weak[found.weak] = column
        for words, written in found.whole:
            # The parts of an e-mail address are names.
            self._add_form(column, "name" if kind == "email" and written != text else kind, words, written)
        if found.tail:
            self._tails[found.tail] = column

    def _add_form(self, column: str, kind: str, words: tuple[str, ...], text: str) -> None:
        value = _Value(words, column, kind, _fold_spacing(text))
        is_long = kind == "text" and len(words) > _PHRASE_WORDS
        key = words[:_PHRASE_WORDS] if is_long else words
        same_key = (self._phrases if is_long else self._strong).setdefault(key, [])
        if is_long or value not in same_key:
            same_key.append(value)
            self._all.append(value)
        self._sizes.setdefault(words[0], set()).add(len(key))
        self._sorted.discard(key)

    def prefetch(self, texts: Iterable[str]) -> None:
        """Do nothing: all values are in memory. ``ValueMatcher`` looks them up."""

    def find(self, text: str, *, ordinary: Collection[str] = (), exactly: bool = False) -> Iterator[Hit]:
        """Yield every value in a text, in no order. Hits may overlap.

        Parameters
        ----------
        text
            The text to search.
        ordinary
            Words that are not hits, as they are written.
        exactly
            For source code: single words are not hits, and separators must be as in the data.
        """
        plain = fold_with_positions(text)
        places = [place.span() for place in WORD.finditer(plain.text)]
        words = collapse_word_digraphs([plain.text[start:end] for start, end in places])

        def is_ordinary(start: int, end: int) -> bool:
            first, last = plain.original_span(start, end)
            return text[first:last].strip() in ordinary

        hits = [*self._find_whole(plain.text, places, words, is_ordinary, exactly), *self._find_phones(plain.text)]
        if not exactly:
            hits += [*self._find_names_with_digits(places, words, is_ordinary), *self._find_truncated(plain.text, is_ordinary)]
            if hits and not self._weak.keys().isdisjoint(words):
                hits += self._find_weak(plain.text, places, words)
        for start, end, column in hits:
            yield (*plain.original_span(start, end), column)

    def _find_weak(self, text: str, places: list[tuple[int, int]], words: tuple[str, ...]) -> Iterator[Hit]:
        """Find weak values in a text with other hits."""
        for place, word in zip(places, words):
            column = self._weak.get(word)
            if column and _is_standalone_number(text, *place):
                yield (*place, column)

    def _find_names_with_digits(
        self, places: list[tuple[int, int]], words: tuple[str, ...], is_ordinary: _IsOrdinary
    ) -> Iterator[Hit]:
        """Find names of one word with digits before or after it."""
        for place, word in zip(places, words):
            part = _strip_digits(word)
            for value in self._strong.get((part,), ()) if part else ():
                if value.kind == "name" and not is_ordinary(*place):
                    yield (*place, value.column)

    def _find_whole(
        self, text: str, places: list[tuple[int, int]], words: tuple[str, ...], is_ordinary: _IsOrdinary, exactly: bool
    ) -> Iterator[Hit]:
        for index, word in enumerate(words):
            for size in self._sizes.get(word, ()):
                key = words[index : index + size]
                if len(key) < size:
                    continue
                for value in self._strong.get(key, ()):
                    if self._is_hit(value, text, places[index : index + size], is_ordinary, exactly):
                        start = places[index][0]
                        yield (start - (text[start - 1 : start] == "+"), places[index + size - 1][1], value.column)
                if size == _PHRASE_WORDS and key in self._phrases:
                    value, count = self._find_longest_match(key, words[index : index + _MAX_PHRASE_WORDS])
                    if self._is_hit(value, text, places[index : index + count], is_ordinary, exactly):
                        yield (places[index][0], places[index + count - 1][1], value.column)

    def _find_longest_match(self, key: tuple[str, ...], words: tuple[str, ...]) -> tuple[_Value, int]:
        """Return the long text with the longest common prefix of words, and the number of those words."""
        values = self._phrases[key]
        if key not in self._sorted:
            values.sort()
            self._sorted.add(key)
        # Among sorted texts, one of the two neighbors has the longest common prefix.
        at = bisect_left(values, (words,))
        best = max(values[max(0, at - 1) : at + 1], key=lambda value: _common_prefix_length(value.words, words))
        return best, _common_prefix_length(best.words, words)

    def _is_hit(self, value: _Value, text: str, places: list[tuple[int, int]], is_ordinary: _IsOrdinary, exactly: bool) -> bool:
        start, end = places[0][0], places[-1][1]
        if "".join(value.words).isdigit():
            # Digits with other separators are another number: 10:50 is not 10.50.
            return _fold_spacing(text[start:end]) == value.written and _is_standalone_number(text, start, end)
        if len(places) == 1:
            return not exactly and not is_ordinary(start, end)
        if exactly:
            return _fold_spacing(text[start:end]) in value.written
        gaps = (text[before:after] for (_, before), (after, _) in zip(places, places[1:]))
        return all(len(gap) < _MAX_GAP and len("".join(gap.split())) <= 3 for gap in gaps)

    def _find_phones(self, text: str) -> Iterator[Hit]:
        """Find telephone numbers by their last digits."""
        if not self._tails:
            return
        for places, digits in _find_phone_like(text):
            for end in range(PHONE_TAIL_DIGITS, len(digits) + 1):
                column = self._tails.get(digits[end - PHONE_TAIL_DIGITS : end])
                if column:
                    yield (places[0], places[end] + 1, column)

    def _find_truncated(self, text: str, is_ordinary: _IsOrdinary) -> Iterator[Hit]:
        """Find beginnings of values before an ellipsis or the end of the text, and ends of values after an ellipsis."""
        for places, from_start in _find_truncations(text):
            for start, end, written in places:
                found = (
                    _find_by_prefix(self._beginnings, written) if from_start else _find_by_prefix(self._endings, written[::-1])
                )
                if found and not is_ordinary(start, end):
                    yield (start, end, found)
                    break

    @cached_property
    def _beginnings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words), each) for each in self._all)

    @cached_property
    def _endings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words)[::-1], each) for each in self._all)


def _find_phone_like(text: str) -> Iterator[tuple[list[int], str]]:
    """Yield possible telephone numbers: the positions of the first character and of all digits, and the digits."""
    for found in _PHONE_LIKE.finditer(text):
        places = [place.start() for place in re.finditer(r"\d", found[0])]
        yield [found.start(), *(found.start() + place for place in places)], "".join(found[0][place] for place in places)


def _strip_digits(word: str) -> str:
    """Return the letters of a word with digits before or after them; empty for other words and hex digits."""
    if word.isalpha() or word.isdigit():
        return ""
    found = _WORD_WITH_DIGITS.fullmatch(word)
    return found[1] if found and not _HEX_LETTERS.fullmatch(found[1]) else ""


def _find_truncations(text: str) -> Iterator[tuple[Iterator[tuple[int, int, str]], bool]]:
    """Yield candidates for truncated values at each ellipsis and at the end, and whether their beginning is present.

    The text between two ellipses is searched once from each side, so that the time is linear in the length of the text.
    """
    ellipses = [found.span() for found in _ELLIPSIS.finditer(text)]
    for index, (start, end) in enumerate(ellipses):
        yield _prefixes_before(text, start, ellipses[index - 1][1] if index else 0), True
        yield _suffixes_after(text, end, ellipses[index + 1][0] if index + 1 < len(ellipses) else len(text)), False
    yield _prefixes_before(text, len(text), ellipses[-1][1] if ellipses else 0, has_ellipsis=False), True


def _prefixes_before(text: str, end: int, min_start: int, *, has_ellipsis: bool = True) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and words of possible beginnings of a value that is cut off at ``end``, longest first."""
    places = [place.span() for place in WORD.finditer(text, max(min_start, end - _WINDOW), end)]
    if not places or end - places[-1][1] > 3:
        return
    words = collapse_word_digraphs([text[a:b] for a, b in places])
    for index, (start, _) in enumerate(places):
        written = " ".join(words[index:])
        if len(written) < _SHORT and places[-1][1] < end:
            written += " "  # A short word before a space and an ellipsis is complete: "Load ..." is not Loadson.
        if not has_ellipsis and (len(written) < _SHORT or index == len(places) - 1):
            return
        yield start, places[-1][1], written


def _suffixes_after(text: str, start: int, max_end: int) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and words of possible ends of a value that is cut off at ``start``, longest first."""
    places = [place.span() for place in WORD.finditer(text, start, min(max_end, start + _WINDOW))]
    if not places or places[0][0] - start > 3:
        return
    words = collapse_word_digraphs([text[a:b] for a, b in places])
    for count in range(len(places), 0, -1):
        written = " ".join(words[:count])
        if len(written) < _SHORT and start < places[0][0]:
            written = f" {written}"
        yield places[0][0], places[count - 1][1], written


def _is_searchable(text: str, letters: str) -> bool:
    spaceless = re.match(f"[{SPACELESS_SCRIPTS}]", letters) is not None
    return len(letters) >= (2 if spaceless else 3) and text.strip().casefold() not in NULL_WORDS


def _fold_spacing(text: str) -> str:
    return collapse_digraphs(" ".join(fold_text(text).split()))


def _common_prefix_length(words: tuple[str, ...], others: tuple[str, ...]) -> int:
    """Return the number of equal words at the beginning."""
    different = (index for index, (word, other) in enumerate(zip(words, others)) if word != other)
    return next(different, min(len(words), len(others)))


def _is_standalone_number(text: str, start: int, end: int) -> bool:
    """Return whether digits are not part of a decimal number, a date, a time or a version."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if re.fullmatch(r"\.0(?!\d)", after) and not re.match(r"\d", text[end + 2 : end + 3]):
        after = ""  # pandas shows an integer in a column with nulls as 17850.0.
    marks = ".:" if end - start >= 5 else ".,:/-"
    return not (re.fullmatch(rf"\d[{marks}]", before) or before.endswith(".") or re.fullmatch(rf"[{marks}]\d", after))


def _can_be_truncated(written: str) -> bool:
    return len(written) >= MIN_TRUNCATED_LENGTH and re.search(r"[^\W\d_]", written) is not None


def _find_by_prefix(sorted_values: list[tuple[str, _Value]], written: str) -> Optional[str]:
    """Return the column of a value that begins with ``written`` and is longer; None if there is none."""
    if not _can_be_truncated(written):
        return None
    index = bisect_left(sorted_values, (written,))
    for text, value in sorted_values[index : index + MAX_PREFIX_MATCHES]:
        if not text.startswith(written):
            return None
        if text != written and (value.kind != "text" or len(written) >= MIN_TEXT_LENGTH):
            return value.column
    return None
