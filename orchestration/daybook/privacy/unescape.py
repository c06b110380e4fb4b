"""Decode text: escapes, quoted-printable, base64, hex, numbers in scientific notation and the visible text of HTML.

All patterns are bounded or match disjoint runs, so the time grows linearly with the text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Callable, Optional
from urllib.parse import unquote_to_bytes

from daybook.privacy.normalize import DerivedText

_MAX_LAYERS = 4
"""Maximum number of nested layers, such as JSON in a traceback in JSON in HTML."""
_MAX_UNPACKED_BYTES = 1 << 20
"""Maximum number of bytes that are unpacked of compressed content."""

# A look-ahead at the first character makes the pattern ten times as fast in most texts.
_ESCAPE = re.compile(
    r"""
    (?= [\x1b&\\%] ) (?:
      (?P<nothing> \x1b \[ [0-?]* [ -/]* [@-~] )
    | (?P<entity>  & (?: \#\d{1,7} | \#[xX][0-9a-fA-F]{1,6} | [A-Za-z][A-Za-z0-9]{1,30} ) ; )
    | (?P<units>   (?: \\u [0-9a-fA-F]{4} )+ )
    | (?P<wide>    \\U [0-9a-fA-F]{8} )
    | (?P<bytes>   (?: \\x [0-9a-fA-F]{2} )+ )
    | (?P<octal>   (?: \\ [0-3][0-7]{2} )+ )
    | (?P<quoted>  (?: % [0-9a-fA-F]{2} )+ )
    | (?P<control> \\ [nrtfvb] )
    | (?P<plain>   \\ ["'/\\] )
    )
    """,
    re.VERBOSE,
)
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-F]{2})+|=\r?\n")
_QUOTED_PRINTABLE_HINT = re.compile(r"=(?:[C-F][0-9A-F]=[89AB][0-9A-F]|40|\r?\n)")
"""A UTF-8 letter, an at sign or a soft line break: without any of them there is nothing to decode."""
_ENCODED = re.compile(
    r"""
      (?P<number> (?<![\w.]) \d\.\d{4,15} [eE] \+?\d{1,2} (?![\w.]) )
    | (?P<hex>    (?<![0-9A-Za-z]) (?: 0x )? (?: [0-9a-fA-F]{2} [ :]? ){7,} [0-9a-fA-F]{2} (?![0-9A-Za-z]) )
    | (?P<base64> (?<![A-Za-z0-9+/_-]) (?: [A-Za-z0-9+/]{60,} (?: \r?\n [A-Za-z0-9+/]+ )* | [A-Za-z0-9+/_-]{12,} ) ={0,2} )
    """,
    re.VERBOSE,
)
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ASCII_WORD = re.compile(r"[0-9A-Za-z ]")

_TAG = re.compile(r"<!--|<(?P<end>/?)(?P<name>[A-Za-z][\w:-]*)[^<>]*>|<[!?/][^<>]*>")
_WORD_BREAKING_TAGS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote br caption dd details dialog div dl dt fieldset figcaption figure footer form h1 h2 "
        "h3 h4 h5 h6 header hr img input legend li main nav ol option p pre script section select summary table tbody td "
        "textarea text tfoot th thead title tr ul",
    )
)
"""Elements that end a word. Tags of others, such as ``b`` or an unknown one, can be inside of a word."""

IMAGE_DATA_URL = re.compile(r"(data:image/(png|jpe?g|gif|webp);base64,)([0-9A-Za-z+/=]+)")
"""Data URL of an image in a page. Its content is not text."""


def decode_all(text: str) -> Iterator[DerivedText]:
    """Yield a text without its images, then every decoded form of it, layer by layer."""
    whole = DerivedText(text)
    waiting = [(whole.replace_parts((*found.span(), "") for found in IMAGE_DATA_URL.finditer(text)) or whole, 1)]
    while waiting:
        reading, layer = waiting.pop(0)
        yield reading
        visible = reading.replace_parts(_find_tags(reading.text))
        if visible:
            yield visible
        if layer < _MAX_LAYERS:
            decoded = (_decode_escapes(reading), _decode_quoted_printable(reading), _decode_payloads(reading))
            waiting += [(each, layer + 1) for each in decoded if each]


def _decode_escapes(reading: DerivedText) -> Optional[DerivedText]:
    return reading.replace_parts(
        (*found.span(), _ESCAPES[str(found.lastgroup)](found[0])) for found in _ESCAPE.finditer(reading.text)
    )


def _decode_quoted_printable(reading: DerivedText) -> Optional[DerivedText]:
    """Return the text with quoted-printable characters (RFC 2045) decoded."""
    if not _QUOTED_PRINTABLE_HINT.search(reading.text):
        return None
    return reading.replace_parts(
        (*found.span(), "" if found[0][1] in "\r\n" else _utf8_or_latin1(bytes.fromhex(found[0].replace("=", ""))))
        for found in _QUOTED_PRINTABLE.finditer(reading.text)
    )


def _decode_payloads(reading: DerivedText) -> Optional[DerivedText]:
    """Return the content of base64 and hex, and numbers without an exponent, one per line; None if there is no text in it."""
    return reading.extract_parts(
        (*each.span(), content) for each in _ENCODED.finditer(reading.text) if (content := _decode_payload(each))
    )


def _decode_payload(found: re.Match[str]) -> Optional[str]:
    kind, text = found.lastgroup, found[0]
    if kind == "number":
        number = Decimal(text)
        return str(int(number)) if number == number.to_integral_value() else None
    if kind == "hex":
        content = _decode_text(bytes.fromhex(re.sub(r"^0x|[ :]", "", text)))
        if content or not text.isalnum():
            return content
    return decode_base64(text)


def decode_base64(text: str) -> Optional[str]:
    """Return the text in base64 of either alphabet, also gzipped; None for other content."""
    letters = re.sub(r"[\s=]", "", text).replace("-", "+").replace("_", "/")
    try:
        return _decode_text(base64.b64decode(letters[: len(letters) - (len(letters) % 4 == 1)] + "=" * (-len(letters) % 4 % 3)))
    except binascii.Error:
        return None


def _decode_text(data: bytes) -> Optional[str]:
    """Return data as text if most of it is ASCII letters, digits or spaces and it has no control characters, else None."""
    if data[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            data = zlib.decompressobj(wbits=31).decompress(data, _MAX_UNPACKED_BYTES)
    text = _utf8_or_latin1(data).replace("\x00", "")  # UTF-16
    if len(text) < 4 or _CONTROL.search(text):
        return None
    return text if len(_ASCII_WORD.findall(text[:200])) * 2 > len(text[:200]) else None


def _utf8_or_latin1(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _find_tags(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield HTML tags, comments and styles, each with its visible replacement: a space or nothing."""
    done, closed = 0, True
    for found in _TAG.finditer(text):
        if found.start() < done:
            continue
        end, shown = found.end(), ""
        name = (found["name"] or "").lower()
        if found[0] == "<!--":
            after = text.find("-->", end) if closed else -1
            closed = after >= 0
            if not closed:
                continue
            end = after + 3
        elif name == "style" and not found["end"]:
            end = max(end, text.find("<", end))
        elif name in _WORD_BREAKING_TAGS:
            shown = " "
        done = end
        yield found.start(), end, shown


_ESCAPES: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: "",
    "entity": html.unescape,
    "units": lambda text: bytes.fromhex(text.replace("\\u", "")).decode("utf-16-be", errors="replace"),
    "wide": lambda text: chr(int(text[2:], 16)) if int(text[2:], 16) < 0x110000 else text,
    "bytes": lambda text: _utf8_or_latin1(bytes.fromhex(text.replace("\\x", ""))),
    "octal": lambda text: _utf8_or_latin1(bytes(int(each, 8) for each in text.split("\\")[1:])),
    "quoted": lambda text: _utf8_or_latin1(unquote_to_bytes(text)),
    "control": lambda text: " ",
    "plain": lambda text: text[1],
}
"""How the groups of ``_ESCAPE`` are decoded."""
