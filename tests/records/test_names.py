"""Test the names of stages, notebooks and runs."""

from __future__ import annotations

from datetime import date

import pytest

from daybook.errors import UsageError
from daybook.records.names import (
    STAGES,
    format_range_id,
    format_run_id,
    is_range_id,
    list_range,
    notebook_name,
    range_of,
    run_date_of,
    run_number,
)
from daybook.settings import list_files, project_root


def test_notebook_name_begins_with_the_number_of_its_stage():
    assert [notebook_name(stage) for stage in STAGES] == [
        "1_ingest",
        "2_validate",
        "3_transform",
        "4_aggregate",
        "5_quality",
        "6_notify",
    ]


def test_stages_and_notebooks_correspond():
    there = {path.stem for path in list_files(project_root() / "notebooks", "*.ipynb")}
    assert there == {notebook_name(stage) for stage in STAGES}


@pytest.mark.parametrize("number", [1, 2, 10])
def test_run_id_contains_its_date(number):
    day = date(2024, 2, 29)
    assert format_run_id(day, 3) == "daily-2024-02-29-3"
    assert run_date_of(format_run_id(day, number)) == day


@pytest.mark.parametrize(
    "run_id",
    [
        "daily-2025-11-30",
        "daily-2025-11-30-0",
        "daily-2025-11-30-01",
        "daily-2025-02-30-1",
        "2025-11-30-1",
        "Daily-2025-11-30-1",
        "x-daily-2025-11-30-1",
        "daily-2025-11-30-1\n",
        "daily-2025-11-30-١",
        "daily-２025-11-30-1",
        "daily-2025-11-30-1/../x",
        "",
    ],
)
def test_other_texts_are_not_run_ids(run_id):
    with pytest.raises(UsageError) as caught:
        run_date_of(run_id)
    assert str(caught.value) == (
        f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, and `daybook runs` lists them."
    )


def test_run_id_is_valid_in_step_functions():
    assert len(format_run_id(date(9999, 12, 31), 10**9)) <= 80


def test_range_id_contains_its_dates():
    first, last = date(2024, 2, 29), date(2024, 3, 31)
    name = format_range_id(first, last, 12)
    assert name == "range-2024-02-29-2024-03-31-12"
    assert range_of(name) == (first, last)
    assert run_number(name) == 12
    assert is_range_id(name)


def test_run_of_one_date_is_a_range_of_one_date():
    day = date(2024, 2, 29)
    assert range_of("daily-2024-02-29-3") == (day, day)
    assert not is_range_id("daily-2024-02-29-3")


@pytest.mark.parametrize(
    "run_id",
    [
        "range-2025-11-01-2025-11-30",
        "range-2025-11-01-2025-11-30-0",
        "range-2025-11-01-2025-11-31-1",
        "range-2025-11-30-2025-11-01-1",
        "range-2025-11-30-2025-11-30-1",
        "range-2025-11-01-1",
        "range-2025-11-01-2025-11-30-1/../x",
        "range-2025-11-01-2025-11-30-1\n",
        "backfill-2025-11-01-2025-11-30-1",
        "daily-2025-02-30-1",
        "",
    ],
)
def test_other_texts_are_not_range_ids(run_id):
    assert not is_range_id(run_id)
    with pytest.raises(UsageError) as caught:
        range_of(run_id)
    assert str(caught.value) == (
        f"{run_id!r} is not a run's name; they look like daily-2025-11-30-1, or range-2025-11-01-2025-11-30-1 for a range of "
        "dates, and `daybook runs` lists them."
    )


def test_dates_of_a_run_are_all_of_its_range():
    assert list_range("daily-2025-11-30-2") == [date(2025, 11, 30)]
    assert list_range("range-2025-11-29-2025-12-01-1") == [date(2025, 11, 29), date(2025, 11, 30), date(2025, 12, 1)]


def test_range_is_not_a_run_of_one_date():
    with pytest.raises(UsageError, match="is not a run's name"):
        run_date_of("range-2025-11-01-2025-11-30-1")


def test_range_id_is_valid_in_step_functions():
    name = format_range_id(date(2025, 1, 1), date(9999, 12, 31), 10**9)
    assert len(name) <= 80
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz-0123456789")
