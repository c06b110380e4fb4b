"""Test the decoding of escapes, and the position of values in the original text."""

from __future__ import annotations

import json
import string
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.privacy.normalize import fold_with_positions
from daybook.privacy.unescape import decode_all

NAME = "Zoë O'Kanarie-Müßig 😀"


def written(text: str, value: str) -> list[str]:
    """Return the parts of a text that decode to a value."""
    found = []
    for reading in decode_all(text):
        plain, expected = fold_with_positions(reading.text), fold_with_positions(value).text
        start = plain.text.find(expected)
        if start >= 0:
            first, last = reading.original_span(*plain.original_span(start, start + len(expected)))
            found.append(text[first:last])
    return found


@pytest.mark.parametrize(
    "form",
    [
        *(
            NAME,
            escape(NAME),
            NAME.replace("'", "&apos;"),
            "".join(f"&#{ord(each)};" for each in NAME),
            quote(NAME),
            ascii(NAME)[1:-1],
        ),
        *(json.dumps(NAME)[1:-1], json.dumps(escape(NAME))[1:-1], json.dumps(json.dumps({"n": NAME})), repr(NAME.encode())),
        NAME.encode("ascii", "backslashreplace").decode(),
        *("Zo\x1b[31më\x1b[0m O'Kanarie-Müßig 😀", "Zoe\u0308 O'Kanarie-Mu\u0308ßig 😀", "Zoë O'Kana\u200brie-Mü\u00adßig 😀"),
    ],
)
def test_name_in_any_escape_is_found_at_its_position(form: str) -> None:
    found = written(f"before 1 {form} after 2", NAME)
    assert found
    assert all(form.strip("\"'b").startswith(each[:2]) or each in form for each in found)
    assert all("before" not in each and "after" not in each for each in found)


@given(st.text(alphabet=string.ascii_letters + "éß '\"<>&%\\", min_size=1), st.sampled_from([escape, quote, json.dumps, ascii]))
def test_span_covers_whole_escapes(value: str, written_as) -> None:  # type: ignore[no-untyped-def]
    text = f"<<{written_as(value)}>>"
    for reading in decode_all(text):
        first, last = reading.original_span(0, len(reading.text))
        if reading.text.startswith("\n"):
            # A decoded payload, such as base64, begins with a line end and has nothing of the text around it.
            assert 0 <= first < last <= len(text)
        else:
            assert (first, last) == (0, len(text))


def test_text_without_escapes_has_one_reading() -> None:
    assert [reading.text for reading in decode_all("100 % of 3 & more; C:/x")] == ["100 % of 3 & more; C:/x"]
