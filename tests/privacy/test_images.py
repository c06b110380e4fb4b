"""Test that images lose their metadata and keep their content, and that invalid images are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from daybook.privacy.images import strip_metadata

NAME = "Quarkstroem"
PIXELS = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def drawn(kind: str) -> bytes:
    """Return an image with a name in all metadata of its format."""
    picture, out = Image.fromarray(PIXELS), io.BytesIO()
    exif = picture.getexif()
    exif[0x010E] = NAME
    if kind == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", NAME)
        texts.add_text("Comment", NAME * 50, zip=True)
        texts.add_itxt("Title", NAME)
        picture.save(out, "PNG", pnginfo=texts, exif=exif)
    elif kind == "jpeg":
        picture.save(out, "JPEG", comment=NAME, exif=exif, progressive=True)
    elif kind == "gif":
        picture.save(out, "GIF", comment=NAME, save_all=True, append_images=[picture.rotate(90)], loop=0)
    else:
        picture.save(out, "WEBP", lossless=True, exif=exif, xmp=f"<x>{NAME}</x>".encode())
    return out.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_metadata_is_removed(kind: str) -> None:
    data = drawn(kind)
    clean = strip_metadata(kind, data + NAME.encode() if kind != "webp" else data)
    assert clean is not None
    assert NAME.encode() in data
    assert NAME.encode() not in clean
    assert zlib.compress((NAME * 50).encode()) not in clean
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(clean))
    assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))
    assert (after.size, getattr(after, "n_frames", 1)) == (before.size, getattr(before, "n_frames", 1))
    assert strip_metadata(kind, clean) == clean


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp"])
def test_broken_images_are_refused(kind: str) -> None:
    assert strip_metadata(kind, b"name,Quarkstroem") is None
    if kind != "bmp":
        assert strip_metadata(kind, drawn(kind)[:60]) is None
        assert strip_metadata(kind, b"") is None


def test_chunk_longer_than_the_file_is_refused() -> None:
    assert strip_metadata("png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 1 << 31) + b"IDAT") is None
