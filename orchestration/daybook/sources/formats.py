"""Recognition of landing files that are not delimited text, by their first bytes."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Optional

from daybook.sources.compression import GZIP_MAGIC

HEAD_BYTES = 4096
"""How many bytes from the start of a file are enough to recognise it."""
SUPPORTED_FORMATS = "Daybook reads delimited text (CSV), plain or gzip"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"PAR1[\x00-\x08\x0e-\x1f\x80-\xff]", "a Parquet file"),
    (rb"Obj\x01", "an Avro file"),
    (rb"ORC\n?[\x00-\x08\x0e-\x1f\x80-\xff]", "an ORC file"),
    (rb"ARROW1\x00|FEA1[\x00-\x08]", "an Arrow file"),
    (rb"PK\x03\x04[\s\S]{0,60}mimetypeapplication/vnd\.oasis\.opendocument", "an OpenDocument file"),
    (rb"PK\x03\x04[\s\S]*?(\[Content_Types\]\.xml|_rels/|xl/|docProps/)", "an Excel workbook (xlsx)"),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (xls)"),
    (rb"%PDF-", "a PDF file"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "a bzip2 file"),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (rb"\xfd7zXZ\x00", "an xz file"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"\x04\x22\x4d\x18", "an LZ4 file"),
    (rb"\xff\x06\x00\x00sNaPpY", "a Snappy file"),
    (rb"\x1f\x9d|\x1f\xa0", "a file packed by compress"),
    (rb"SQLite format 3\x00", "an SQLite database"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", "an image"),
    (rb"[\s\S]{257}ustar[\x00 ]", "a tar archive"),
)
"""Signatures of binary formats. Each holds at least one byte that no header of delimited text begins with."""


def detect_binary_format(head: bytes, encodings: Sequence[str], *, unpacked: bool = False) -> Optional[str]:
    """Return the name of the format that a file begins with, or None if it can be text of one of the declared encodings."""
    if unpacked and head.startswith(GZIP_MAGIC):
        return "a gzip file inside a gzip file"
    inside = " inside a gzip file" if unpacked else ""
    for signature, name in _SIGNATURES:
        if re.match(signature, head):
            return name + inside
    wide = _detect_wide_encoding(head)
    if wide and "utf-16" not in encodings:
        return f"{wide} text and not {' or '.join(encodings)}"
    return None


def detect_text_format(head: str) -> Optional[str]:
    """Return the name of the text format that a file without the declared header begins with, if it is a known one."""
    head = head.lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype\s+html|html)\b", head, re.IGNORECASE):
        return "an HTML page"
    if re.match(r"<(\?xml|!--|[A-Za-z][\w:.-]*[\s/>])", head):
        return "an XML file"
    if re.match(r'\{\s*["}]', head):
        with suppress(ValueError):
            json.loads(head.splitlines()[0])
            return "a JSON lines file"
        return "a JSON file"
    return "a JSON file" if re.match(r'\[\s*[\[{"\]]', head) else None


def _detect_wide_encoding(head: bytes) -> Optional[str]:
    """Return the encoding of text whose characters take at least two bytes."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    pairs = len(head) // 2
    # Without a byte order mark: every other byte of ASCII text is zero.
    if pairs >= 4 and any(head[first::2].count(0) == 0 and head[1 - first :: 2].count(0) > 0.7 * pairs for first in (0, 1)):
        return "UTF-16"
    return None
