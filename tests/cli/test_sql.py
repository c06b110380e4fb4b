"""Test that ``daybook sql`` pseudonymises personal values, and records each read of raw values with its reason."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from daybook.lake.tables import Lake
from daybook.privacy import load_keys, make_pseudonym
from daybook.settings import load_settings
from tests.cli.conftest import Call
from tests.lake.writing import replace_date

QUERY = "SELECT first_name AS n, city FROM bronze.customers"


@pytest.fixture(autouse=True)
def customers(home: Path) -> None:
    rows = pa.table({"first_name": ["Ottilie"], "city": ["Graz"], "_source_file": ["c.csv"]})
    replace_date(Lake(load_settings("local").lake, run_id="daily-2025-11-30-1"), "bronze.customers", rows, date(2025, 11, 30))


def raw_reads() -> list[Path]:
    return list(Path(load_settings("local").archive).rglob("raw_reads/*/*.json"))


def test_restricted_values_are_pseudonyms(call: Call) -> None:
    code, out, _ = call("sql", QUERY, "--json")
    assert code == 0
    assert json.loads(out) == [{"n": make_pseudonym(load_keys(load_settings("local").pii_key), "Ottilie"), "city": "Graz"}]
    assert raw_reads() == []


def test_raw_values_with_a_reason_are_on_record(call: Call) -> None:
    code, out, _ = call("sql", QUERY, "--json", "--raw", "--why", "a question of the shop")
    assert (code, json.loads(out)) == (0, [{"n": "Ottilie", "city": "Graz"}])
    (file,) = raw_reads()
    record = json.loads(file.read_text(encoding="utf-8"))
    assert (record["command"], record["reason"]) == ("sql", "a question of the shop")
    assert (record["tables"], record["columns"]) == (["bronze.customers"], ["n", "city"])
    assert "Ottilie" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [["--raw"], ["--raw", "--why", " "], ["--why", "a reason"]])
def test_raw_and_why_belong_together(call: Call, options: list[str]) -> None:
    code, out, err = call("sql", QUERY, *options)
    assert code == 2
    assert "reason" in err
    assert "Ottilie" not in out + err
    assert raw_reads() == []


def test_query_of_gold_needs_no_key(call: Call) -> None:
    assert call("sql", "SELECT count(*) FROM gold.daily_sales")[0] == 0
    assert not Path(load_settings("local").pii_key).exists()
    assert call("sql", "SELECT city, count(*) FROM bronze.customers GROUP BY city")[0] == 0


def test_value_that_cannot_be_converted_is_one_sentence(call: Call) -> None:
    code, _, err = call("sql", "SELECT CAST(city AS INTEGER) FROM bronze.customers")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
