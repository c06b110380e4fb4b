"""Test that tables of an earlier release work before, during and after their conversion."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import daybook.lake.replace_files
from daybook.errors import LakeError
from daybook.lake.migrate import migrate_table, plan_migration
from daybook.lake.publish import publish
from daybook.lake.rewrite import list_tables
from daybook.lake.tables import Lake
from tests.lake.tables import FIRST, PAYMENTS, SECOND, create_partitioned, landing_rows, payments, read_rows, stored_partitions
from tests.lake.writing import replace_date

SCHEMA = pa.schema([("run_date", pa.date32()), ("value", pa.string())])
DATES = [FIRST + timedelta(days=number) for number in range(5)]
TABLES = ["bronze.orders", "gold.payment_mix", "quarantine.orders"]


@pytest.fixture
def old(lake: Lake) -> Lake:
    """Return a lake of an earlier release, with a partition for each date."""
    for table in ("bronze.orders", "quarantine.orders"):
        create_partitioned(lake, table, SCHEMA)
    create_partitioned(lake, "gold.payment_mix", PAYMENTS.arrow_schema, "order_date")
    for day in DATES:
        for table in ("bronze.orders", "quarantine.orders"):
            replace_date(lake, table, landing_rows(str(day)), day)
        publish(Lake(lake.root, run_id=f"daily-{day}-1"), PAYMENTS, payments((day, "1")), [day])
    return lake


def migrate(lake: Lake, *, back: bool = False) -> list[bool]:
    return [migrate_table(each, back=back) for each in list_tables(lake.root)]


def contents(lake: Lake) -> dict[str, Any]:
    return {table: read_rows(lake, table, "order_date" if table.startswith("gold") else "run_date") for table in TABLES}


def test_tables_with_partitions_keep_them_until_migrated(old: Lake) -> None:
    assert [stored_partitions(old, table) for table in TABLES] == [["run_date"], ["order_date"], ["run_date"]]
    replace_date(old, "bronze.orders", landing_rows("new"), SECOND)
    found = old.dataset("bronze.orders", [SECOND])
    assert found is not None
    assert found.to_table()["value"].to_pylist() == ["new"]
    assert old.run_dates("bronze.orders") == DATES
    assert old.run_dates("gold.payment_mix") == DATES


def test_migrated_tables_have_the_same_rows_in_few_files(old: Lake) -> None:
    before = contents(old)
    assert [(each.table.full_name, each.files_before, each.files_after) for each in plan_migration(old.root)] == [
        (table, 5, 1) for table in TABLES
    ]
    assert migrate(old) == [True, True, True]
    assert contents(old) == before
    assert [stored_partitions(old, table) for table in TABLES] == [[], [], []]
    assert [len(DeltaTable(old.uri(table)).file_uris()) for table in TABLES] == [1, 1, 1]
    assert [old.run_dates(table) for table in TABLES] == [DATES] * 3
    assert plan_migration(old.root) == []


def test_migrated_tables_equal_new_ones(old: Lake, tmp_path: Path) -> None:
    new = Lake(str(tmp_path / "new"))
    replace_date(new, "bronze.orders", landing_rows("a"), FIRST)
    migrate(old)
    replace_date(old, "bronze.orders", landing_rows("a"), FIRST)
    mine, other = (DeltaTable(each.uri("bronze.orders")).metadata().configuration for each in (old, new))
    assert {name: mine[name] for name in other} == other


def test_migration_is_one_commit_and_keeps_the_tables_id(old: Lake) -> None:
    before = old.version("bronze.orders"), old.table_id("bronze.orders")
    migrate(old)
    assert (old.version("bronze.orders"), old.table_id("bronze.orders")) == ((before[0] or 0) + 1, before[1])


def test_earlier_versions_can_be_read_after_a_migration(old: Lake) -> None:
    before = contents(old)
    versions = {table: old.version(table) for table in TABLES}
    migrate(old)
    replace_date(old, "bronze.orders", landing_rows(), SECOND)
    old.pin(versions)
    assert contents(old) == before
    assert old.run_dates("bronze.orders") == DATES


def test_migrated_tables_can_be_written(old: Lake) -> None:
    migrate(old)
    replace_date(old, "bronze.orders", landing_rows("new"), SECOND)
    assert publish(Lake(old.root, run_id="daily-2025-11-02-2"), PAYMENTS, payments((SECOND, "9")), [SECOND]).committed
    assert ("new",) in read_rows(old, "bronze.orders", "value")
    assert len(read_rows(old, "gold.payment_mix")) == 5


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("step", ["_write_file", "_create_entry"])
@pytest.mark.parametrize("back", [False, True])
def test_killed_migration_continues(old: Lake, monkeypatch: pytest.MonkeyPatch, step: str, back: bool) -> None:
    if back:
        migrate(old)
    before, calls = contents(old), []
    proceed = getattr(daybook.lake.replace_files, step)

    def kill(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == (7 if back and step == "_write_file" else 2):
            raise Killed
        return proceed(*args)

    monkeypatch.setattr(daybook.lake.replace_files, step, kill)
    with pytest.raises(Killed):
        migrate(old, back=back)
    monkeypatch.undo()
    assert contents(Lake(old.root)) == before
    assert migrate(old, back=back) == [False, True, True]
    assert contents(Lake(old.root)) == before


def test_migration_back_restores_partitions_and_keeps_later_rows(old: Lake) -> None:
    migrate(old)
    later = date(2025, 12, 1)
    replace_date(old, "bronze.orders", landing_rows("later"), later)
    before = contents(old)
    assert migrate(old, back=True) == [True, True, True]
    assert contents(old) == before
    assert [stored_partitions(old, table) for table in TABLES] == [["run_date"], ["order_date"], ["run_date"]]
    assert old.run_dates("bronze.orders") == [*DATES, later]
    replace_date(old, "bronze.orders", landing_rows("again"), later)
    files = [Path(path).parent.name for path in DeltaTable(old.uri("bronze.orders")).file_uris()]
    assert sorted(files) == [f"run_date={day}" for day in [*DATES, later]]
    assert migrate(old) == [True, True, True]


def test_table_without_rows_is_migrated(lake: Lake) -> None:
    create_partitioned(lake, "bronze.orders", SCHEMA)
    assert migrate(lake) == [True]
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert read_rows(lake, "bronze.orders") == [(FIRST, "a")]


def test_table_changed_meanwhile_is_an_error(old: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daybook.lake.replace_files, "_create_entry", lambda *_: False)
    with pytest.raises(LakeError) as caught:
        migrate(old)
    assert str(caught.value) == ("bronze.orders was changed by another writer during its migration; run the migration again.")
    assert stored_partitions(old, "bronze.orders") == ["run_date"]


def test_large_partition_is_rewritten_alone(old: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook.lake.compaction.COMPACTED_FILE_BYTES", 1)
    before = contents(old)
    migrate(old)
    assert len(DeltaTable(old.uri("bronze.orders")).file_uris()) == 5
    assert contents(old) == before
