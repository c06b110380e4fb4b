"""Test that dates select files, and that any sequence of writes gives the rows of a model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

import daybook.lake.compaction
from daybook.lake.layout import dates_predicate, list_data_files
from daybook.lake.migrate import migrate_table
from daybook.lake.rewrite import list_tables
from daybook.lake.tables import Lake
from tests.lake.tables import FIRST, SECOND, THIRD, create_partitioned, landing_rows, read_rows, stored_partitions
from tests.lake.writing import replace_date

TABLE = "bronze.orders"
SCHEMA = pa.schema([("run_date", pa.date32()), ("value", pa.string())])
DATES = [FIRST + timedelta(days=number) for number in range(8)]


def dated_rows(rows: dict[date, Sequence[str]]) -> pa.Table:
    listed = [{"run_date": day, "value": value} for day, values in rows.items() for value in values]
    return pa.Table.from_pylist(listed, SCHEMA)


def rows_of(lake: Lake, day: date) -> list[str]:
    found = lake.dataset(TABLE, [day])
    return [] if found is None else sorted(found.to_table()["value"].to_pylist())


def file_paths(lake: Lake, table: str = TABLE) -> set[str]:
    return {each.path for each in list_data_files(DeltaTable(lake.uri(table)))}


STEPS = st.one_of(
    st.tuples(st.just("replace"), st.dictionaries(st.sampled_from(DATES), st.lists(st.text("abc", max_size=2), max_size=3))),
    st.tuples(st.just("append"), st.dictionaries(st.sampled_from(DATES), st.lists(st.text("abc", max_size=2)), max_size=1)),
    st.tuples(st.sampled_from(["compact", "migrate", "migrate back"]), st.just({})),
)


@settings(max_examples=25, deadline=None)
@given(partitioned=st.booleans(), steps=st.lists(STEPS, min_size=1, max_size=12))
def test_any_writes_give_the_rows_of_a_model(partitioned: bool, steps: list[tuple[str, dict[date, list[str]]]]) -> None:
    with TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(daybook.lake.compaction, "COMPACTION_MIN_FILES", 2)
        lake, model = Lake(root, run_id="daily-2025-11-01-1"), {day: list[str]() for day in DATES}
        if partitioned:
            create_partitioned(lake, TABLE, SCHEMA)
        lake.replace_dates(TABLE, dated_rows({}), [FIRST])
        for name, rows in steps:
            if name == "replace":
                lake.replace_dates(TABLE, dated_rows(rows), list(rows))
                model.update(rows)
            elif name == "append":
                for day, values in rows.items():
                    lake.append(TABLE, landing_rows(*values), day)
                    model[day] = model[day] + values
            elif name == "compact":
                lake.compact(TABLE)
            else:
                migrate_table(list_tables(root)[0], back=name == "migrate back")
        assert {day: rows_of(lake, day) for day in DATES} == {day: sorted(values) for day, values in model.items()}
        assert lake.run_dates(TABLE) == [day for day in DATES if model[day]]
        assert len(read_rows(lake, TABLE)) == sum(map(len, model.values()))


def test_new_tables_have_no_partitions(lake: Lake) -> None:
    replace_date(lake, TABLE, landing_rows("a"), FIRST)
    assert stored_partitions(lake, TABLE) == []


def test_replaced_date_rewrites_only_files_that_hold_it(lake: Lake) -> None:
    for days in ([FIRST, THIRD], [DATES[4], DATES[5]]):
        lake.replace_dates(TABLE, dated_rows({day: [str(day)] for day in days}), days)
    before = file_paths(lake)
    replace_date(lake, TABLE, landing_rows("between"), SECOND)
    assert before < file_paths(lake)
    replace_date(lake, TABLE, landing_rows("again"), FIRST)
    assert len(before & file_paths(lake)) == 1
    assert [rows_of(lake, day) for day in DATES[:3]] == [["again"], ["between"], [str(THIRD)]]


def test_file_of_other_dates_is_not_read(lake: Lake) -> None:
    for day in (FIRST, SECOND):
        replace_date(lake, TABLE, landing_rows(str(day)), day)
    (other,) = lake.list_files(TABLE, [SECOND])
    (Path(lake.uri(TABLE)) / other).unlink()
    assert rows_of(lake, FIRST) == [str(FIRST)]
    assert lake.run_dates(TABLE) == [FIRST, SECOND]


def test_dates_of_a_file_with_several_are_those_of_its_rows(lake: Lake) -> None:
    lake.replace_dates(TABLE, dated_rows({FIRST: ["a"], THIRD: ["c"]}), [FIRST, THIRD])
    assert lake.run_dates(TABLE) == [FIRST, THIRD]
    assert rows_of(lake, SECOND) == []
    assert len(lake.list_files(TABLE, [SECOND])) == 1


def test_file_without_statistics_can_hold_any_date(lake: Lake) -> None:
    replace_date(lake, TABLE, landing_rows("a"), FIRST)
    DeltaTable(lake.uri(TABLE)).alter.set_table_properties({"delta.dataSkippingStatsColumns": "value"})
    lake.append(TABLE, landing_rows("b"), SECOND)
    assert lake.run_dates(TABLE) == [FIRST, SECOND]
    assert [rows_of(lake, day) for day in (FIRST, SECOND)] == [["a"], ["b"]]
    replace_date(lake, TABLE, landing_rows("c"), SECOND)
    assert [rows_of(lake, day) for day in (FIRST, SECOND)] == [["a"], ["c"]]


@pytest.mark.parametrize("days", [[FIRST], [THIRD, FIRST], DATES])
def test_predicate_has_bounds_and_dates(days: list[date]) -> None:
    predicate = dates_predicate("run_date", days)
    assert all(repr(day.isoformat()) in predicate for day in days)
    assert (f"run_date >= '{min(days)}'" in predicate) == (len(days) > 1)


@pytest.mark.parametrize("partitioned", [False, True])
def test_concurrent_writers_lose_no_date(root: str, partitioned: bool, waits: Any) -> None:
    lake = Lake(root)
    if partitioned:
        create_partitioned(lake, TABLE, SCHEMA)
    lake.replace_dates(TABLE, dated_rows({day: ["old"] for day in DATES}), DATES)

    def write(day: date) -> None:
        own = Lake(root)
        replace_date(own, TABLE, landing_rows(f"new {day}"), day)
        own.compact(TABLE)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, DATES))
    assert [rows_of(lake, day) for day in DATES] == [[f"new {day}"] for day in DATES]
