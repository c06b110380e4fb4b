"""The raw personal values of a run, arranged so that a text can be searched for all of them at once.

Here: which values are worth a search, and finding them whole, cut short or differently spaced. Not here: where they come from
(``daybook.personal``), other spellings of a text (``daybook.pii.decoding``), what happens to a hit (``daybook.pii.redaction``).

Some values say nothing by themselves, and taking them out of records would falsify these:

- one or two characters, and words for "no value";
- digits of an address (a postal code), or fewer than five digits of anything: they look like any count. They are hits
  only in a text where another value was found (*weak*);
- a comment of one word or under 12 characters. A longer one is found by its first six words, since it is often cut;
- a word as a notebook, a contract, a source or Daybook itself writes it (*ordinary*): gold, where a customer is called Gold.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, Optional

from daybook.pii.keys import ERASED
from daybook.pii.shapes import Hit

# Chinese, Japanese and Thai write without spaces: there each character stands for itself.
_SPACELESS = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_NO_VALUE = {"null", "none", "nan", "nat", "n/a", "true", "false", "unknown"}
_ELLIPSIS = re.compile(r"\.{3}|…")
_DIGITS_AND_MORE = re.compile(r"(?<!\w)\+?\(?\d(?:[ ()./-]{0,3}\d){7,17}(?!\w)")

_LEADING = 4
_PHRASE = 6
_TEXT_LENGTH = 12
_CUT_LENGTH = 4
_TAIL = 8
"""Digits at the end of a telephone number that tell it from others, however its beginning is written."""


class _Value(NamedTuple):
    column: str
    kind: str
    words: tuple[str, ...]
    written: str
    """As it stands in the data, folded, white space made one space."""


class PersonalValues:
    """Values by column. ``kind`` is the column's class of personal data: name, email, phone, address, id, text."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        # By how many words begin the value, and these words.
        self._strong: dict[int, dict[tuple[str, ...], list[_Value]]] = {}
        self._weak: dict[str, str] = {}
        self._first: set[str] = set()
        self._tails: dict[str, str] = {}
        self._all: list[_Value] = []

    def __len__(self) -> int:
        return len(self._all) + len(self._weak)

    def add(self, column: str, kind: str, values: Iterable[Optional[str]]) -> None:
        """Take in a column's values. Those that are too common to be searched for are left out."""
        for text in values:
            # What stands in for an erased value is nobody's.
            if text is None or text.startswith(ERASED) or (column, text) in self._known:
                continue
            self._known.add((column, text))
            self._add(column, kind, text)

    def _add(self, column: str, kind: str, text: str) -> None:
        words = words_of(text)
        letters = "".join(words)
        if not _worth(text, letters):
            return
        if letters.isdigit():
            if len(letters) < (6 if kind == "address" else 5):
                if len(words) == 1:
                    self._weak[letters] = column
                return
        elif kind == "text" and (len(words) < 2 or len(text.strip()) < _TEXT_LENGTH):
            return
        self._take(column, kind, words, text)
        if kind == "phone":
            digits = re.sub(r"\D", "", text)
            if len(digits) >= _TAIL:
                self._tails[digits[-_TAIL:]] = column
        elif kind == "email":
            local = words_of(text.partition("@")[0])
            if len(local) > 1 or any(character.isdigit() for character in "".join(local)):
                self._take(column, "name", local, text.partition("@")[0])
        elif kind == "name" and len(words) > 1:
            for word in words:
                if len(word) >= 4 and not word.isdigit():
                    self._take(column, kind, (word,), word)

    def _take(self, column: str, kind: str, words: tuple[str, ...], text: str) -> None:
        value = _Value(column, kind, words, _folded(text))
        self._all.append(value)
        self._first.add(words[0])
        lead = words[:_LEADING]
        self._strong.setdefault(len(lead), {}).setdefault(lead, []).append(value)

    def find(self, text: str, *, ordinary: Collection[str] = (), exactly: bool = False) -> Iterator[Hit]:
        """Every value in a text, in no order; hits may overlap.

        ``ordinary`` are words, as written, that are no hits. ``exactly`` is for a program's own text: single words are no hits
        there, and separators must be as in the data.
        """
        found = set(map(str.casefold, _WORD.findall(text)))
        hits = []
        if not found.isdisjoint(self._first):
            hits = list(self._whole(text, ordinary, exactly))
        hits += self._phones(text)
        if not exactly:
            hits += self._cut(text, ordinary)
        yield from hits
        if hits and not exactly and not found.isdisjoint(self._weak):
            for place in _WORD.finditer(text):
                column = self._weak.get(place[0])
                if column and _a_number(text, *place.span()):
                    yield (*place.span(), column)

    def _whole(self, text: str, ordinary: Collection[str], exactly: bool) -> Iterator[Hit]:
        places = [place.span() for place in _WORD.finditer(text)]
        words = [text[start:end].casefold() for start, end in places]
        sizes = sorted(self._strong)
        for index, word in enumerate(words):
            if word not in self._first:
                continue
            for size in sizes:
                for value in self._strong[size].get(tuple(words[index : index + size]), ()):
                    count = _agreeing(value, words, index)
                    if not count:
                        continue
                    start, end = places[index][0], places[index + count - 1][1]
                    if self._is_hit(value, text, start, end, count, ordinary, exactly):
                        yield (start - (text[start - 1 : start] == "+"), end, value.column)

    def _is_hit(
        self, value: _Value, text: str, start: int, end: int, count: int, ordinary: Collection[str], exactly: bool
    ) -> bool:
        written = text[start:end]
        if "".join(value.words).isdigit():
            # Digits with other separators are another number: 10:50 is not 10.50.
            return _folded(written) == value.written and _a_number(text, start, end)
        if count == 1:
            return not exactly and written not in ordinary
        if exactly:
            return _folded(written) in value.written
        return all(len("".join(gap.split())) <= 3 for gap in _WORD.split(written))

    def _phones(self, text: str) -> Iterator[Hit]:
        """Telephone numbers of the run, by their last digits."""
        if not self._tails:
            return
        for found in _DIGITS_AND_MORE.finditer(text):
            places = [place.start() for place in re.finditer(r"\d", found[0])]
            digits = "".join(found[0][place] for place in places)
            for end in range(_TAIL, len(digits) + 1):
                column = self._tails.get(digits[end - _TAIL : end])
                if column:
                    yield (found.start(), found.start() + places[end - 1] + 1, column)

    def _cut(self, text: str, ordinary: Collection[str]) -> Iterator[Hit]:
        """Beginnings of values before an ellipsis, ends after one, and a beginning that the text ends with."""
        for ellipsis in _ELLIPSIS.finditer(text):
            yield from self._beginning(text, ellipsis.start(), ordinary)
            yield from self._ending(text, ellipsis.end(), ordinary)
        yield from self._beginning(text, len(text), ordinary, cut_for_sure=False)

    def _beginning(self, text: str, end: int, ordinary: Collection[str], *, cut_for_sure: bool = True) -> Iterator[Hit]:
        last = max(0, end - 120)
        places = [place.span() for place in _WORD.finditer(text, last, end)]
        if not places or end - places[-1][1] > 3:
            return
        for index, (start, _) in enumerate(places):
            written = " ".join(text[a:b].casefold() for a, b in places[index:])
            if len(written) < 8 and places[-1][1] < end:
                written += " "  # A short word apart from the ellipsis is a whole one: "Load ..." is not Loadson.
            if not cut_for_sure and (len(written) < 8 or index == len(places) - 1):
                return
            column = _prefixed(self._beginnings, written)
            if column and text[start:end].strip() not in ordinary:
                yield (start, places[-1][1], column)
                return

    def _ending(self, text: str, start: int, ordinary: Collection[str]) -> Iterator[Hit]:
        places = [place.span() for place in _WORD.finditer(text, start, start + 120)]
        if not places or places[0][0] - start > 3:
            return
        for count in range(len(places), 0, -1):
            written = " ".join(text[a:b].casefold() for a, b in places[:count])
            if len(written) < 8 and start < places[0][0]:
                written = f" {written}"
            column = _prefixed(self._endings, written[::-1])
            if column and text[start : places[count - 1][1]].strip() not in ordinary:
                yield (places[0][0], places[count - 1][1], column)
                return

    @cached_property
    def _beginnings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words), each) for each in self._all)

    @cached_property
    def _endings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words)[::-1], each) for each in self._all)


