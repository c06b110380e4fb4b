"""The raw personal values of a run, arranged so that a text can be searched for all of them at once.

Some values say nothing by themselves, and taking them out of records would falsify these:

- one or two characters, and words for "no value"; - digits of an address (a postal code), or fewer than five digits of
anything: they look like any count. They are hits only in a text where another value was found (*weak*); - a comment of one
word or under 12 characters. A longer one is found by its first six words, since it is often cut; - a word as a notebook, a
contract, a source or Daybook itself writes it (*ordinary*): gold, where a customer is called Gold.
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
"""So many words, or all where there are fewer, begin a value wherever it is found whole."""
MIN_NAME_PART_LENGTH = 4
"""Characters of a word of a name that is searched for by itself."""
_PHRASE_WORDS = 6
MIN_TEXT_LENGTH = 12
MIN_TRUNCATED_LENGTH = 4
PHONE_TAIL_DIGITS = 8
"""Digits at the end of a telephone number that tell it from others, however its beginning is written."""
_WINDOW = 120
"""Characters before and after an ellipsis that are looked at."""
_MAX_GAP = 1000
"""Maximum number of characters between two words of a value."""
_MAX_PHRASE_WORDS = 500
"""Maximum number of words of a long text that are redacted together."""
_SHORT = 8
"""A beginning of fewer characters is one only where an ellipsis says so."""


_IsOrdinary = Callable[[int, int], bool]


class _Value(NamedTuple):
    words: tuple[str, ...]
    column: str
    kind: str
    written: str
    """The value in normal form, with its separators; white space is one space."""


class SearchForms(NamedTuple):
    """What a value is searched for as: all of it is empty for one that is not."""

    weak: str = ""
    """Digits that are a hit only beside others."""
    whole: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Words in a row, and how they are written: the value itself, then parts of it that tell enough."""
    tail: str = ""
    """The last ``PHONE_TAIL_DIGITS`` digits of a telephone number."""


def build_search_forms(kind: str, text: str) -> SearchForms:
    """What a value of a class is searched for as."""
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
    """What a text could hold of values: a value that agrees with none of it is not found there."""

    leads: set[str]
    """One to ``MAX_LEADING_WORDS`` words in a row, joined by a space: they begin what is found whole."""
    tails: set[str]
    """``PHONE_TAIL_DIGITS`` digits in a row of what may be a telephone number."""
    beginnings: set[str]
    """What the words of a value that is cut short begin with, joined by a space."""
    endings: set[str]
    """What they end with, where its beginning is cut off."""


