"""Normalize text, so that a value is found in every spelling of its letters and digits.

Normalization of values and texts does the following:

- Apply Unicode's compatibility form (NFKC) and case folding. Map decimal digits of any script to ASCII.
- Remove accents of Latin, Greek and Cyrillic letters. Map ``ø``, ``ł``, ``đ``, ``ß`` and similar letters to ASCII.
- Remove format and control characters such as zero-width characters, soft hyphens and direction marks.
- Repair UTF-8 that was decoded as Latin-1 or Windows-1252 (``Ã©``).
- Within words, map ``ae``, ``oe`` and ``ue`` to ``a``, ``o`` and ``u``: ``Müller``, ``Mueller`` and ``Muller`` are equal.
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
"""Characters other than printable ASCII and white space."""
ASCII_PATTERN = r"[\t-\r -~]*"
"""Regular expression of texts whose normal form is their lower case. RE2 and Python interpret it alike."""
_BASE_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"})
_CONTINUATION = "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
# Only lead bytes of UTF-8 in European scripts. Other letters precede such characters in correct text, too.
_MOJIBAKE = re.compile(rf"(?:[ÂÃÄÅÎÏÐÑ][{_CONTINUATION}]|[âá][{_CONTINUATION}]{{2}}|ð\u0178[{_CONTINUATION}]{{2}})+")
_DIGRAPHS = ("ae", "oe", "ue")


class DerivedText:
    """Hold a text derived from another one, and the position of each part in the original."""

    def __init__(self, text: str, origin: Optional[DerivedText] = None) -> None:
        self.text = text
        self._origin = origin
        # One entry for each replaced part: its position (start, end) in this text and in the origin.
        self._derived_spans: list[tuple[int, int]] = []
        self._origin_spans: list[tuple[int, int]] = []
        self._starts: list[int] = []

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the position in the original text of the part from ``start`` up to ``end``."""
        if self._origin is None or start >= end:
            return start, end
        return self._origin.original_span(self._origin_span(start)[0], self._origin_span(end - 1)[1])

    def _origin_span(self, position: int) -> tuple[int, int]:
        """Return the position in the origin of the replaced part, or else of the character, at ``position``."""
        found = bisect_right(self._starts, position) - 1
        if found < 0:
            return position, position + 1
        (_, derived_end), (origin_start, origin_end) = self._derived_spans[found], self._origin_spans[found]
        if position < derived_end:
            return origin_start, origin_end
        start = origin_end + position - derived_end
        return start, start + 1

    def replace_parts(self, parts: Iterable[tuple[int, int, str]]) -> Optional[DerivedText]:
        """Return the text with parts (start, end, replacement) replaced, in their order; None if nothing changes."""
        return self._derive((part for part in parts if part[2] != self.text[part[0] : part[1]]), between=True)

    def extract_parts(self, parts: Iterable[tuple[int, int, str]]) -> Optional[DerivedText]:
        """Return the decoded parts (start, end, content) of the text, one per line; None if there are none."""
        return self._derive(parts, between=False)

    def _derive(self, parts: Iterable[tuple[int, int, str]], *, between: bool) -> Optional[DerivedText]:
        derived, texts, length, last = DerivedText("", self), [], 0, 0
        for start, end, content in parts:
            before = self.text[last:start] if between else "\n"
            texts += [before, content]
            length += len(before)
            derived._derived_spans.append((length, length + len(content)))
            derived._origin_spans.append((start, end))
            length += len(content)
            last = end
        if not texts:
            return None
        derived.text = "".join([*texts, self.text[last:] if between else "\n"])
        derived._starts = [start for start, _ in derived._derived_spans]
        return derived


@lru_cache(maxsize=8)  # Values, patterns and search keys are looked up in the same text in succession.
def fold_with_positions(text: str) -> DerivedText:
    """Return the normal form of a text, with positions. Digraphs are kept."""
    original = DerivedText(text)
    folded = original.replace_parts(
        (*found.span(), _fold_characters(found[0])) for found in _NON_ASCII.finditer(text)
    ) or DerivedText(text, original)
    # No folded character changes its length in lower case.
    folded.text = folded.text.lower()
    return folded


@lru_cache(maxsize=10_000)  # Most texts are single letters.
def _fold_characters(text: str) -> str:
    text = _MOJIBAKE.sub(lambda found: _fix_mojibake(found[0]), text)
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(_to_ascii_digit(each) for each in text if not _is_ignorable(each))
    return unicodedata.normalize("NFC", kept).translate(_BASE_LETTERS)


def _fix_mojibake(text: str) -> str:
    """Return UTF-8 text that was decoded as Windows-1252 or Latin-1 correctly decoded; other text unchanged."""
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
    """Return the folded words of a text, which are runs of letters and digits. Digraphs are kept."""
    return WORD.findall(fold_text(text))


def fold_text(text: str) -> str:
    """Return the text of ``fold_with_positions``."""
    return _NON_ASCII.sub(lambda found: _fold_characters(found[0]), text).lower()


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text in normal form."""
    return collapse_word_digraphs(split_folded_words(text))


def collapse_word_digraphs(words: list[str]) -> tuple[str, ...]:
    """Return words with ``ae``, ``oe`` and ``ue`` reduced to one letter."""
    if not words:
        return ()
    return tuple(collapse_digraphs("\n".join(words)).split("\n"))


def collapse_digraphs(text: str) -> str:
    """Return a folded text with ``ae``, ``oe`` and ``ue`` reduced to one letter."""
    for digraph in _DIGRAPHS:
        text = text.replace(digraph, digraph[0])
    return text


def split_folded_words_sql(text: str) -> str:
    """Return SQL for ``" ".join(split_folded_words(text))`` of a text that matches ``ASCII_PATTERN``."""
    return f"trim(regexp_replace(lower({text}), '[^0-9a-z]+', ' ', 'g'))"


def collapse_digraphs_sql(text: str) -> str:
    """Return SQL for ``collapse_digraphs(text)``."""
    for digraph in _DIGRAPHS:
        text = f"replace({text}, '{digraph}', '{digraph[0]}')"
    return text
