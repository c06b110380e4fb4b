"""Test that the error for a landing file of another format names the format."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest

from daybook.errors import FormatError
from daybook.sources.config import Column, Entity, Source
from daybook.sources.csv import read_csv_blocks
from daybook.sources.formats import detect_binary_format, detect_text_format
from tests.faults.conftest import Shop
from tests.sources.conftest import SHOP

JSON_LINES = Path(__file__).parent / "wrong_format" / "orders.jsonl"
TABLE = pa.table({"order_id": ["A1", "A2"], "price": ["1.00", "2.00"]})


def table(write: Any) -> bytes:
    """Return a small table in the format of a function of pyarrow."""
    file = io.BytesIO()
    write(TABLE, file)
    return file.getvalue()


def archive(*names: str) -> bytes:
    """Return a ZIP archive of small files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(name, "application/vnd.oasis.opendocument.spreadsheet" if name == "mimetype" else "<x/>" * 50)
    return file.getvalue()


def opendocument() -> bytes:
    """Return an archive whose first file is stored without compression, as the standard demands."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return file.getvalue()


def tar() -> bytes:
    """Return a tar archive of one small file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("orders.csv"))
    return file.getvalue()


FORMATS = {
    "a Parquet file": table(pyarrow.parquet.write_table),
    "an ORC file": table(pyarrow.orc.write_table),
    "an Arrow file": table(pyarrow.feather.write_feather),
    "an Excel workbook (xlsx)": archive("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
    "an OpenDocument file": opendocument(),
    "a ZIP archive": archive("orders.csv"),
    "an Excel workbook (xls)": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500),
    "a PDF file": b"%PDF-1.7\n1 0 obj\n",
    "a bzip2 file": bz2.compress(b"order_id,price\n"),
    "an xz file": lzma.compress(b"order_id,price\n"),
    "a Zstandard file": pa.compress(b"order_id,price\n" * 50, codec="zstd", asbytes=True),
    "a tar archive": tar(),
    "a tar archive inside a gzip file": gzip.compress(tar()),
    "a gzip file inside a gzip file": gzip.compress(gzip.compress(b"order_id,price\n")),
    "a JSON lines file": JSON_LINES.read_bytes(),
    "a JSON file": b'[\n  {"order": "A1"}\n]\n',
    "an XML file": b'\xef\xbb\xbf<?xml version="1.0"?>\n<orders/>\n',
    "an HTML page": b"\n<!DOCTYPE html>\n<html><body>404</body></html>\n",
}
WIDE = [("UTF-16", "utf-16"), ("UTF-16", "utf-16-le"), ("UTF-32", "utf-32")]


def source() -> Source:
    """Return a source with an entity ``e`` of an 8-bit encoding."""
    columns = {name: Column() for name in ("order_id", "price")}
    entity = Entity(files="e.csv", columns=columns, encoding=["utf-8", "iso-8859-1"])
    return Source.model_validate({**SHOP, "entities": {**SHOP["entities"], "e": entity}})


@pytest.mark.parametrize(("name", "encoding"), WIDE)
def test_text_of_wide_characters_names_its_encoding(name: str, encoding: str) -> None:
    with pytest.raises(FormatError) as caught:
        list(read_csv_blocks(io.BytesIO("order_id,price\nA1,2\n".encode(encoding)), "landing/e.csv", "e.csv", source(), "e"))
    assert str(caught.value) == (
        f"landing/e.csv is {name} text and not utf-8 or iso-8859-1; declare the file's encoding in the source's YAML, "
        "or deliver the file again."
    )


@pytest.mark.parametrize(("name", "data"), FORMATS.items(), ids=FORMATS)
def test_format_is_named_with_those_supported(name: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        list(read_csv_blocks(io.BytesIO(data), "landing/e.csv", "e.csv", source(), "e"))
    message = "Daybook reads delimited text (CSV), plain or gzip: export it as CSV and deliver it again."
    assert str(caught.value) == f"landing/e.csv is {name}; {message}"


@pytest.mark.parametrize(
    "header",
    ["PAR1", "ORCID", "{order}", "<id>", "BZh9", "[1]", "PK", "%PDF", '"{""a"":1}"', "ÿþ"],
)
def test_header_like_a_format_is_read(header: str) -> None:
    """Read delimited text whose header begins like another format."""
    data = f"{header},order_id,price\n1,2,3\n".encode()
    assert sum(part.num_rows for part in read_csv_blocks(io.BytesIO(data), "e.csv", "e.csv", source(), "e")) == 1


def test_declared_utf_16_is_not_another_format() -> None:
    assert detect_binary_format("order_id,price\n".encode("utf-16"), ["utf-16"]) is None


@pytest.mark.parametrize("head", ["", "order_id,price\n", "{", "[", "<", "a{", "[name],x", "{name},x", "<b,x"])
def test_delimited_text_is_not_another_format(head: str) -> None:
    assert detect_text_format(head) is None


def test_run_names_the_format(shop: Shop) -> None:
    """Run a date with JSON lines in landing."""
    path = shop.land("o/2025-01-02/orders.csv", JSON_LINES.read_bytes())
    shop.land("o/2025-01-02/lines.csv", "order_id,line,sku,qty,price\n")
    with pytest.raises(FormatError) as caught:
        shop.run("2025-01-02")
    assert str(caught.value).startswith(f"{path} is a JSON lines file; Daybook reads delimited text")
