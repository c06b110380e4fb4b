"""Test how text becomes Markdown, and that a long text is cut at whole lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from daybook.review.markdown import Block, code, fence, join_blocks, plain, table

PARSER = MarkdownIt("commonmark").enable("table")
LINES = st.lists(st.text(alphabet="ab`|~ ", max_size=40), max_size=30)


def text_of(markdown: str) -> str:
    """Return the text that a line of Markdown shows."""
    return "".join(child.content for child in PARSER.parseInline(markdown)[0].children or [])


@pytest.mark.parametrize("text", ["a_b *c* `d`", "<b>x</b> &amp; [y](z) # 1", "a\\b ~~c~~ | d", "(not shown)"])
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert text_of(plain(text)) == text


def test_plain_text_mentions_nobody() -> None:
    assert "@octo" not in plain("ask @octo")


@pytest.mark.parametrize("text", ["a", "a`b", "``a``", "`", "a | b", "<b>"])
def test_code_in_a_cell_is_shown_as_it_is(text: str) -> None:
    cells = [token.content for token in PARSER.parse(table(["x", "y"], [(code(text), "z")]).render()) if token.type == "inline"]
    assert len(cells) == 4
    assert text_of(cells[2]) == text
    assert cells[3] == "z"


def test_long_code_is_cut() -> None:
    assert code("x" * 400) == f"`{'x' * 300}…`"


@settings(max_examples=40)
@given(LINES)
def test_code_block_holds_its_lines(lines: list[str]) -> None:
    (token,) = PARSER.parse(fence("", "diff", [f"+{line}" for line in lines]).render())
    assert token.type == "fence"
    assert token.content == "".join(f"+{line}\n" for line in lines)


@settings(max_examples=40)
@given(st.lists(LINES, max_size=8), st.integers(200, 2000))
def test_joined_blocks_fit_and_fences_close(parts: list[list[str]], limit: int) -> None:
    blocks = [fence(f"part {number}", "diff", [f"+{line}" for line in lines]) for number, lines in enumerate(parts)]
    text = join_blocks(blocks, limit)
    assert len(text) <= limit
    whole = "\n\n".join(each.render() for each in blocks) + "\n"
    assert text == whole or "not shown: the comment would be too long" in text
    for token in PARSER.parse(text):
        if token.type == "fence":
            assert "not shown" not in token.content
            assert text.splitlines()[token.map[1] - 1] == token.markup  # type: ignore[index]


def test_longest_blocks_are_cut_first() -> None:
    text = join_blocks([Block("short", ("one",)), Block("long", tuple("x" * 10 for _ in range(100)))], 500)
    assert text.startswith("short\none\n\nlong\nxxxxxxxxxx\n")
    assert 400 < len(text) <= 500
