"""Test how text from data is escaped for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daybook.cli.app import console, escape_markup
from daybook.notebook.display import Listing


@given(st.text(alphabet="ab[]/\\ :="))
@example("Rack 19\\[/2HE]")
def test_escaped_text_is_printed_literally(text: str) -> None:
    shown = console.render_str(f"[red]{escape_markup(text)}|[/]").plain
    # Backslashes at the end are doubled, because markup may follow.
    assert shown.rstrip("|").rstrip("\\") == text.rstrip("\\")


def test_a_backslash_at_the_end_escapes_no_markup() -> None:
    assert console.render_str(f"[red]{escape_markup('a' + chr(92))}[/] b").spans[0].end < 4


@given(st.text())
def test_escaped_text_has_no_control_characters(text: str) -> None:
    assert escape_markup(text).replace("\n", "").isprintable()


def test_a_listing_escapes_control_characters() -> None:
    shown = repr(Listing(["name\x1b"], [["x\x1b]0;TITLE\x07"]]))
    assert "\x1b" not in shown
    assert r"x\x1b]0;TITLE\x07" in shown


@pytest.mark.parametrize("command", ["no-such\x1b[31m"])
def test_a_usage_error_escapes_control_characters(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from daybook.cli import main

    monkeypatch.setattr("sys.argv", ["daybook", command])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert r"\x1b[31m" in printed
