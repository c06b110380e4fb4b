"""Test ``daybook lineage``, which reads the newest run with lineage of a table."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.cli import main
from daybook.records.archive import Archive
from daybook.settings import load_settings
from tests.sample_records import run_record

OLD = {"gold.sales": {"rows": {}, "columns": {"revenue": {"silver.items.old_amount": ["AGGREGATION"]}}}}
NEW = {
    "gold.sales": {
        "rows": {"silver.items.sold_on": ["GROUP_BY"]},
        "columns": {"revenue": {"silver.items.amount": ["AGGREGATION"]}, "day": {"silver.items.sold_on": ["IDENTITY"]}},
    },
    "silver.items": {"rows": {}, "columns": {"amount": {"bronze.items.price": ["TRANSFORMATION"]}, "sold_on": {}}},
}


@pytest.fixture
def archive(home: Path) -> Archive:
    """Return an archive with runs of two dates with lineage, and a newer run without."""
    archive = Archive(load_settings("local").archive)
    for day, lineage in ((28, OLD), (29, NEW), (30, {})):
        run_id = archive.start_run(date(2025, 11, day), {})
        archive.write_run(run_record(run_id, lineage=lineage))
    return archive


@pytest.fixture
def daybook(archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command and returns exit code, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", "lineage", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def test_column_is_traced_to_bronze_by_the_newest_run(daybook: Any) -> None:
    code, out, _ = daybook("gold.sales.revenue", "--json")
    assert code == 0
    assert json.loads(out) == {
        "run_id": "daily-2025-11-29-1",
        "columns": {
            "gold.sales.revenue": {
                "silver.items.amount": ["AGGREGATION"],
                "silver.items.sold_on": ["GROUP_BY"],
                "bronze.items.price": ["AGGREGATION"],
            }
        },
    }


def test_table_lists_value_and_deciding_columns_separately(daybook: Any) -> None:
    code, out, _ = daybook("gold.sales")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["revenue", "silver.items.amount", "silver.items.sold_on"] in lines
    assert ["bronze.items.price"] in lines
    assert ["day", "silver.items.sold_on"] in lines
    assert out.splitlines()[-1] == "Lineage of the run daily-2025-11-29-1."


def test_lineage_of_an_older_run_is_shown(daybook: Any) -> None:
    _, out, _ = daybook("gold.sales.revenue", "--run", "daily-2025-11-28-1")
    assert "silver.items.old_amount" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gold.sales.profit"], "gold.sales has no column 'profit'; its columns are: revenue, day."),
        (["gold.nothing"], "No run has the lineage of gold.nothing; name a silver or gold table"),
        (["bronze.items.price"], "No run has the lineage of bronze.items; name a silver or gold table"),
        (["gold.sales", "--run", "daily-2025-11-30-1"], "daily-2025-11-30-1 has no lineage of gold.sales;"),
        (["gold.sales", "--run", "daily-2025-11-01-1"], "There is no run daily-2025-11-01-1; `daybook runs` lists them."),
    ],
)
def test_mistake_is_one_sentence(daybook: Any, arguments: list[str], message: str) -> None:
    code, out, err = daybook(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
