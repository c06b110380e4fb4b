"""Test the search of all kinds of files for values of a person."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
from pathlib import Path
from typing import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daybook.privacy.erasure.terms import (
    SearchTerms,
    build_search_terms,
    contains_any,
    raw_row_matches,
    replace_in_raw_row,
    replace_values,
)
from daybook.privacy.erasure.verify import search_files, search_landing
from daybook.sources.compression import UnpackLimits

VALUE = "Zoë O'Kanarie-Müßig"
TERMS = SearchTerms(frozenset({VALUE}), frozenset({"17850"}))


def written(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text, encoding="utf-8") and None


def parquet(**columns: pa.Array) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.txt", written(f"said {VALUE}.")),
        ("upper.txt", written(VALUE.upper().replace("SS", "ß"))),
        ("a.json", written(json.dumps({"name": VALUE}))),
        ("nested.json", written(json.dumps({"stats": json.dumps({"minValues": {"name": VALUE}})}))),
        ("line.json", written(json.dumps({"text": f"to\n{VALUE}\tof"}))),
        ("a.html", written(f"<td>{html.escape(VALUE)}</td>")),
        ("a.csv.gz", lambda path: path.write_bytes(gzip.compress(VALUE.encode())) and None),
        ("a.parquet", parquet(note=pa.array([VALUE, None]))),
        ("dictionary.parquet", parquet(note=pa.array([VALUE]).dictionary_encode())),
        ("large.parquet", parquet(note=pa.array([VALUE], pa.large_string()))),
        ("nested.parquet", parquet(add=pa.array([{"stats": VALUE}]))),
        ("bytes.parquet", parquet(note=pa.array([VALUE.encode()]))),
        ("number.parquet", parquet(CustomerID=pa.array(["17850"]))),
    ],
)
def test_values_are_found_in_every_kind_of_file(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    (tmp_path / "other.txt").write_text("of nobody")
    proof = search_files({"lake": str(tmp_path)}, TERMS, ["CustomerID"], {})
    assert (list(proof.matches), proof.files, proof.is_clean) == ([str(tmp_path / name)], 2, False)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("part.txt", written("Zoë O'Kanarie-Müßiggang")),
        ("number.json", written('{"size": 17850}')),
        ("product.parquet", parquet(StockCode=pa.array(["17850"]))),
        ("other.parquet", parquet(CustomerID=pa.array(["178501"]))),
    ],
)
def test_ambiguous_values_are_not_found(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert search_files({"lake": str(tmp_path)}, TERMS, ["CustomerID"], {}).is_clean


def test_allowed_terms_depend_on_the_location(tmp_path: Path) -> None:
    for folder in ("list", "archive"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("0123456789abcdef")
    search_terms = SearchTerms(frozenset({"0123456789abcdef"}), frozenset())
    proof = search_files({"all": str(tmp_path)}, search_terms, [], {str(tmp_path / "list"): search_terms.everywhere})
    assert list(proof.matches) == [str(tmp_path / "archive" / "a.txt")]


def test_missing_location_has_no_files(tmp_path: Path) -> None:
    proof = search_files({"logs": str(tmp_path / "logs")}, TERMS, [], {})
    assert (proof.files, proof.is_clean) == (0, True)


def test_shared_values_are_excluded_but_not_the_id() -> None:
    values = ["ann@x.example", "Lindengasse 7", "C-00001"]
    search_terms = build_search_terms([], ["C-00001"], values, ["bob@x.example", "lindengasse 7, door 2", "C-00001"])
    assert search_terms.all == {"ann@x.example", "C-00001"}


@pytest.mark.parametrize("value", ["ann@x.at", "+43 660 1234567", "Ann Zwölfaxing", "C-00001", "0" * 8])
def test_distinctive_values_are_searched_everywhere(value: str) -> None:
    assert build_search_terms([], [], [value], []).everywhere == {value}


@pytest.mark.parametrize("value", ["May", "Ann", "1070", "17850", "Lindengasse"])
def test_ordinary_words_are_searched_in_personal_columns(value: str) -> None:
    assert build_search_terms([], [], [value], []) == SearchTerms(frozenset(), frozenset({value}))


def test_plain_and_compressed_landing_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer_id\n17850\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"17850,x"))
    (tmp_path / "c.csv").write_text("178500")
    (tmp_path / "d.csv").write_bytes(gzip.compress(b"17850,x"))
    assert search_landing(str(tmp_path), TERMS).files == [str(tmp_path / name) for name in ("a.csv", "b.csv.gz", "d.csv")]


@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "across pieces"])
def test_landing_values_are_found_at_any_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Find a value at any position of chunks, and no value that is only part of a word."""
    monkeypatch.setattr("daybook.privacy.erasure.files.CHUNK_BYTES", 7 if cut else 1 << 20)
    monkeypatch.setattr("daybook.sources.compression.CHUNK_BYTES", 7 if cut else 1 << 20)
    for position in range(12):
        (tmp_path / f"{position:02}.csv").write_text(f"{'-' * position}17850,x")
        (tmp_path / f"{position:02}.csv.gz").write_bytes(gzip.compress(f"{'-' * position},17850".encode()))
        (tmp_path / f"other-{position:02}.csv").write_text(f"{'-' * position}178501,x 117850")
    found = search_landing(str(tmp_path), TERMS).files
    assert found == sorted(str(path) for path in tmp_path.iterdir() if "other" not in path.name)


