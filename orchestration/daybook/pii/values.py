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
NO_VALUE = {"null", "none", "nan", "nat", "n/a", "true", "false", "unknown"}
_ELLIPSIS = re.compile(r"\.{3}|…")
_DIGITS_AND_MORE = re.compile(r"(?<!\w)\+?\(?\d(?:[ ()./-]{0,3}\d){7,17}(?!\w)")

LEADING = 4
"""So many words, or all where there are fewer, begin a value wherever it is found whole."""
_PHRASE = 6
TEXT_LENGTH = 12
_CUT_LENGTH = 4
TAIL = 8
"""Digits at the end of a telephone number that tell it from others, however its beginning is written."""
_SHORT = 8
"""A beginning of fewer characters is one only where an ellipsis says so."""


class _Value(NamedTuple):
    column: str
    kind: str
    words: tuple[str, ...]
    written: str
    """As it stands in the data, folded, white space made one space."""


class Forms(NamedTuple):
    """What a value is searched for as: all of it is empty for one that is not."""

    weak: str = ""
    """Digits that are a hit only beside others."""
    whole: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Words in a row, and how they are written: the value itself, then parts of it that tell enough."""
    tail: str = ""
    """The last ``TAIL`` digits of a telephone number."""


def forms_of(kind: str, text: str) -> Forms:
    """What a value of a class is searched for as."""
    words = words_of(text)
    letters = "".join(words)
    if not _worth(text, letters):
        return Forms()
    if letters.isdigit():
        if len(letters) < (6 if kind == "address" else 5):
            return Forms(weak=letters if len(words) == 1 else "")
    elif kind == "text" and (len(words) < 2 or len(text.strip()) < TEXT_LENGTH):
        return Forms()
    whole, tail = [(words, text)], ""
    if kind == "phone":
        digits = re.sub(r"\D", "", text)
        tail = digits[-TAIL:] if len(digits) >= TAIL else ""
    elif kind == "email":
        before, at, _ = text.partition("@")
        local = words_of(before)
        if at and (len(local) > 1 or any(character.isdigit() for character in "".join(local))):
            whole.append((local, before))
    elif kind == "name" and len(words) > 1:
        whole += [((word,), word) for word in words if len(word) >= 4 and not word.isdigit()]
    return Forms("", tuple(whole), tail)


class Traces(NamedTuple):
    """What a text could hold of values: a value that agrees with none of it is not found there."""

    leads: set[str]
    """One to ``LEADING`` words in a row, joined by a space: they begin what is found whole."""
    tails: set[str]
    """``TAIL`` digits in a row of what may be a telephone number."""
    beginnings: set[str]
    """What the words of a value that is cut short begin with, joined by a space."""
    endings: set[str]
    """What they end with, where its beginning is cut off."""


def traces_of(text: str) -> Traces:
    """What a text could hold of values."""
    words = words_of(text)
    leads = {" ".join(words[at : at + size]) for size in range(1, LEADING + 1) for at in range(len(words) - size + 1)}
    tails = {digits[end - TAIL : end] for _, digits in _dialled(text) for end in range(TAIL, len(digits) + 1)}
    beginnings: set[str] = set()
    endings: set[str] = set()
    for ellipsis in _ELLIPSIS.finditer(text):
        beginnings.update(written for _, _, written in _beginnings_at(text, ellipsis.start()))
        endings.update(written for _, _, written in _endings_at(text, ellipsis.end()))
    beginnings.update(written for _, _, written in _beginnings_at(text, len(text), cut_for_sure=False))
    cut = ({each for each in found if _can_be_cut(each)} for found in (beginnings, endings))
    return Traces(leads, tails, *cut)


class PersonalValues:
    """Values by column. ``kind`` is the column's class of personal data: name, email, phone, address, id, text."""

    at_hand = True
    """Whether a text can be searched for all of them at little cost."""

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
        found = forms_of(kind, text)
        if found.weak:
            self._weak[found.weak] = column
        for words, written in found.whole:
            # The parts of an e-mail address are names.
            self._take(column, "name" if kind == "email" and written != text else kind, words, written)
        if found.tail:
            self._tails[found.tail] = column

    def _take(self, column: str, kind: str, words: tuple[str, ...], text: str) -> None:
        value = _Value(column, kind, words, _folded(text))
        self._all.append(value)
        self._first.add(words[0])
        lead = words[:LEADING]
        self._strong.setdefault(len(lead), {}).setdefault(lead, []).append(value)

    def expect(self, texts: Iterable[str]) -> None:
        """Texts that will be searched: of no use where all values are at hand (``SoughtValues``)."""

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
        for places, digits in _dialled(text):
            for end in range(TAIL, len(digits) + 1):
                column = self._tails.get(digits[end - TAIL : end])
                if column:
                    yield (places[0], places[end] + 1, column)

    def _cut(self, text: str, ordinary: Collection[str]) -> Iterator[Hit]:
        """Beginnings of values before an ellipsis, ends after one, and a beginning that the text ends with."""
        for ellipsis in _ELLIPSIS.finditer(text):
            yield from self._first_of(text, _beginnings_at(text, ellipsis.start()), ordinary)
            yield from self._first_of(text, _endings_at(text, ellipsis.end()), ordinary, endings=True)
        yield from self._first_of(text, _beginnings_at(text, len(text), cut_for_sure=False), ordinary)

    def _first_of(
        self, text: str, places: Iterator[tuple[int, int, str]], ordinary: Collection[str], *, endings: bool = False
    ) -> Iterator[Hit]:
        """The longest of some places that a value begins with, or ends with."""
        for start, end, written in places:
            column = _prefixed(self._endings, written[::-1]) if endings else _prefixed(self._beginnings, written)
            if column and text[start:end].strip() not in ordinary:
                yield (start, end, column)
                return

    @cached_property
    def _beginnings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words), each) for each in self._all)

    @cached_property
    def _endings(self) -> list[tuple[str, _Value]]:
        return sorted((" ".join(each.words)[::-1], each) for each in self._all)