def words_of(text: str) -> tuple[str, ...]:
    """A text's words, folded: runs of letters and digits."""
    return tuple(map(str.casefold, _WORD.findall(text)))


def _worth(text: str, letters: str) -> bool:
    spaceless = re.match(f"[{_SPACELESS}]", letters) is not None
    return len(letters) >= (2 if spaceless else 3) and text.strip().casefold() not in _NO_VALUE


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _agreeing(value: _Value, words: list[str], index: int) -> int:
    """How many words from ``index`` on are the value's; 0 where it is not this value."""
    wanted = value.words
    if tuple(words[index : index + len(wanted)]) == wanted:
        return len(wanted)
    if value.kind != "text" or len(wanted) <= _PHRASE or tuple(words[index : index + _PHRASE]) != wanted[:_PHRASE]:
        return 0
    count = _PHRASE
    while index + count < len(words) and words[index + count] == wanted[count]:
        count += 1
    return count


def _a_number(text: str, start: int, end: int) -> bool:
    """Whether digits stand for themselves, and are no part of a decimal number, a date, a time or a version."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if re.fullmatch(r"\.0(?!\d)", after) and not re.match(r"\d", text[end + 2 : end + 3]):
        after = ""  # pandas shows a whole number beside nulls as 17850.0
    marks = ".:" if end - start >= 5 else ".,:/-"
    return not (re.fullmatch(rf"\d[{marks}]", before) or before.endswith(".") or re.fullmatch(rf"[{marks}]\d", after))


def _prefixed(sorted_values: list[tuple[str, _Value]], written: str) -> Optional[str]:
    """The column of a value that begins like this and goes on."""
    if len(written) < _CUT_LENGTH or not re.search(r"[^\W\d_]", written):
        return None
    index = bisect_left(sorted_values, (written,))
    for text, value in sorted_values[index : index + 20]:
        if not text.startswith(written):
            return None
        if text != written and (value.kind != "text" or len(written) >= _TEXT_LENGTH):
            return value.column
    return None
