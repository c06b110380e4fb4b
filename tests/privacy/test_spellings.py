"""Test every spelling in docs/privacy.md: those listed as found, and those listed as out of scope."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from daybook.privacy.redactor import Redactor
from daybook.privacy.values import PersonalValues
from daybook.settings import project_root

NAME = "Zébulon Quarkström"
EMAIL = "zebulon.quarkstroem77@mail.example.net"
SPELLINGS = [
    line.split("\t")
    for line in (Path(__file__).parent / "spellings.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
ENCODED = {
    "base64 of Latin-1": base64.b64encode(f"name;{NAME};of the customer".encode("latin-1")).decode(),
    "base64 of UTF-16": base64.b64encode(EMAIL.encode("utf-16")).decode(),
    "base64 of gzip": base64.b64encode(gzip.compress(f"customer,{NAME}".encode())).decode(),
    "base64 on lines": base64.encodebytes(f"{'x' * 80} {NAME}".encode()).decode(),
    "base64 in base64": base64.b64encode(base64.b64encode(f"the name is {NAME}".encode())).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"???>>>{NAME}".encode()).decode(),
    "hex": NAME.encode().hex(),
    "hex with spaces": NAME.encode().hex(" "),
    "JSON in base64": base64.b64encode(json.dumps({"name": NAME}).encode()).decode(),
    "octal escapes": "".join(f"\\{byte:03o}" if byte > 127 else chr(byte) for byte in NAME.encode()),
}


def redactor() -> Redactor:
    values = PersonalValues()
    values.add("name", "name", [NAME])
    values.add("email", "email", [EMAIL])
    values.add("phone", "phone", ["+49 151 23456789"])
    values.add("customer_id", "id", ["900022"])
    return Redactor(values)


def plain(text: str) -> str:
    """Return a spelling of the file with its Python escapes decoded."""
    return re.sub(r"\\u([0-9a-f]{4})|\\x([0-9a-f]{2})", lambda found: chr(int(found[1] or found[2], 16)), text)


@pytest.mark.parametrize(("kind", "text"), [pytest.param(*each, id=each[0]) for each in SPELLINGS])
def test_every_spelling_is_found(kind: str, text: str) -> None:
    search = redactor()
    clean = search.redact_source(plain(text)) if kind.startswith("cell:") else search.redact_text(plain(text))
    assert sum(search.counts.values())
    left = Redactor(search._values)
    left.redact_text(clean)
    assert not left.counts


@pytest.mark.parametrize("text", ENCODED.values(), ids=ENCODED)
def test_every_encoding_is_decoded(text: str) -> None:
    clean = redactor().redact_text(f"before: {text} after")
    assert re.fullmatch(r"before: \S*\[redacted:\w+\][^0-9a-z]*(?:2025)?\s*after", clean), clean


def test_only_the_value_is_replaced_in_the_original() -> None:
    text = "to <b>Qua\u200brk</b>stro\u0308m, ZÃ©bulon and Ｑuarkstroem!"
    assert redactor().redact_text(text) == "to <b>[redacted:name], [redacted:name] and [redacted:name]!"


@pytest.mark.parametrize(
    "text",
    [
        "Quarks and strom",
        "The quark-strom ratio",
        "ab900022cd",
        "90002.2e+05",
        "9.00022e+07",
        "zebulonquarkstrom",
        "Q u a r k s t r ö m",
        "mörtskrauQ",
        "900,022",
    ],
)
def test_other_texts_are_kept(text: str) -> None:
    assert redactor().redact_text(text) == text


def test_docs_list_every_kind_of_the_table() -> None:
    page = (project_root() / "docs" / "privacy.md").read_text(encoding="utf-8")
    listed = page.partition("## The search of outputs")[2].partition("\n## ")[0]
    for kind, _ in SPELLINGS:
        assert f"`{kind.partition(': ')[2] or kind}`" in listed, kind
