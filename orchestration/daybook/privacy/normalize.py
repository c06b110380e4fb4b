"""The normal form of text: one spelling for all ways to write the same letters and digits.

Values and texts get the same form, so a value is found however its letters are written:

- Unicode's compatibility form (NFKC), case folded; decimal digits of any script become ASCII digits; - accents of Latin, Greek
and Cyrillic letters removed; ``ø``, ``ł``, ``đ``, ``ß`` and the like become ASCII letters; - format and control characters
removed: zero-width characters, soft hyphens, marks of direction; - UTF-8 that was read as Latin-1 or Windows-1252 (``Ã©``) is
read again; - within words, ``ae``, ``oe`` and ``ue`` become ``a``, ``o`` and ``u``: ``Müller``, ``Mueller`` and ``Muller``
agree.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Optional

# Chinese, Japanese and Thai write without spaces. Each character is a word there.
SPACELESS_SCRIPTS = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"[{SPACELESS_SCRIPTS}]|[^\W_{SPACELESS_SCRIPTS}]+")

_NON_ASCII = re.compile(r"[^\t-\r -~]+")
"""All but printable ASCII and white space."""
ASCII_PATTERN = r"[\t-\r -~]*"
"""A regular expression for texts whose normal form is their lower case. RE2 reads it as Python does."""
_BASE_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"})
_CONTINUATION = "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
# Only letters that UTF-8 of European scripts begins with: others are followed by such characters in correct text, too.
_MOJIBAKE = re.compile(rf"(?:[ÂÃÄÅÎÏÐÑ][{_CONTINUATION}]|[âá][{_CONTINUATION}]{{2}}|ð\u0178[{_CONTINUATION}]{{2}})+")
_DIGRAPHS = ("ae", "oe", "ue")


class DerivedText:
    """A text made from another one: ``text``, and where each part of it was in the original."""

    def __init__(self, text: str, origin: Optional[DerivedText] = None) -> None:
        self.text = text
        self._origin = origin
        # One entry for each replaced part: its position here (from, to), and in the origin (from, to).
        self._derived_spans: list[tuple[int, int]] = []
        self._origin_spans: list[tuple[int, int]] = []
        self._starts: list[int] = []

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the position in the first text of the part from ``start`` up to ``end``."""
        if self._origin is None or start >= end:
            return start, end
        return self._origin.span(self._origin_start(start), self._origin_end(end - 1))

    def _origin_start(self, position: int) -> int:
        found = bisect_right(self._starts, position) - 1
        if found < 0:
            return position
        (_, here_end), (there, there_end) = self._derived_spans[found], self._origin_spans[found]
        return there if position < here_end else there_end + position - here_end

    def _origin_end(self, position: int) -> int:
        """Return the end, exclusive, of the character at ``position``."""
        found = bisect_right(self._starts, position) - 1
        if found < 0:
            return position + 1
        (_, here_end), (_, there_end) = self._derived_spans[found], self._origin_spans[found]
        return there_end if position < here_end else there_end + position - here_end + 1

    def replace_parts(self, parts: Iterable[tuple[int, int, str]]) -> Optional[DerivedText]:
        """Return the text with parts of it (from, to) replaced, in their order; None if nothing changes."""
        return self._derive(((start, end, meant) for start, end, meant in parts if meant != self.text[start:end]), between=True)

    def extract_parts(self, parts: Iterable[tuple[int, int, str]]) -> Optional[DerivedText]:
        """Return the meanings of parts of the text, one per line; None if there are none."""
        return self._derive(parts, between=False)

    def _derive(self, parts: Iterable[tuple[int, int, str]], *, between: bool) -> Optional[DerivedText]:
        reading, texts, length, last = DerivedText("", self), [], 0, 0
        for start, end, meant in parts:
            before = self.text[last:start] if between else "\n"
            texts += [before, meant]
            length += len(before)
            reading._derived_spans.append((length, length + len(meant)))
            reading._origin_spans.append((start, end))
            length += len(meant)
            last = end
        if not texts:
            return None
        reading.text = "".join([*texts, self.text[last:] if between else "\n"])
        reading._starts = [start for start, _ in reading._derived_spans]
        return reading


@lru_cache(maxsize=8)  # A text is searched for values, shapes and candidates, one directly after the other.
def fold_with_positions(text: str) -> DerivedText:
    """Return the normal form of a text, with positions. Digraphs are left."""
    whole = DerivedText(text)
    reading = whole.replace_parts(
        (*found.span(), _fold_characters(found[0])) for found in _NON_ASCII.finditer(text)
    ) or DerivedText(text, whole)
    # After folding, no character changes its length in lower case.
    reading.text = reading.text.lower()
    return reading


@lru_cache(maxsize=10_000)  # Most are single letters.
def _fold_characters(text: str) -> str:
    text = _MOJIBAKE.sub(lambda found: _fix_mojibake(found[0]), text)
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(_to_ascii_digit(each) for each in text if not _is_ignorable(each))
    return unicodedata.normalize("NFC", kept).translate(_BASE_LETTERS)


def _fix_mojibake(text: str) -> str:
    """Return the text of UTF-8 that was read as Windows-1252 or Latin-1; unchanged if it was not."""
    data = bytearray()
    for each in text:
        try:
            data += each.encode("cp1252")
        except UnicodeEncodeError:
            if ord(each) > 0xFF:
                return text
            data.append(ord(each))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return text


def _is_ignorable(character: str) -> bool:
    return (
        "\u0300" <= character <= "\u036f"
        or "\ufe00" <= character <= "\ufe0f"
        or unicodedata.category(character) in ("Cf", "Cc")
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _to_ascii_digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def split_folded_words(text: str) -> list[str]:
    """Return the words of a text, folded: runs of letters and digits. Digraphs are left."""
    return WORD.findall(fold_text(text))


def fold_text(text: str) -> str:
    """Return the normal form of a text, as ``fold_with_positions``."""
    return _NON_ASCII.sub(lambda found: _fold_characters(found[0]), text).lower()


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text in normal form."""
    return collapse_word_digraphs(split_folded_words(text))


def collapse_word_digraphs(words: list[str]) -> tuple[str, ...]:
    """Return words in which ``ae``, ``oe`` and ``ue`` are one letter."""
    if not words:
        return ()
    return tuple(collapse_digraphs("\n".join(words)).split("\n"))


def collapse_digraphs(text: str) -> str:
    """Return a folded text in which ``ae``, ``oe`` and ``ue`` are one letter."""
    for digraph in _DIGRAPHS:
        text = text.replace(digraph, digraph[0])
    return text


def split_folded_words_sql(text: str) -> str:
    """Return SQL for ``" ".join(raw_words(text))`` of a text that matches ``ASCII_PATTERN``."""
    return f"trim(regexp_replace(lower({text}), '[^0-9a-z]+', ' ', 'g'))"


def collapse_digraphs_sql(text: str) -> str:
    """Return SQL for ``collapse_digraphs(text)``."""
    for digraph in _DIGRAPHS:
        text = f"replace({text}, '{digraph}', '{digraph[0]}')"
    return text
