"""Test how text from data is escaped for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daybook.cli.terminal import console, print_line, print_table, styled_text
from daybook.notebook.display import Listing


@given(st.text(alphabet="ab[]/\\ :="))
@example("Rack 19\\[/2HE]")
def test_text_is_printed_literally(text: str) -> None:
    with console.capture() as printed:
        print_line(("!", "red"), text)
        print_table([text], [[text]])
    line, *listed = printed.get().splitlines()
    assert line == f"!{text}"
    assert [each.rstrip() for each in listed] == [text.rstrip()] * 2


@given(st.text())
def test_printed_text_has_no_control_characters(text: str) -> None:
    assert styled_text(text, (text, "red")).plain.replace("\n", "").isprintable()


def test_listing_escapes_control_characters() -> None:
    shown = repr(Listing(["name\x1b"], [["x\x1b]0;TITLE\x07"]]))
    assert "\x1b" not in shown
    assert r"x\x1b]0;TITLE\x07" in shown


@pytest.mark.parametrize("command", ["no-such\x1b[31m"])
def test_usage_error_escapes_control_characters(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from daybook.cli import main

    monkeypatch.setattr("sys.argv", ["daybook", command])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert r"\x1b[31m" in printed