def _dialled(text: str) -> Iterator[tuple[list[int], str]]:
    """What may be telephone numbers: where each begins and where its digits stand (from 1 on), and the digits."""
    for found in _DIGITS_AND_MORE.finditer(text):
        places = [place.start() for place in re.finditer(r"\d", found[0])]
        yield [found.start(), *(found.start() + place for place in places)], "".join(found[0][place] for place in places)


def _beginnings_at(text: str, end: int, *, cut_for_sure: bool = True) -> Iterator[tuple[int, int, str]]:
    """What may be the beginning of a value that is cut short at ``end``, the longest first: from, up to, and its words."""
    places = [place.span() for place in _WORD.finditer(text, max(0, end - 120), end)]
    if not places or end - places[-1][1] > 3:
        return
    for index, (start, _) in enumerate(places):
        written = " ".join(text[a:b].casefold() for a, b in places[index:])
        if len(written) < _SHORT and places[-1][1] < end:
            written += " "  # A short word apart from the ellipsis is a whole one: "Load ..." is not Loadson.
        if not cut_for_sure and (len(written) < _SHORT or index == len(places) - 1):
            return
        yield start, places[-1][1], written


def _endings_at(text: str, start: int) -> Iterator[tuple[int, int, str]]:
    """What may be the end of a value whose beginning is cut off at ``start``, the longest first: from, up to, its words."""
    places = [place.span() for place in _WORD.finditer(text, start, start + 120)]
    if not places or places[0][0] - start > 3:
        return
    for count in range(len(places), 0, -1):
        written = " ".join(text[a:b].casefold() for a, b in places[:count])
        if len(written) < _SHORT and start < places[0][0]:
            written = f" {written}"
        yield places[0][0], places[count - 1][1], written


def words_of(text: str) -> tuple[str, ...]:
    """A text's words, folded: runs of letters and digits."""
    return tuple(map(str.casefold, _WORD.findall(text)))


def _worth(text: str, letters: str) -> bool:
    spaceless = re.match(f"[{_SPACELESS}]", letters) is not None
    return len(letters) >= (2 if spaceless else 3) and text.strip().casefold() not in NO_VALUE


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


def _can_be_cut(written: str) -> bool:
    return len(written) >= _CUT_LENGTH and re.search(r"[^\W\d_]", written) is not None


def _prefixed(sorted_values: list[tuple[str, _Value]], written: str) -> Optional[str]:
    """The column of a value that begins like this and goes on."""
    if not _can_be_cut(written):
        return None
    index = bisect_left(sorted_values, (written,))
    for text, value in sorted_values[index : index + 20]:
        if not text.startswith(written):
            return None
        if text != written and (value.kind != "text" or len(written) >= TEXT_LENGTH):
            return value.column
    return None
