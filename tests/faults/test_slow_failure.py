"""Test that a broken landing file is searched for personal values in little time and memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.errors import FormatError
from daybook.privacy import run_values
from daybook.privacy.matcher import ValueMatcher
from daybook.privacy.run_values import build_redactor
from daybook.settings import load_settings
from daybook.sources import load_source
from daybook.sources.compression import DEFAULT_LIMITS
from daybook.storage import Store
from tests.faults.conftest import Shop
from tests.memory import measure_peak, run_alone

DAY, RUN = "2025-01-02", "daily-2025-01-02-1"
GOOD = "order,customer,at,product,qty,price"
LINES = [f"O{i},C{i:06d},2025-01-02 10:00:00,P{i % 50},1,9.90" for i in range(30_000)]


@pytest.fixture
def slow(shop: Shop) -> Shop:
    """Return a shop with the deployment ``slow``, whose only personal column is customer."""
    return shop.deploy("slow_failure", "slow")


def land(slow: Shop, header: str, lines: Iterable[str]) -> Path:
    return slow.land(f"sales_{DAY}.csv", "\n".join([header, *lines]) + "\n")


class CollectedValues(ValueMatcher):
    """A matcher that only collects the added arrays with their columns."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.arrays: list[tuple[str, pa.Array]] = []

    def add_array(self, rank: int, array: pa.Array) -> None:
        self.arrays.append((self._columns[rank][0], array))

    @property
    def values(self) -> set[tuple[str, str]]:
        """Return the distinct values with their columns."""
        return {(column, value) for column, array in self.arrays for value in array.to_pylist()}


def collect(path: Path) -> CollectedValues:
    """Collect the values of a broken file of the deployment ``slow``."""
    values = CollectedValues()
    store = Store(str(path.parent))
    run_values._add_values(
        values, run_values._read_malformed_file(store, path.name, load_source("slow"), "sales", DEFAULT_LIMITS)
    )
    return values


def test_wrong_header_is_found_in_seconds(slow: Shop) -> None:
    """Compare the failed ingest and its search with the search of the same file with a good header."""
    land(slow, GOOD, LINES)
    start = time.perf_counter()
    build_redactor(load_settings("slow"), RUN, stage="ingest")
    good = time.perf_counter() - start
    land(slow, GOOD.replace(",price", ""), [line.rsplit(",", 1)[0] for line in LINES])
    start = time.perf_counter()
    with pytest.raises(FormatError, match="column 'price' of entity 'sales' is missing"):
        slow.run(DAY)
    clean = build_redactor(load_settings("slow"), RUN, stage="ingest").redact_text("bought by C000017 and C029999")
    assert clean == "bought by [redacted:customer] and [redacted:customer]"
    assert time.perf_counter() - start < 10 * good + 5


@pytest.mark.parametrize(
    ("header", "column"), [(GOOD.replace(",price", ",cost"), "customer"), ("a,b,c,d,e,f", "_raw")], ids=["column", "header"]
)
def test_values_are_collected_by_column(slow: Shop, header: str, column: str) -> None:
    """Collect few arrays, and decode the file once if the first encoding fits."""
    values = collect(land(slow, header, LINES))
    assert {value for name, value in values.values if name == column} >= {f"C{i:06d}" for i in range(30_000)}
    assert len(values.arrays) < 10


def test_second_encoding_is_read_if_the_first_does_not_fit(slow: Shop) -> None:
    path = land(slow, GOOD.replace(",price", ",cost"), [])
    path.write_bytes(path.read_bytes() + "O1,Zoë,2025-01-02 10:00:00,P1,1,9.90\n".encode("windows-1252"))
    assert ("customer", "Zoë") in collect(path).values


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.lists(st.sampled_from(["Anna", "Zoë K", '"Max, Jr"', "", "17.5"]), min_size=1, max_size=7), max_size=6),
    chunk=st.integers(40, 200),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_chunks_give_the_values_of_the_whole_file(
    slow: Shop, monkeypatch: pytest.MonkeyPatch, lines: list[list[str]], chunk: int, end: str
) -> None:
    """Collect the same values for any chunk size, as long as two chunks hold a line."""
    path = land(slow, "x", [])
    text = end.join([GOOD.replace(",price", ",cost"), *(",".join(line) for line in lines)])
    path.write_bytes(text.encode())
    expected = collect(path).values
    with monkeypatch.context() as patch:
        patch.setattr(run_values, "CHUNK_BYTES", chunk)
        assert collect(path).values == expected


def collect_in_chunks(paths: list[Path]) -> list[int]:
    """Return the growth of memory for each file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_values, "CHUNK_BYTES", 1 << 16)
        return [measure_peak(collect, path)[1] for path in paths]


def test_memory_does_not_grow_with_the_file(slow: Shop, tmp_path: Path) -> None:
    """Read files of 4 and 16 chunks, of fields, of one field and of lines, and compare the memory of both."""
    paths = []
    for text in ("C1234567,", "C1234567", "C1234567,x\n"):
        for size in (1 << 18, 1 << 20):
            paths.append(land(slow, "x", []).replace(tmp_path / f"{len(paths)}.csv"))
            paths[-1].write_text(text * (size // len(text)))
    peaks = run_alone(collect_in_chunks, paths)
    for small, large in zip(peaks[::2], peaks[1::2]):
        assert large < 2 * small + (1 << 20)


def test_repairs_are_collected_by_column() -> None:
    values = CollectedValues()
    texts = [f'{{"customer": "C{i}", "product": "P{i}"}}' for i in range(1000)]
    run_values._add_values(values, run_values._read_repairs(texts, {"customer": "id"}))
    assert len(values.arrays) == 1
    assert values.values == {("customer", f"C{i}") for i in range(1000)}


def test_interrupted_run_stores_values_in_batches(slow: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the statements on the database, which the search after Ctrl-C executes too."""
    land(slow, GOOD.replace(",price", ",cost"), LINES)
    calls: list[Any] = []
    store = ValueMatcher._store
    monkeypatch.setattr(ValueMatcher, "_store", lambda self, rows: (calls.append(rows.num_rows), store(self, rows))[1])
    build_redactor(load_settings("slow"), RUN)
    assert len(calls) < 10


@pytest.mark.parametrize("stored", [False, True], ids=["landing", "bronze"])
def test_many_unsplittable_rows_are_not_held_in_memory(slow: Shop, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    """Redact every field of many such rows; of few rows, only fields of personal columns."""
    broken = [f"X{i},Y{i:06d},P7 plain" for i in range(200)]
    land(slow, GOOD, [*broken, "O0,C0,2025-01-02 10:00:00,P7 plain,1,2"])
    if stored:
        slow.run(DAY, {"max_rejected_share": "1"})
        shutil.rmtree(Path(load_settings("slow").lake) / "quarantine")
    text = "Y000007 and P7 plain"
    assert build_redactor(load_settings("slow"), RUN).redact_text(text) == "[redacted:_raw] and P7 plain"
    monkeypatch.setattr(run_values, "_MAX_HELD_RAW_ROWS", 100)
    assert build_redactor(load_settings("slow"), RUN).redact_text(text) == "[redacted:_raw] and [redacted:_raw]"
