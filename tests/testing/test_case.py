"""Files of cases: what they may hold, and the errors for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook.errors import CaseError, ParamsError
from daybook.testing.case import Case, read_cases, write_cases

HEADER = "notebook: 4_aggregate\ntable: gold.daily_sales\nparameters: {run_date: 2025-11-30}\n"


def read(tmp_path: Path, text: str) -> list[Case]:
    path = tmp_path / "cases.yaml"
    path.write_text(text, encoding="utf-8")
    return read_cases(path)


def test_values_stay_as_they_are_written(tmp_path: Path) -> None:
    row_of_file = "{a: 007, b: NO, c: 1.10, d: 2025-11-30, e: null, f: 'null', g: }"
    (case,) = read(tmp_path, HEADER + f"cases: [{{name: a, given: {{silver.orders: [{row_of_file}]}}, expect: []}}]")
    row = {"a": "007", "b": "NO", "c": "1.10", "d": "2025-11-30", "e": None, "f": "null", "g": None}
    assert case.given["silver.orders"] == [row]


def test_case_overrides_the_keys_of_its_file(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        HEADER + "cases:\n  - {name: a, expect: []}\n"
        "  - {name: b, notebook: 3_transform, table: silver.orders, parameters: {returns_count_on: return_date}, expect: []}\n",
    )
    assert (first.notebook, first.table, first.parameters) == ("4_aggregate", "gold.daily_sales", {"run_date": "2025-11-30"})
    assert (second.notebook, second.table) == ("3_transform", "silver.orders")
    assert second.parameters == {"run_date": "2025-11-30", "returns_count_on": "return_date"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "key 'cases' is no list of cases"),
        (HEADER + "cases: []", "key 'cases' is no list of cases"),
        (HEADER + "cases: [one]", "case 1 is no mapping"),
        (HEADER + "cas: 1\ncases: [{name: a, expect: []}]", "there is no key 'cas'; the keys are: env, notebook"),
        (HEADER + "cases: [{name: a}]", "case 'a': key 'expect' is missing"),
        (HEADER + "cases: [{expect: []}]", "case 1: key 'name' is missing"),
        (HEADER + "cases: [{name: a, expects: []}]", "case 'a': "),
        (HEADER + "cases: [{name: a, expect: [{x: [1]}]}]", "case 'a': key 'expect.0.x'"),
        (HEADER + "cases: [{name: a, expect: [], columns: some}]", "case 'a': key 'columns'"),
        (HEADER + "cases: [{name: a, expect: []}, {name: a, expect: []}]", "two cases have the name 'a'"),
        ("cases: [{name: a, table: gold.daily_sales, expect: []}]", "case 'a': key 'notebook' is missing"),
    ],
)
def test_invalid_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CaseError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert "cases.yaml" in str(error.value)


def test_repeated_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="duplicate key 'order_id'"):
        read(tmp_path, HEADER + "cases: [{name: a, expect: [{order_id: a, order_id: b}]}]")


def test_written_cases_are_read_back(tmp_path: Path) -> None:
    row = {"a": "null", "b": "yes", "c": "1.10", "d": "2025-11-30 10:00:00+01:00", "e": "é, {x}", "f": ""}
    case = Case(
        name="what: a # case",
        notebook="4_aggregate",
        table="gold.daily_sales",
        parameters={"run_date": "2025-11-30"},
        given={"silver.orders": [row]},
        expect=[{"x": None, "y": "-5.25"}],
    )
    path = tmp_path / "written.yaml"
    write_cases(path, [case])
    (found,) = read_cases(path)
    assert found.model_copy(update={"file": ""}) == case
