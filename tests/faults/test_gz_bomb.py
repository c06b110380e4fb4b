"""Test that a landing file that unpacks to too much is refused within seconds and in little memory."""

from __future__ import annotations

import gzip
import io
import resource
import time
from typing import Optional

import pytest

from daybook.errors import FormatError, LandingError, LimitError
from daybook.privacy.run_values import build_redactor
from daybook.settings import load_settings
from daybook.sources import compression, csv, load_source
from daybook.sources.compression import UnpackLimits, unpack
from daybook.sources.csv import read_csv_blocks
from tests.faults.conftest import Shop
from tests.memory import measure_peak, run_alone

DAY = "2025-10-26"
ORDERS = "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
LINES = f"o/{DAY}/lines.csv"


def bomb(mebibytes: int, header: Optional[str] = None) -> bytes:
    """Return a gzip file of zeros, or of lines of 1 KiB after a header."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
        piece = b"\0" * (1 << 20) if header is None else (b"x" * 1023 + b"\n") * 1024
        packed.write((header or "").encode())
        for _ in range(mebibytes):
            packed.write(piece)
    return file.getvalue()


def read(data: bytes, limits: UnpackLimits = compression.DEFAULT_LIMITS, name: str = "orders") -> int:
    """Return the number of rows of a file of an entity."""
    return sum(
        table.num_rows for table in read_csv_blocks(io.BytesIO(data), "a.csv.gz", "a.csv.gz", load_source("odd"), name, limits)
    )


@pytest.mark.parametrize("header", [None, ORDERS], ids=["zeros", "lines"])
def test_bomb_is_refused_within_seconds(shop: Shop, header: Optional[str]) -> None:
    """Run ingest and its search for personal data on a bomb of 400 MiB."""
    shop.land(f"o/{DAY}/orders.csv.gz", bomb(400, header))
    shop.land(LINES, "order_id,line,sku,qty,price\n")
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitError) as caught:
        shop.run(DAY)
    assert str(caught.value).endswith(
        f"/o/{DAY}/orders.csv.gz unpacks to more than 200 times its size; check the file and deliver it again, "
        "or set a higher max_unpacked_ratio in params."
    )
    build_redactor(load_settings("odd"), f"daily-{DAY}-1", stage="ingest")
    assert time.perf_counter() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_limits_are_settings(shop: Shop) -> None:
    shop.land(f"o/{DAY}/orders.csv.gz", ORDERS + f"A1,C1,{DAY} 10:00:00,paid,,{DAY} 10:00:00\n" * 100)
    shop.land(LINES, "order_id,line,sku,qty,price\n")
    with pytest.raises(LimitError, match=r"unpacks to more than 1,000 bytes; .* set a higher max_unpacked_bytes in params"):
        shop.run(DAY, overrides={"max_unpacked_bytes": "1000"})


def test_ratio_counts_only_for_large_content(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"0" * 1_000_000)
    assert sum(map(len, unpack(io.BytesIO(data), "a", UnpackLimits(ratio=10)))) == 1_000_000
    monkeypatch.setattr(compression, "UNCHECKED_RATIO_BYTES", 100_000)
    with pytest.raises(LimitError, match="unpacks to more than 10 times its size"):
        list(unpack(io.BytesIO(data), "a", UnpackLimits(ratio=10)))


def test_large_regular_file_is_read(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> None:
    """Read lines that differ in their number only, which gzip compresses well."""
    monkeypatch.setattr(compression, "UNCHECKED_RATIO_BYTES", 1 << 20)
    rows = "".join(f"{number},C1,{DAY} 10:00:00,paid,,{DAY} 10:00:00\n" for number in range(200_000))
    assert read(gzip.compress((ORDERS + rows).encode(), 9)) == 200_000


def test_members_of_a_gzip_file_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"a\n" * 1000) * 10
    assert sum(map(len, unpack(io.BytesIO(data), "a", compression.DEFAULT_LIMITS))) == 20_000
    with pytest.raises(LimitError):
        list(unpack(io.BytesIO(data), "a", UnpackLimits(size=15_000)))


@pytest.mark.parametrize("keep", [10, 100, -1])
def test_pieces_before_the_damage_are_yielded(keep: int) -> None:
    """Yield the same bytes as zlib up to the truncation."""
    import zlib

    data = gzip.compress("".join(f"{number}\n" for number in range(5000)).encode())[:keep]
    pieces = []
    with pytest.raises(EOFError):
        for piece in unpack(io.BytesIO(data), "a", compression.DEFAULT_LIMITS):
            pieces.append(piece)
    assert b"".join(pieces) == zlib.decompressobj(wbits=31).decompress(data)


def read_refused(data: bytes) -> str:
    """Return the error of reading ``data``."""
    with pytest.raises(LandingError) as caught:
        read(data)
    return str(caught.value)


def read_long_rows(pieces: list[str]) -> list[tuple[str, int]]:
    """Return the error and the growth of memory for a row of 4 Mi times each piece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "CHUNK_BYTES", 1 << 14)
        patch.setattr(csv, "_BLOCK_BYTES", 1 << 16)
        patch.setattr(csv, "_MAX_ROW_BYTES", 1 << 16)
        return [measure_peak(read_refused, (ORDERS + piece * (4 << 20)).encode()) for piece in pieces]


def test_row_without_end_is_refused(shop: Shop) -> None:
    """Refuse a row that is longer than the limit after reading little more than that."""
    for error, peak in run_alone(read_long_rows, ["x", ",", '"', '""', "x,", "é", '"x', "\ufeff"]):
        assert error.startswith(("a.csv.gz, line 2: a quoted field ", "a.csv.gz, data row 1: the row has more than "))
        assert error.count(". ") == 0
        assert peak < 8 << 20


@pytest.mark.parametrize("header", ["x" * 500_000, "a," * 100_000, ORDERS.strip() + ",a" * 5000, '"' + "a" * 500_000])
def test_header_has_a_limit(shop: Shop, header: str) -> None:
    with pytest.raises((LimitError, FormatError)) as caught:
        read(header.encode() + b"\n1\n")
    assert str(caught.value).startswith("a.csv.gz, line 1: the header ")
    assert len(str(caught.value)) < 300


def test_many_empty_rows_are_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read more rows of delimiters only, as in spreadsheet exports, than the size limit of one row."""
    monkeypatch.setattr(csv, "CHUNK_BYTES", 1 << 14)
    monkeypatch.setattr(csv, "_BLOCK_BYTES", 1 << 16)
    assert read((ORDERS + ",,,,,\n" * 50_000).encode()) == 50_000
    assert read((ORDERS + "\n" * 200_000).encode()) == 0