def test_landing_files_that_cannot_be_unpacked_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"17850,x" * 1000)[:-5])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"nobody" * 1000)[:-5])
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"0" * 100_000))
    found = search_landing(str(tmp_path), TERMS, UnpackLimits(size=50_000))
    assert found.files == [str(tmp_path / "a.csv.gz")]
    assert list(found.unreadable) == [str(tmp_path / "b.csv.gz"), str(tmp_path / "c.csv.gz")]


def test_damaged_gzip_file_in_a_lake_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"nobody" * 1000)[:-5])
    proof = search_files({"lake": str(tmp_path)}, TERMS, [], {})
    assert (proof.is_clean, list(proof.unsearched)) == (False, [str(tmp_path / "a.csv.gz")])


def test_only_whole_words_are_replaced() -> None:
    assert replace_values("c-1, C-1; C-11", ["C-1"], "[erased]") == "[erased], [erased]; C-11"
    assert contains_any("x C-1.", ["C-1"])
    assert not contains_any("C-11", ["C-1"])


@pytest.mark.parametrize(("street", "found"), [("Lindengasse 7", False), ("7", True)])
def test_id_in_values_of_others_matches_whole_values_only(tmp_path: Path, street: str, found: bool) -> None:
    search_terms = build_search_terms([], ["7"], [], ["Lindengasse 7"])
    parquet(street=pa.array([street]))(tmp_path / "a.parquet")
    assert bool(search_files({"lake": str(tmp_path)}, search_terms, ["street"], {}).matches) is found


def test_id_equal_to_a_value_of_another_is_not_searched() -> None:
    search_terms = build_search_terms([], ["1070"], [], ["1070"])
    assert (search_terms.everywhere, search_terms.personal, search_terms.whole_values, search_terms.ids) == (
        set(),
        set(),
        set(),
        {"1070"},
    )


@pytest.mark.parametrize("raw", ["1,P-9,2025-11-7,7 pcs", "17;7.5"])
def test_short_id_inside_a_field_of_a_malformed_row_is_kept(raw: str) -> None:
    search_terms = build_search_terms([], ["7"], ["Ann"], [], ",;")
    assert (raw_row_matches(raw, search_terms), replace_in_raw_row(raw, search_terms, "-")) == (False, raw)


def test_malformed_row_with_the_id_loses_all_values() -> None:
    search_terms = build_search_terms([], ["7"], ["Ann"], [], ",;")
    assert replace_in_raw_row('a, "7" ,ANN;7 pcs,Ann B', search_terms, "-") == "a,-,-;7 pcs,Ann B"


def test_unchanged_file_with_an_earlier_match_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("of nobody that could be told now")
    held = {(str(path), hashlib.sha256(path.read_bytes()).hexdigest())}
    nothing = SearchTerms(frozenset(), frozenset())
    found = search_files({"archive": str(tmp_path)}, nothing, [], {}, held)
    assert (list(found.matches), set(found.digests.items())) == ([str(path)], held)
    path.write_text("mended")
    assert search_files({"archive": str(tmp_path)}, nothing, [], {}, held).is_clean
