"""Test that every spelling of a header stores the same rows."""

from __future__ import annotations

import functools
import tempfile
import unicodedata
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daybook.contracts import Table
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.sources import Column, Entity, Source, load_source
from daybook.storage import Store
from tests.lake.writing import replace_date
from tests.reading import read_entity

DAY, NEXT = date(2025, 11, 1), date(2025, 11, 2)
DECLARED, OTHERS = ("Bestell Nr.", "Größe", "straße", "Élodie_ΑΒΓ"), ("Farbe", "naïve Ø")
HEADER = (*DECLARED, *OTHERS)
CELLS = ("1", "XL", "Am Weg 7", "ja", "rot", "5")


def shop() -> Source:
    """Return a source whose first entity declares some columns of its files."""
    source = load_source("demo")
    entity = Entity(files="{run_date}/*.csv", columns={name: Column() for name in DECLARED})
    return source.model_copy(update={"entities": {"orders": entity}, "contracts": dict[str, Table]()})


@st.composite
def respelled(draw: st.DrawFn, name: str) -> str:
    """Return the name with each letter in either case, composed or decomposed, and surrounding spaces."""

    def in_some_case(letter: str) -> str:
        # The capital of ß is two letters, which SQL treats as another name.
        upper = letter.upper() if len(letter.upper()) == 1 else letter
        return draw(st.sampled_from([letter, letter.lower(), upper]))

    text = "".join(map(in_some_case, unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), name)))
    blanks = st.sampled_from(["", " ", "\t", "\u00a0 "])
    return f"{draw(blanks)}{text}{draw(blanks)}"


@functools.cache
def rows_after(*headers: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Return bronze after a date with the plain header and one with a file for each header."""
    source = shop()
    with tempfile.TemporaryDirectory() as folder:
        landing, lake = Path(folder) / "landing", Lake(f"{folder}/lake", run_id="daily-2025-11-01-1")
        for day, files in ((DAY, (HEADER,)), (NEXT, headers)):
            (landing / day.isoformat()).mkdir(parents=True)
            for number, header in enumerate(files):
                text = "\n".join(",".join(line) for line in (header, CELLS, CELLS))
                (landing / day.isoformat() / f"{number}.csv").write_text(text, encoding="utf-8")
            table, _ = read_entity(Store(str(landing)), source, "orders", day)
            assert table is not None and set(DECLARED) <= set(table.column_names)
            replace_date(lake, "bronze.orders", table, day)
        engine = DuckDBEngine(lake, "UTC", spill=Path(folder))
        assert len(engine.query("SELECT * FROM bronze.orders").columns) == len(HEADER) + 5
        listed = ", ".join(f'"{name}"' for name in HEADER)
        return engine.rows(f"SELECT run_date, {listed}, _source_file, _row_number FROM bronze.orders ORDER BY ALL")


@settings(max_examples=30)
@given(headers=st.tuples(*(st.tuples(*map(respelled, HEADER)) for _ in range(2))))
@example(headers=(tuple(map(str.lower, HEADER)), tuple(unicodedata.normalize("NFD", name) for name in HEADER)))
@pytest.mark.slow
def test_every_spelling_of_a_header_has_the_same_rows(headers: tuple[tuple[str, ...], ...]) -> None:
    assert rows_after(*headers) == rows_after(HEADER, HEADER)


@pytest.mark.parametrize("blank", ["", " "])
def test_column_without_a_name_is_called_unnamed(tmp_path: Path, blank: str) -> None:
    (tmp_path / DAY.isoformat()).mkdir()
    (tmp_path / DAY.isoformat() / "a.csv").write_text(",".join((*DECLARED, blank)) + "\n1,2,3,4,5\n", encoding="utf-8")
    table, _ = read_entity(Store(str(tmp_path)), shop(), "orders", DAY)
    assert isinstance(table, pa.Table) and table["unnamed"].to_pylist() == ["5"]
