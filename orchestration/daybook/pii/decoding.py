"""Reading through escapes: the plain text behind HTML entities, JSON and Python escapes, URL quoting and terminal colours.

Here: decoding one layer of all of them at a time, and finding in the original what was found in the decoded text. Not here:
what is looked for (``daybook.pii.values``, ``daybook.pii.shapes``).
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from typing import Optional
from urllib.parse import unquote_to_bytes

_LAYERS = 4
"""JSON in a traceback in JSON in HTML: deeper than that nothing of ours is ever wrapped."""

# Each pattern says first what its matches begin with: most places of a text are passed ten times as fast.
_ESCAPE = re.compile(
    r"""
    (?= [\x1b\u00ad\u200b-\u200d\u2060\ufeff&\\%] ) (?:
      (?P<nothing> \x1b \[ [0-?]* [ -/]* [@-~] | [\u00ad\u200b-\u200d\u2060\ufeff] )
    | (?P<entity>  & (?: \#\d{1,7} | \#[xX][0-9a-fA-F]{1,6} | [A-Za-z][A-Za-z0-9]{1,30} ) ; )
    | (?P<units>   (?: \\u [0-9a-fA-F]{4} )+ )
    | (?P<wide>    \\U [0-9a-fA-F]{8} )
    | (?P<bytes>   (?: \\x [0-9a-fA-F]{2} )+ )
    | (?P<quoted>  (?: % [0-9a-fA-F]{2} )+ )
    | (?P<control> \\ [nrtfvb] )
    | (?P<plain>   \\ ["'/\\] )
    )
    """,
    re.VERBOSE,
)
_COMPOSED = re.compile(r"\w[\u0300-\u036f]+")
"""A letter whose accent is a character of its own, as macOS writes file names."""


_PICTURE = re.compile(r"(?P<nothing>data:image/png;base64,iVBORw0KGgo[0-9A-Za-z+/=]+)")
"""A PNG that a page carries with it: nobody can say which letters its dots make, and its code has letters by chance."""


class Reading:
    """A text as it can be read: ``text``, and which part of the text it was made from any part of it is."""

    def __init__(self, text: str, origin: Optional[Reading] = None) -> None:
        self.text = text
        self._origin = origin
        # A decoded escape each: where it stands here (from, to) and where it stood there (from, to).
        self._here: list[tuple[int, int]] = []
        self._there: list[tuple[int, int]] = []
        self._starts: list[int] = []

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the part from ``start`` up to ``end`` stands in the very first text."""
        if self._origin is None or start >= end:
            return start, end
        return self._origin.span(self._from(start), self._to(end - 1))

    def _from(self, position: int) -> int:
        found = bisect_right(self._starts, position) - 1
        if found < 0:
            return position
        (_, here_end), (there, there_end) = self._here[found], self._there[found]
        return there if position < here_end else there_end + position - here_end

    def _to(self, position: int) -> int:
        """The end, exclusive, of the character at ``position``."""
        found = bisect_right(self._starts, position) - 1
        if found < 0:
            return position + 1
        (_, here_end), (_, there_end) = self._here[found], self._there[found]
        return there_end if position < here_end else there_end + position - here_end + 1

    def decoded(self, pattern: re.Pattern[str] = _ESCAPE) -> Optional[Reading]:
        """The text with one layer of escapes taken off, or None where there is none."""
        reading, parts, length, last = Reading("", self), [], 0, 0
        for found in pattern.finditer(self.text):
            meant = _meaning(found)
            if meant == found[0]:
                continue
            before = self.text[last : found.start()]
            parts += [before, meant]
            length += len(before)
            reading._here.append((length, length + len(meant)))
            reading._there.append(found.span())
            length += len(meant)
            last = found.end()
        if not parts:
            return None
        reading.text = "".join([*parts, self.text[last:]])
        reading._starts = [start for start, _ in reading._here]
        return reading


def readings(text: str) -> Iterator[Reading]:
    """The text as it stands but for its pictures, then with each further layer of escapes taken off."""
    whole = Reading(text)
    reading: Optional[Reading] = whole.decoded(_PICTURE) or whole
    for _ in range(_LAYERS):
        if reading is None:
            return
        yield reading
        if re.search(r"[\u0300-\u036f]", reading.text):
            reading = reading.decoded(_COMPOSED) or reading
            yield reading
        reading = reading.decoded()


def _meaning(found: re.Match[str]) -> str:
    kind, text = found.lastgroup, found[0]
    if kind is None:
        return unicodedata.normalize("NFC", text)
    if kind == "nothing":
        return ""
    if kind == "entity":
        return html.unescape(text)
    if kind == "units":
        units = bytes.fromhex("".join(text.split("\\u")))
        return units.decode("utf-16-be", errors="replace")
    if kind == "wide":
        number = int(text[2:], 16)
        return chr(number) if number < 0x110000 else text
    if kind in ("bytes", "quoted"):
        data = bytes.fromhex(text.replace("\\x", "")) if kind == "bytes" else unquote_to_bytes(text)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")
    return " " if kind == "control" else text[1]
