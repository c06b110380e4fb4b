"""Build Markdown for a comment on GitHub: blocks of lines that are cut where the comment would be too long."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_CHARACTERS = 65_000
"""Maximum length of a comment. GitHub's is 65,536; the rest is for a note that a workflow adds."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
_MAX_CODE = 300
"""Maximum length of inline code."""


@dataclass(frozen=True)
class Block:
    """A part of a page: lines between a head and a tail, such as the fences of code. Only lines are left out."""

    head: str
    lines: tuple[str, ...] = ()
    tail: str = ""

    def render(self, limit: int = MAX_CHARACTERS) -> str:
        """Return the text, if possible with at most ``limit`` characters; a sentence says how many lines are left out."""
        text = "\n".join(filter(None, [self.head, *self.lines, self.tail]))
        if len(text) <= limit or not self.lines:
            return text
        kept: list[str] = []
        left = limit - len(self._cut([]))
        for line in self.lines:
            left -= len(line) + 1
            if left < 0:
                break
            kept.append(line)
        return self._cut(kept)

    def _cut(self, kept: list[str]) -> str:
        number = len(self.lines) - len(kept)
        note = f"\n_{number:,} more {'line is' if number == 1 else 'lines are'} not shown: the comment would be too long._"
        return "\n".join(filter(None, [self.head, *kept, self.tail, note]))


def join_blocks(blocks: Sequence[Block], limit: int = MAX_CHARACTERS) -> str:
    """Return all blocks as one text of at most ``limit`` characters. The longest blocks are cut, then the last ones."""
    size = limit
    while _length(texts := [each.render(size) for each in blocks]) > limit and size:
        size = size * 9 // 10
    shown = len(texts)
    while _length(texts) > limit:
        shown -= 1
        texts = [*texts[:shown], f"_{len(blocks) - shown:,} further parts are not shown: the comment would be too long._"]
    return "\n\n".join(texts) + "\n"


def _length(texts: list[str]) -> int:
    return sum(len(each) + 2 for each in texts)


def fence(head: str, language: str, lines: Iterable[str]) -> Block:
    """Return a block of code, with fences that are longer than any in the code."""
    lines = tuple(lines)
    longest = max((len(found) for line in lines for found in re.findall("`{3,}", line)), default=2)
    marks = "`" * (longest + 1)
    return Block(f"{head}\n{marks}{language}" if head else f"{marks}{language}", lines, marks)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), head: str = "") -> Block:
    """Return a table; the cells of rows are Markdown. The columns in ``right`` are aligned to the right."""
    marks = ["---:" if name in right else "---" for name in columns]
    lines = [_row(columns), _row(marks)]
    return Block("\n".join([*([head, ""] if head else []), *lines]), tuple(map(_row, rows)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """Return text as inline code for a table's cell; a long text is cut."""
    text = " ".join(text.split())
    text = text if len(text) <= _MAX_CODE else f"{text[:_MAX_CODE]}…"
    if not text:
        return ""
    marks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[0] == "`" or text[-1] == "`" else ""
    # A table's cell ends at a bar even in code; GitHub reads an escaped one as a bar.
    return f"{marks}{space}{text}{space}{marks}".replace("|", "\\|")


def plain(text: str) -> str:
    """Return text that Markdown shows as it is. It mentions no user of GitHub, who would be notified."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("@", "@\u2060")
