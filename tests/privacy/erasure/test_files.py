"""Test that every file of a location is read, or listed with the reason."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Callable, Union

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daybook.errors import StorageError
from daybook.privacy.erasure import files
from daybook.privacy.erasure.terms import SearchTerms
from daybook.privacy.erasure.verify import search_files, search_landing

VALUE = "Zoë O'Kanarie-Müßig"
TERMS = SearchTerms(frozenset({VALUE}), frozenset())


def code(content: Union[str, bytes]) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def zipped(content: Union[str, bytes], name: str = "a.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def output(mime: str, content: str) -> str:
    """Return a notebook with one output."""
    cell = {"cell_type": "code", "source": "", "outputs": [{"output_type": "display_data", "data": {mime: content}}]}
    return json.dumps({"cells": [cell], "nbformat": 4})


HIDDEN = {
    "latin-1": VALUE.encode("latin-1"),
    "utf-16": f"a,{VALUE},b".encode("utf-16"),
    "utf-16 without a mark": f"a,{VALUE},b".encode("utf-16-be"),
    "utf-8 with a mark": VALUE.encode("utf-8-sig"),
    "gzip": gzip.compress(VALUE.encode("latin-1")),
    "zip": zipped(VALUE),
    "zip in a zip": zipped(zipped(VALUE), "b.zip"),
    "name in a zip": zipped("", f"{VALUE}.csv"),
    "base64 of text": output("text/csv", code(f"a,{VALUE}")).encode(),
    "base64 of latin-1": output("text/csv", code(f"a,{VALUE}".encode("latin-1"))).encode(),
    "base64 in lines": output("application/x", base64.encodebytes(f"{'a ' * 80}{VALUE}{' b' * 80}".encode()).decode()).encode(),
    "base64 after a line end": output("text/plain", f"it is\n{code(VALUE)}").encode(),
    "base64 of an archive": output("application/zip", code(zipped(VALUE))).encode(),
    "base64 twice": output("text/plain", code(code(f"is {VALUE}"))).encode(),
    "base64 for URLs": output("text/plain", base64.urlsafe_b64encode(f"?>?>{VALUE} ".encode()).decode()).encode(),
    "data link": f'<a href="data:text/csv;base64,{code(VALUE)}">'.encode(),
    "metadata of an image": b"\x89PNG\r\n\x1a\n\0\0\0\x0dtEXtAuthor\0" + VALUE.encode(),
}


@pytest.mark.parametrize("content", HIDDEN.values(), ids=HIDDEN)
def test_value_is_found_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    proof = search_files({"archive": str(tmp_path)}, TERMS, [], {}, encodings=["latin-1"])
    assert (list(proof.matches), proof.unsearched) == ([str(tmp_path / "a")], {})


def test_value_in_base64_is_found_across_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOW_BYTES", 500)
    monkeypatch.setattr(files, "CHUNK_BYTES", 100)
    value = "ann@zwoelfaxing.example"
    for position in range(0, 400, 7):
        (tmp_path / f"{position:03}.ipynb").write_text(output("text/csv", code(f"{'a,' * position}{value}{',b' * 300}")))
    proof = search_files({"archive": str(tmp_path)}, SearchTerms(frozenset({value}), frozenset()), [], {})
    assert len(proof.matches) == proof.files == 58


@pytest.mark.parametrize("name", [".ipynb_checkpoints/a.ipynb", "explore/mine.ipynb", f"export of {VALUE}.txt"])
def test_hidden_folders_and_file_names_are_searched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(output("text/plain", VALUE if VALUE not in name else ""))
    assert list(search_files({"notebooks": str(tmp_path)}, TERMS, [], {}).matches) == [str(path)]


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text(VALUE)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "linked").symlink_to(tmp_path / "outside")
    (tmp_path / "place" / "loop").symlink_to(tmp_path / "place")
    proof = search_files({"place": str(tmp_path / "place")}, TERMS, [], {})
    assert (list(proof.matches), proof.files) == ([str(tmp_path / "place" / "linked" / "a.txt")], 1)


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"note": ["x" * 1000]}), path)
    path.write_bytes(path.read_bytes()[:-20])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.csv.gz": (lambda path: path.write_bytes(gzip.compress(b"nobody" * 1000)[:-5]), "Compressed file ended before"),
    "a.parquet": (parquet, "Parquet magic bytes not found"),
    "a.zip": (lambda path: path.write_bytes(zipped("nobody" * 100)[:60]), "File is not a zip file"),
    "a.7z": (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1cx"), "a 7z archive, whose content cannot be read"),
    "a.pdf": (lambda path: path.write_bytes(b"%PDF-1.7\n"), "a PDF file, whose content cannot be read"),
    "a.ipynb": (lambda path: path.write_text(output("x", code(gzip.compress(b"nobody" * 99)[:-9]))), "Compressed file ended"),
    "fifo": (os.mkfifo, "not a regular file"),
    "link": (lambda path: path.symlink_to("nowhere"), "a link whose target is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_file_that_cannot_be_searched_is_listed(tmp_path: Path, name: str) -> None:
    write, why = BROKEN[name]
    write(tmp_path / name)
    proof = search_files({"lake": str(tmp_path)}, TERMS, [], {})
    assert (proof.is_clean, proof.matches, list(proof.unsearched)) == (False, {}, [str(tmp_path / name)])
    assert proof.unsearched[str(tmp_path / name)].startswith(why)
    if name != "a.ipynb":  # Landing files are not notebooks.
        assert list(search_landing(str(tmp_path), TERMS).unreadable) == [str(tmp_path / name)]


def test_finding_before_the_damage_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(f"{VALUE} {'nobody' * 1000}".encode())[:-5])
    proof = search_files({"lake": str(tmp_path)}, TERMS, [], {})
    assert (list(proof.matches), proof.unsearched) == ([str(path)], {})


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_file_that_cannot_be_opened_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(_: Path) -> None:
        raise error

    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr(files, "_open_file", fail)
    assert search_files({"a": str(tmp_path)}, TERMS, [], {}).unsearched == {str(tmp_path / "a.txt"): error.strerror}
    assert search_landing(str(tmp_path), TERMS).unreadable == {str(tmp_path / "a.txt"): error.strerror}


def test_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.txt")).write_text(VALUE)
    assert list(search_files({"a": str(tmp_path)}, TERMS, [], {}).matches) == [f"{tmp_path}/a\\xff.txt"]


def test_bucket_that_cannot_be_listed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StorageError("s3://shop/ could not be read: permission is denied.")

    monkeypatch.setattr("daybook.storage.Store.keys", fail)
    monkeypatch.setattr("daybook.storage.Store.__init__", lambda self, uri: setattr(self, "uri", uri))
    unsearched: dict[str, str] = {}
    assert list(files.list_files("s3://shop", unsearched)) == []
    assert unsearched == {"s3://shop": "s3://shop/ could not be read: permission is denied"}
