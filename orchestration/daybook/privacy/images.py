"""Remove metadata such as comments, EXIF and XMP from images.

Text that is drawn in the pixels of an image is not found.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Callable, Optional

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT bKGD pHYs acTL fcTL fdAT".split())
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_WEBP_CHUNKS = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"))


def strip_metadata(kind: str, data: bytes) -> Optional[bytes]:
    """Return an image (png, jpeg, gif, webp) without its metadata; None if the data is not a valid image of that kind."""
    try:
        return b"".join(_STRIPPERS[kind](data))
    except (KeyError, ValueError, IndexError, struct.error):
        return None


def _strip_png(data: bytes) -> Iterator[bytes]:
    """Yield the chunks that draw a PNG (W3C Portable Network Graphics, section 11)."""
    _require(data.startswith(_PNG))
    yield _PNG
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        _require(end <= len(data))
        if kind in _PNG_CHUNKS:
            yield data[at:end]
        at = end


def _strip_jpeg(data: bytes) -> Iterator[bytes]:
    """Yield the segments that draw a JPEG (ITU-T T.81, annex B), and of application data only those of JFIF and Adobe."""
    _require(data.startswith(b"\xff\xd8"))
    yield data[:2]
    at = 2
    while True:
        _require(data[at] == 0xFF)
        kind = data[at + 1]
        if kind == 0xD9:
            yield data[at : at + 2]
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        _require(end <= len(data))
        if kind == 0xDA:  # Entropy-coded data follows, up to the next marker.
            following = _JPEG_MARKER.search(data, end)
            _require(following is not None)
            end = following.end() - 2 if following else end
        if kind in (0xE0, 0xEE) or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            yield data[at:end]
        at = end


def _strip_gif(data: bytes) -> Iterator[bytes]:
    """Yield the blocks that draw a GIF (GIF89a), and of application data only the number of loops."""
    _require(data[:6] in (b"GIF87a", b"GIF89a"))
    at = 13 + _color_table_bytes(data[10])
    yield data[:at]
    while data[at] != 0x3B:
        start = at
        kind = data[at + 1] if data[at] == 0x21 else -1
        _require(kind >= 0 or data[at] == 0x2C)
        at += 2 if kind >= 0 else 11 + _color_table_bytes(data[at + 9])
        first = data[at + 1 : at + 12]
        while data[at]:
            at += 1 + data[at]
        at += 1
        _require(at < len(data))
        if kind in (-1, 0xF9) or (kind == 0xFF and first == b"NETSCAPE2.0"):
            yield data[start:at]
    yield b"\x3b"


def _color_table_bytes(flags: int) -> int:
    """Return the size of a color table in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _strip_webp(data: bytes) -> Iterator[bytes]:
    """Yield the chunks that draw a WebP (RFC 9649)."""
    _require(data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    parts, at = [], 12
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        _require(end <= len(data))
        if data[at : at + 4] == b"VP8X":  # Clear the flags of the removed metadata.
            parts.append(data[at : at + 8] + bytes([data[at + 8] & ~0x2C]) + data[at + 9 : end])
        elif data[at : at + 4] in _WEBP_CHUNKS:
            parts.append(data[at:end])
        at = end
    content = b"WEBP" + b"".join(parts)
    yield b"RIFF" + struct.pack("<I", len(content)) + content


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


_STRIPPERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "png": _strip_png,
    "jpeg": _strip_jpeg,
    "jpg": _strip_jpeg,
    "gif": _strip_gif,
    "webp": _strip_webp,
}
