"""Test that a CSV file that is read in pieces gives the same rows, or the same error, as one that is read as a whole."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daybook.errors import LandingError
from daybook.sources import csv
from daybook.sources.csv import read_csv_blocks
from tests.memory import measure_peak, run_alone
from tests.sources.conftest import small_source

PIECES = st.lists(
    st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "b c", " ", "é", "x,y\n", '"q","r"\n', '"q\nr",s\n']), max_size=30
)


def read(data: bytes, key: str = "e.csv", **given_settings: Any) -> Any:
    """Return a file's rows by number, or the error's text."""
    source = small_source(("a", "b"), given_settings)
    try:
        table = pa.concat_tables(read_csv_blocks(io.BytesIO(data), key, key, source, "e")).sort_by("_row_number")
    except LandingError as error:
        return str(error)
    return table.to_pylist()


def in_pieces(monkeypatch: pytest.MonkeyPatch, chunk: int, block: int) -> None:
    monkeypatch.setattr(csv, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(csv, "_BLOCK_BYTES", block)
    monkeypatch.setattr(csv, "_TABLE_BYTES", 2 * block)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    body=PIECES.map("".join),
    chunk=st.integers(1, 9),
    block=st.integers(8, 16),
    encoding=st.sampled_from(["utf-8", "windows-1252", "utf-16"]),
    mark=st.booleans(),
)
@example(body='"x\n","y"\n1,2\n', chunk=1, block=8, encoding="utf-8", mark=True)
@example(body="1,2\r\n\r\n\r\n3,4\r\n", chunk=1, block=8, encoding="utf-8", mark=False)
def test_pieces_give_the_same_rows_as_the_whole(
    monkeypatch: pytest.MonkeyPatch, body: str, chunk: int, block: int, encoding: str, mark: bool
) -> None:
    data = f"a,b\n{body}".encode(encoding)
    if mark and encoding == "utf-8":
        data = b"\xef\xbb\xbf" + data
    whole = read(data, encoding=encoding)
    with monkeypatch.context() as patch:
        in_pieces(patch, chunk, block)
        assert read(data, encoding=encoding) == whole


def test_row_longer_than_a_block_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["1,2", "3", "4,5", "x" * 100 + ",6", "7", '"8\n8",9']
    data = "\n\n".join(["a,b", *lines]).encode()
    whole = read(data)
    in_pieces(monkeypatch, 5, 16)
    assert read(data) == whole
    assert [row["_row_number"] for row in whole] == [1, 2, 3, 4, 5, 6]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=30),
    chunk=st.integers(1, 5),
    encodings=st.sampled_from([["utf-8"], ["utf-8", "windows-1252"], ["utf-16"]]),
)
@example(body=b"1,2\n\xc3", chunk=1, encodings=["utf-8"])
@example(body=b"1,\xe2\x82\n3,4\n", chunk=2, encodings=["utf-8"])
@example(body=b"\x00\x80", chunk=1, encodings=["utf-8"])
@example(body=b'"\x01\x01\x80\x80\x80', chunk=1, encodings=["utf-8", "windows-1252"])
def test_wrong_bytes_in_pieces_give_the_same_error(
    monkeypatch: pytest.MonkeyPatch, body: bytes, chunk: int, encodings: list[str]
) -> None:
    data = "a,b\n".encode(encodings[0]) + body
    whole = read(data, encoding=encodings)
    with monkeypatch.context() as patch:
        in_pieces(patch, chunk, 8)
        assert read(data, encoding=encodings) == whole


def test_utf_16_without_byte_order_mark_is_read_as_in_python() -> None:
    data = "a,b\né,2\n".encode("utf-16")[2:]
    assert [row["a"] for row in read(data, encoding="utf-16")] == ["é"]


def test_wrong_byte_after_byte_order_mark_is_reported() -> None:
    assert read(b"\xef\xbb\xbfa,b\n1,\xff\n").startswith("e.csv, line 2: byte 0xff is not utf-8;")


def read_large_file(data: bytes, key: str, encoding: str) -> tuple[int, int]:
    """Return the rows of a file of 300,001 rows, after a check of the last one, and the most bytes that pyarrow held."""
    source = small_source(("a", "b"), {"encoding": encoding})
    before = pa.total_allocated_bytes()
    rows = held = 0
    for table in read_csv_blocks(io.BytesIO(data), key, key, source, "e"):
        rows += table.num_rows
        held = max(held, pa.total_allocated_bytes() - before)
        last = table
    assert last["_raw"].to_pylist()[-1] == "7"
    assert last["_row_number"].to_pylist()[-1] == 300_001
    return rows, held


def measure_large_files(data: bytes) -> list[tuple[tuple[int, int], int]]:
    """Return rows, bytes that pyarrow held and the growth of Python's memory: plain and gzipped, in two encodings."""
    packed = gzip.compress(data)
    read(b"a,b\n1,2\n")  # imports modules
    with pytest.MonkeyPatch.context() as patch:
        in_pieces(patch, 1 << 15, 1 << 15)
        patch.setattr("daybook.storage._MAX_MEMORY_BYTES", 1 << 20)
        return [
            measure_peak(read_large_file, *file, encoding)
            for file in ((data, "e.csv"), (packed, "e.csv.gz"))
            for encoding in ("utf-8", "windows-1252")
        ]


def test_large_file_is_read_in_little_memory() -> None:
    lines = b"".join(b'%d,"of a text, quoted, %d"\n' % (number, number) for number in range(300_000))
    data = b"a,b\n" + lines + b"7\n"
    for (rows, held), peak in run_alone(measure_large_files, data):
        assert rows == 300_001
        assert held < len(data) / 2
        assert peak < len(data) / 2
