"""Test that the time of the search is linear in the length of a text."""

from __future__ import annotations

import time
from typing import Any

import pytest

from daybook.privacy.redactor import Redactor
from daybook.privacy.values import PersonalValues

COMMENTS = [f"I am very happy with my new thing number {number}" for number in range(300)]
PIECES = {
    "digits": "7",
    "digits and spaces": "1 ",
    "digits and marks": "0(30)/1-",
    "phones in a tag that is not closed": "0301/2345678 ",
    "opened tags": "<a ",
    "opened comments": "<!-- ",
    "opened styles": "<style>",
    "closed comments": "<!---->",
    "brackets": "[[((",
    "quotes": "'\"\\'",
    "dots": ".",
    "ellipses": "a… ",
    "percent": "%25",
    "ampersands": "&amp;",
    "backslashes": "\\",
    "terminal codes": "\x1b[0;",
    "equal signs": "=40",
    "base64": "QUJD",
    "base64 words": "dGhlIG5hbWUgaXMgWm9l ",
    "hex": "41 ",
    "marks": "[redacted:name] Kanarie ",
    "accents": "e\u0301\u0301",
    "misread": "Ã©",
    "e-mail": "a.b@c.",
    "comments": "I am very happy with my new thing ",
    "secrets": "AKIAIOSFODNN7EXAMPLE ",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "addresses": "://a:b",
    "names": "Kanarie ",
    "phones": "+49 30 23125 123 ",
}


def seconds(text: str, start: str) -> float:
    values = PersonalValues()
    values.add("name", "name", ["Zoë Kanarie"])
    values.add("comment", "text", COMMENTS)
    values.add("phone", "phone", ["+49 30 23125 123"])
    values.add("zip", "address", ["10115"])
    search = Redactor(values)
    started = time.process_time()
    search.redact_source(start + text)
    search.redact_text(start + text)
    return time.process_time() - started


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_time_is_linear_in_the_text(piece: str) -> None:
    start = "<p " if piece.startswith("0301") else ""
    few = min(seconds(piece * (10_000 // len(piece)), start) for _ in range(2))
    many = min(seconds(piece * (40_000 // len(piece)), start) for _ in range(2))
    assert many < 9 * few + 0.1


def test_equal_keys_and_streams_take_linear_time() -> None:
    def cleaned(count: int) -> float:
        tree: Any = {f"p{number}@example.com": 1 for number in range(count)}
        started = time.process_time()
        assert len(Redactor().redact_json(tree)) == count
        return time.process_time() - started

    assert cleaned(8000) < 9 * cleaned(2000) + 0.1
