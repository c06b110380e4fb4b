"""Unpack gzipped landing files, with limits on the unpacked size and ratio."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from daybook.errors import LimitError
from daybook.settings import Settings
from daybook.storage import CHUNK_BYTES

GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of a gzip file (RFC 1952)."""
UNCHECKED_RATIO_BYTES = 64 << 20
"""Unpacked size up to which any ratio is accepted: small files with equal lines reach gzip's highest ratio."""


class UnpackLimits(NamedTuple):
    """How much one file may unpack to: in bytes, and in bytes per packed byte."""

    size: int = 10 * 10**9
    ratio: int = 200


DEFAULT_LIMITS = UnpackLimits()


def unpack_limits(settings: Settings) -> UnpackLimits:
    """Return the limits of a deployment."""
    return UnpackLimits(settings.max_unpacked_bytes, settings.max_unpacked_ratio)


def is_gzip(file: BinaryIO) -> bool:
    """Return whether the content of a file is gzip, whatever its name."""
    file.seek(0)
    return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def unpack(file: BinaryIO, shown: str, limits: UnpackLimits) -> Iterator[bytes]:
    """Yield the content of a gzip file in pieces of at most ``CHUNK_BYTES`` bytes.

    Raises ``LimitError`` as soon as a limit is exceeded. If the file is damaged, all pieces before the damage come first, then
    ``OSError``, ``EOFError`` or ``zlib.error``.
    """
    file.seek(0)
    size = 0
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        # read1() returns what is decompressed so far; read() would discard it if the next bytes are damaged.
        while piece := stream.read1(CHUNK_BYTES):
            size += len(piece)
            if size > limits.size:
                raise LimitError(_limit_message(shown, f"more than {limits.size:,} bytes", "max_unpacked_bytes"))
            if size > UNCHECKED_RATIO_BYTES and size > limits.ratio * file.tell():
                raise LimitError(_limit_message(shown, f"more than {limits.ratio} times its size", "max_unpacked_ratio"))
            yield piece


def _limit_message(shown: str, limit: str, key: str) -> str:
    return f"{shown} unpacks to {limit}; check the file and deliver it again, or set a higher {key} in params."