def extract_search_keys(text: str) -> SearchKeys:
    """What a text could hold of values."""
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
    """Values by column. ``kind`` is the column's class of personal data: name, email, phone, address, id, text."""

    in_memory = True
    """Whether a text can be searched for all of them at little cost."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        # By their words; long texts by the first ones.
        self._strong: dict[tuple[str, ...], list[_Value]] = {}
        self._phrases: dict[tuple[str, ...], list[_Value]] = {}
        self._sizes: dict[str, set[int]] = {}
        """The numbers of words of the keys above, by first word."""
        self._sorted: set[tuple[str, ...]] = set()
        """Keys of phrases whose values are in the order of their words."""
        self._weak: dict[str, str] = {}
        self._tails: dict[str, str] = {}
        self._all: list[_Value] = []

    def __len__(self) -> int:
        return len(self._all) + len(self._weak)

    def add(self, column: str, kind: str, values: Iterable[Optional[str]]) -> None:
        """Take in a column's values. Those that are too common to be searched for are left out."""
        for text in values:
            # What stands in for an erased value is nobody's.
            if text is None or text.startswith(ERASED_PREFIX) or (column, text) in self._known:
                continue
            self._known.add((column, text))
            self._add(column, kind, text)

    def _add(self, column: str, kind: str, text: str) -> None:
        found = build_search_forms(kind, text)
        if found.weak:
            self._weak[found.weak] = column
        for words, written in found.whole:
            # The parts of an e-mail address are names.
            self._take(column, "name" if kind == "email" and written != text else kind, words, written)
        if found.tail:
            self._tails[found.tail] = column

    def _take(self, column: str, kind: str, words: tuple[str, ...], text: str) -> None:
        value = _Value(words, column, kind, _fold_spacing(text))
        is_long = kind == "text" and len(words) > _PHRASE_WORDS
        key = words[:_PHRASE_WORDS] if is_long else words
        alike = (self._phrases if is_long else self._strong).setdefault(key, [])
        if is_long or value not in alike:
            alike.append(value)
            self._all.append(value)
        self._sizes.setdefault(words[0], set()).add(len(key))
        self._sorted.discard(key)

    def prefetch(self, texts: Iterable[str]) -> None:
        """Texts that will be searched: of no use where all values are at hand (``SoughtValues``)."""

    def find(self, text: str, *, ordinary: Collection[str] = (), exactly: bool = False) -> Iterator[Hit]:
        """Every value in a text, in no order; hits may overlap.

        ``ordinary`` are words, as written, that are no hits. ``exactly`` is for a program's own text: single words are no hits
        there, and separators must be as in the data.
        """
        plain = fold_with_positions(text)
        places = [place.span() for place in WORD.finditer(plain.text)]
        words = collapse_word_digraphs([plain.text[start:end] for start, end in places])

        def is_ordinary(start: int, end: int) -> bool:
            first, last = plain.span(start, end)
            return text[first:last].strip() in ordinary

        hits = [*self._whole(plain.text, places, words, is_ordinary, exactly), *self._find_phones(plain.text)]
        if not exactly:
            hits += [*self._find_names_with_digits(places, words, is_ordinary), *self._find_truncated(plain.text, is_ordinary)]
            if hits and not self._weak.keys().isdisjoint(words):
                hits += self._find_weak(plain.text, places, words)
        for start, end, column in hits:
            yield (*plain.span(start, end), column)

    def _find_weak(self, text: str, places: list[tuple[int, int]], words: tuple[str, ...]) -> Iterator[Hit]:
        """Find weak values, in a text that has others."""
        for place, word in zip(places, words):
            column = self._weak.get(word)
            if column and _is_standalone_number(text, *place):
                yield (*place, column)

    def _find_names_with_digits(
        self, places: list[tuple[int, int]], words: tuple[str, ...], is_ordinary: _IsOrdinary
    ) -> Iterator[Hit]:
        """Find names of one word with digits before or after them."""
        for place, word in zip(places, words):
            part = _strip_digits(word)
            for value in self._strong.get((part,), ()) if part else ():
                if value.kind == "name" and not is_ordinary(*place):
                    yield (*place, value.column)

    def _whole(
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
        """Return the long text that agrees with most of some words, and how many they are."""
        values = self._phrases[key]
        if key not in self._sorted:
            values.sort()
            self._sorted.add(key)
        # Of sorted texts, one of the two neighbours agrees longest.
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
        """Telephone numbers of the run, by their last digits."""
        if not self._tails:
            return
        for places, digits in _find_phone_like(text):
            for end in range(PHONE_TAIL_DIGITS, len(digits) + 1):
                column = self._tails.get(digits[end - PHONE_TAIL_DIGITS : end])
                if column:
                    yield (places[0], places[end] + 1, column)

    def _find_truncated(self, text: str, is_ordinary: _IsOrdinary) -> Iterator[Hit]:
        """Find beginnings of values before an ellipsis, ends after one, and a beginning that the text ends with."""
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
    """Yield what may be telephone numbers: the positions of the first character and of all digits, and the digits."""
    for found in _PHONE_LIKE.finditer(text):
        places = [place.start() for place in re.finditer(r"\d", found[0])]
        yield [found.start(), *(found.start() + place for place in places)], "".join(found[0][place] for place in places)


def _strip_digits(word: str) -> str:
    """Return the letters of a word that has digits before or after them; empty for other words, and for hex digits."""
    if word.isalpha() or word.isdigit():
        return ""
    found = _WORD_WITH_DIGITS.fullmatch(word)
    return found[1] if found and not _HEX_LETTERS.fullmatch(found[1]) else ""


def _find_truncations(text: str) -> Iterator[tuple[Iterator[tuple[int, int, str]], bool]]:
    """Yield the places of values that may be cut short: at each ellipsis and at the end, and whether their beginning is left.

    What is between two ellipses is looked at once from each side, so that many of them cost no more than few.
    """
    ellipses = [found.span() for found in _ELLIPSIS.finditer(text)]
    for index, (start, end) in enumerate(ellipses):
        yield _prefixes_before(text, start, ellipses[index - 1][1] if index else 0), True
        yield _suffixes_after(text, end, ellipses[index + 1][0] if index + 1 < len(ellipses) else len(text)), False
    yield _prefixes_before(text, len(text), ellipses[-1][1] if ellipses else 0, cut_for_sure=False), True


def _prefixes_before(text: str, end: int, least: int, *, cut_for_sure: bool = True) -> Iterator[tuple[int, int, str]]:
    """Yield what may be the beginning of a value that is cut at ``end``, the longest first: from, up to, and its words."""
    places = [place.span() for place in WORD.finditer(text, max(least, end - _WINDOW), end)]
    if not places or end - places[-1][1] > 3:
        return
    words = collapse_word_digraphs([text[a:b] for a, b in places])
    for index, (start, _) in enumerate(places):
        written = " ".join(words[index:])
        if len(written) < _SHORT and places[-1][1] < end:
            written += " "  # A short word apart from the ellipsis is a whole one: "Load ..." is not Loadson.
        if not cut_for_sure and (len(written) < _SHORT or index == len(places) - 1):
            return
        yield start, places[-1][1], written


def _suffixes_after(text: str, start: int, most: int) -> Iterator[tuple[int, int, str]]:
    """Yield what may be the end of a value that is cut at ``start``, the longest first: from, up to, and its words."""
    places = [place.span() for place in WORD.finditer(text, start, min(most, start + _WINDOW))]
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
    """Return how many first words are the same."""
    count = 0
    for word, other in zip(words, others):
        if word != other:
            break
        count += 1
    return count


def _is_standalone_number(text: str, start: int, end: int) -> bool:
    """Whether digits stand for themselves, and are no part of a decimal number, a date, a time or a version."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if re.fullmatch(r"\.0(?!\d)", after) and not re.match(r"\d", text[end + 2 : end + 3]):
        after = ""  # pandas shows a whole number beside nulls as 17850.0
    marks = ".:" if end - start >= 5 else ".,:/-"
    return not (re.fullmatch(rf"\d[{marks}]", before) or before.endswith(".") or re.fullmatch(rf"[{marks}]\d", after))


def _can_be_truncated(written: str) -> bool:
    return len(written) >= MIN_TRUNCATED_LENGTH and re.search(r"[^\W\d_]", written) is not None


def _find_by_prefix(sorted_values: list[tuple[str, _Value]], written: str) -> Optional[str]:
    """The column of a value that begins like this and goes on."""
    if not _can_be_truncated(written):
        return None
    index = bisect_left(sorted_values, (written,))
    for text, value in sorted_values[index : index + 20]:
        if not text.startswith(written):
            return None
        if text != written and (value.kind != "text" or len(written) >= MIN_TEXT_LENGTH):
            return value.column
    return None
