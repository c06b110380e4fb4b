"""Test which files a compaction combines, their order and statistics, and concurrent commits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import daybook.lake.compaction
from daybook.lake.compaction import COMPACTION_MIN_FILES
from daybook.lake.layout import list_data_files
from daybook.lake.publish import publish
from daybook.lake.replace_files import replace_files
from daybook.lake.tables import Lake
from tests.lake.tables import FIRST, PAYMENTS, SECOND, create_partitioned, landing_rows, payments, read_rows
from tests.lake.test_tables import grown
from tests.lake.writing import replace_date

TABLE = "bronze.orders"
DATES = [FIRST + timedelta(days=number) for number in range(COMPACTION_MIN_FILES)]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """Return a lake with a table of as many files as are combined, written in descending order of dates."""
    for day in reversed(DATES):
        replace_date(lake, TABLE, landing_rows(str(day)), day)
    return lake


def last_entry(lake: Lake, table: str = TABLE) -> list[dict[str, Any]]:
    newest = max((Path(lake.uri(table)) / "_delta_log").glob("*.json"))
    return [json.loads(line) for line in newest.read_text().splitlines()]


def test_rows_are_sorted_by_date(filled: Lake) -> None:
    assert filled.compact(TABLE)
    (file,) = list_data_files(DeltaTable(filled.uri(TABLE)))
    assert (file.first, file.last) == (DATES[0], DATES[-1])
    assert pq.read_table(Path(filled.uri(TABLE)) / file.path)["run_date"].to_pylist() == DATES


def test_compaction_changes_no_data(filled: Lake) -> None:
    before = read_rows(filled, TABLE)
    filled.compact(TABLE)
    actions = [each.get("add") or each.get("remove") for each in last_entry(filled)]
    assert [each["dataChange"] for each in actions if each] == [False] * (COMPACTION_MIN_FILES + 1)
    assert read_rows(filled, TABLE) == before
    assert DeltaTable(filled.uri(TABLE)).history(1)[0]["daybook_run_id"] == filled.run_id


def test_compacted_table_has_a_checkpoint(filled: Lake) -> None:
    filled.compact(TABLE)
    version = filled.version(TABLE)
    assert (Path(filled.uri(TABLE)) / "_delta_log" / f"{version:020d}.checkpoint.parquet").exists()


def test_gold_is_compacted_from_four_files_on(lake: Lake) -> None:
    for number, day in enumerate(DATES[:4], start=1):
        publish(Lake(lake.root, run_id=f"daily-{day}-1"), PAYMENTS, payments((day, "1")), [day])
        assert lake.compact("gold.payment_mix") == (number == 4)
    assert len(DeltaTable(lake.uri("gold.payment_mix")).file_uris()) == 1


def test_files_are_combined_up_to_the_size(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(each.size for each in list_data_files(DeltaTable(filled.uri(TABLE))))
    monkeypatch.setattr(daybook.lake.compaction, "COMPACTED_FILE_BYTES", 3 * size)
    assert filled.compact(TABLE)
    files = sorted(list_data_files(DeltaTable(filled.uri(TABLE))), key=lambda each: str(each.first))
    assert 1 < len(files) < COMPACTION_MIN_FILES
    assert all(one.last < other.first for one, other in zip(files, files[1:]) if one.last and other.first)


def test_partitions_are_not_compacted(lake: Lake) -> None:
    create_partitioned(lake, TABLE, pa.schema([("run_date", pa.date32()), ("value", pa.string())]))
    for day in DATES:
        replace_date(lake, TABLE, landing_rows("a"), day)
    assert not lake.compact(TABLE)


def test_written_tables_are_compacted_without_candidates(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    asked: list[str] = []
    monkeypatch.setattr(Lake, "compact", lambda _, table: asked.append(table))
    filled.compact_written_tables()
    assert asked == [TABLE]


def test_commit_of_another_writer_is_kept(filled: Lake, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: Any, **options: Any) -> bool:
        replace_date(Lake(root, run_id="daily-2025-11-02-1"), TABLE, landing_rows("other"), SECOND)
        return replace_files(*args, **options)

    monkeypatch.setattr(daybook.lake.compaction, "replace_files", late)
    before = set(Path(filled.uri(TABLE)).glob("*.parquet"))
    assert not filled.compact(TABLE)
    assert len(set(Path(filled.uri(TABLE)).glob("*.parquet")) - before) == 1
    assert (SECOND, "other") in read_rows(filled, TABLE)


def test_writer_repeats_after_a_compaction(filled: Lake, root: str, waits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, overwrite = Lake(root, run_id="daily-2025-11-02-1"), daybook.lake.tables.overwrite

    def late(*args: Any) -> None:
        filled.compact(TABLE)
        overwrite(*args)

    monkeypatch.setattr(daybook.lake.tables, "overwrite", late)
    replace_date(writer, TABLE, landing_rows("new"), SECOND)
    assert [value for day, value in read_rows(writer, TABLE) if day == SECOND] == ["new"]
    assert len(read_rows(writer, TABLE)) == COMPACTION_MIN_FILES


def test_failed_write_leaves_no_files(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"run_date": pa.array([date(2025, 1, 1)]), "value": ["a"]})
        raise ValueError("unreadable")

    monkeypatch.setattr(daybook.lake.compaction, "read_sorted", fail)
    before = set(Path(filled.uri(TABLE)).glob("*.parquet"))
    with pytest.raises(ValueError, match="unreadable"):
        filled.compact(TABLE)
    assert set(Path(filled.uri(TABLE)).glob("*.parquet")) == before


def test_statistics_equal_deltalakes(lake: Lake) -> None:
    grown(lake, COMPACTION_MIN_FILES)
    table = "silver.order_items"
    lake.compact(table)
    actions = pa.table(DeltaTable(lake.uri(table)).get_add_actions(flatten=True)).to_pylist()
    assert len(actions) == 1
    before = DeltaTable(lake.uri(table), version=COMPACTION_MIN_FILES)
    earlier = pa.table(before.get_add_actions(flatten=True)).to_pylist()
    for name in ("order_id", "landed_on", "version_at"):
        assert actions[0][f"min.{name}"] == min(each[f"min.{name}"] for each in earlier)
        assert actions[0][f"max.{name}"] == max(each[f"max.{name}"] for each in earlier)
        assert actions[0][f"null_count.{name}"] == 0
