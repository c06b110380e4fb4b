"""Test that tables are found, rewritten in single commits, and freed of their history."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction, write_deltalake

import daybook.lake.rewrite
from daybook.errors import LakeError, ParamsError, UsageError
from daybook.lake.rewrite import (
    StoredTable,
    list_tables,
    remove_history,
    remove_orphan_files,
    require_no_active_run,
    rewrite_dates,
    rewrite_table,
    upgrade_table,
)
from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.settings import load_settings
from tests.lake.writing import replace_date

FIRST, SECOND = date(2025, 11, 1), date(2025, 11, 2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Write two dates of an entity, the first twice."""
    lake = Lake(str(tmp_path / "lake"), run_id="daily-2025-11-01-1")
    for day, names in ((FIRST, ["old"]), (FIRST, ["ann", "bob"]), (SECOND, ["cid"])):
        replace_date(lake, "bronze.people", pa.table({"name": names}), day)
    return lake


def table_of(lake: Lake) -> StoredTable:
    (table,) = list_tables(lake.root)
    return table


def names(lake: Lake) -> list[str]:
    dataset = lake.dataset("bronze.people")
    assert dataset is not None
    return sorted(dataset.to_table().column("name").to_pylist())


def upper(rows: Any) -> Any:
    """Return the rows with names in capitals."""
    changed = pa.array([name.upper() for name in rows.column("name").to_pylist()], pa.string())
    return rows.set_column(rows.schema.get_field_index("name"), "name", changed)


def test_tables_are_listed_with_their_user(lake: Lake) -> None:
    mine = Lake(lake.root, development="ann")
    replace_date(mine, "bronze.people", pa.table({"name": ["x"]}), SECOND)
    lake.write_candidate("candidate.people", pa.table({"name": ["x"]}))
    found = [(each.full_name, each.development, each.columns) for each in list_tables(lake.root)]
    assert found == [("bronze.people", "", ["run_date", "name"]), ("bronze.people", "ann", ["run_date", "name"])]


def test_missing_lake_has_no_tables(tmp_path: Path) -> None:
    assert list_tables(str(tmp_path / "nothing")) == []
    assert not (tmp_path / "nothing").exists()


def test_table_is_rewritten_in_one_marked_commit(lake: Lake) -> None:
    table = table_of(lake)
    before = table.open().version()
    wrote = [
        rewrite_table(
            table, upper, by="test", done=lambda delta: bool(delta.transaction_version("x")), transaction=Transaction("x", 1)
        )
        for _ in range(2)
    ]
    assert wrote == [True, False]
    assert names(lake) == ["ANN", "BOB", "CID"]
    assert table.open().version() == before + 1
    assert table.open().metadata().partition_columns == []


def test_only_changed_dates_are_written(lake: Lake) -> None:
    table = table_of(lake)

    def change(rows: pa.Table) -> Optional[pa.Table]:
        return upper(rows) if "ann" in rows.column("name").to_pylist() else None

    assert rewrite_dates(table, change, by="test") == 1
    assert names(lake) == ["ANN", "BOB", "cid"]
    assert rewrite_dates(table, upper, by="test", dates={SECOND}) == 1
    assert names(lake) == ["ANN", "BOB", "CID"]


def test_all_rows_of_a_date_can_be_removed(lake: Lake) -> None:
    assert rewrite_dates(table_of(lake), lambda rows: rows.slice(0, 0), by="test", dates={FIRST}) == 1
    assert names(lake) == ["cid"]


def test_conflicting_rewrite_is_repeated(lake: Lake) -> None:
    table = table_of(lake)
    intruded = []

    def change(rows: pa.Table) -> pa.Table:
        if not intruded:
            intruded.append(True)
            replace_date(lake, "bronze.people", pa.table({"name": ["dan"]}), FIRST)
        return upper(rows)

    rewrite_dates(table, change, by="test", dates={FIRST})
    assert names(lake) == ["DAN", "cid"]


def test_remove_history_keeps_the_newest_version(lake: Lake) -> None:
    stray = Path(lake.root) / "bronze" / "people" / "part-of-a-killed-writer.parquet"
    stray.write_bytes(b"old")
    table = table_of(lake)
    rewrite_dates(table, upper, by="test")
    assert remove_history(table) > 3
    assert not stray.exists()
    assert names(lake) == ["ANN", "BOB", "CID"]
    assert len(list(Path(lake.root).rglob("*.parquet"))) == 3  # a file a date, and the checkpoint
    versions = {path.name.split(".")[0] for path in (Path(table.uri) / "_delta_log").glob("0*")}
    assert versions == {f"{table.open().version():020}"}
    replace_date(lake, "bronze.people", pa.table({"name": ["eve"]}), SECOND)
    assert names(lake) == ["ANN", "BOB", "eve"]


def test_remove_history_keeps_transactions(lake: Lake) -> None:
    table = table_of(lake)
    rewrite_table(table, upper, by="test", done=lambda _: False, transaction=Transaction("daybook.key", 7))
    remove_history(table)
    remove_history(table)
    assert DeltaTable(table.uri).transaction_version("daybook.key") == 7


def test_upgraded_table_has_no_raw_values_in_its_log(lake: Lake) -> None:
    table = table_of(lake)
    DeltaTable(table.uri).alter.set_table_properties({"delta.dataSkippingStatsColumns": "run_date,name"})
    # Like an earlier release, which did not set the properties.
    rows = pa.table({"run_date": [SECOND], "name": ["canary"]}).select(DeltaTable(table.uri).schema().to_arrow().names)
    write_deltalake(table.uri, rows, mode="append")
    log = Path(table.uri) / "_delta_log"
    assert any(b"canary" in path.read_bytes() for path in log.iterdir())
    upgrade_table(table)
    rewrite_dates(table, upper, by="test")
    remove_history(table)
    assert not any(word in path.read_bytes() for path in log.iterdir() for word in (b"canary", b"CANARY"))


def test_raw_tables_are_restricted_and_private(lake: Lake) -> None:
    replace_date(lake, "control.dates", pa.table({"n": [1]}), FIRST)
    bronze, control = (DeltaTable(lake.uri(name)).metadata().configuration for name in ("bronze.people", "control.dates"))
    assert bronze["daybook.restricted"] == "true"
    assert "daybook.restricted" not in control
    assert (Path(lake.root) / "bronze").stat().st_mode & 0o777 == 0o700


def test_log_has_no_raw_values_or_pseudonyms(lake: Lake) -> None:
    rows = pa.table({"customer_key": ["canary-key"], "email": ["canary@x.example"], "n": [4711]})
    for name in ("bronze.people", "quarantine.people", "control.erased", "versions.people", "gold.people", "silver.people"):
        replace_date(lake, name, rows, FIRST)
    replace_date(Lake(lake.root, development="ann"), "bronze.people", rows, SECOND)
    logs = {path: path.read_text() for path in Path(lake.root).rglob("_delta_log/*.json")}
    assert len(logs) > 6
    assert not [path for path, text in logs.items() if "canary-key" in text]
    # Only silver has statistics of other columns, because its files are selected by their values.
    assert {path.parts[-4] for path, text in logs.items() if "canary@" in text} == {"silver"}


def test_candidates_and_orphan_files_are_removed(lake: Lake) -> None:
    lake.write_candidate("candidate.people", pa.table({"name": ["x"]}))
    stray = Path(lake.root) / "silver" / "never" / "part-0.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    assert remove_orphan_files(lake.root) >= 3
    assert not stray.exists()
    assert not [path for path in (Path(lake.root) / "candidate").rglob("*") if path.is_file()]
    assert names(lake) == ["ann", "bob", "cid"]


def test_files_beside_the_layers_are_kept(lake: Lake) -> None:
    kept = [Path(lake.root) / name for name in ("pii.key", "archive/history.jsonl", "dev/ann/notes.txt")]
    gone = Path(lake.root) / "dev" / "ann" / "silver" / "never" / "part-0.parquet"
    for path in [*kept, gone]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert remove_orphan_files(lake.root) == 1
    assert [path.exists() for path in [*kept, gone]] == [True, True, True, False]


@pytest.mark.parametrize("key", ["archive", "report", "landing", "pii_key"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_folders_without_a_log_are_not_tables(home: Path, key: str, below: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_settings("local", {key: f"{home}/lake{below}"})
    # Of two equal addresses the one that is declared first is named first.
    inner, outer = (key, "lake") if below or key == "landing" else ("lake", key)
    assert str(caught.value) == (
        f"--set: key {inner!r} is {home}/lake{below}, which is inside {outer!r} ({home}/lake); "
        f"choose separate locations for {inner} and {outer}."
    )
    assert load_settings("local", {key: f"{home}/lake-{key}"})


def test_failed_vacuum_is_a_lake_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise daybook.lake.rewrite.DeltaError("disk is full")

    monkeypatch.setattr(DeltaTable, "vacuum", fail)
    with pytest.raises(LakeError, match=r"bronze\.people at .* could not be vacuumed: disk is full"):
        remove_history(table_of(lake))


def test_run_with_a_locked_date_is_in_progress(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    run_id = archive.start_run(date(2025, 11, 2), {})
    require_no_active_run(archive, "`daybook x`")  # It was lost: nobody works on it.
    with DateLocks(str(tmp_path), [date(2025, 11, 2)]) as lock:
        lock.write_holder(run_id)
        with pytest.raises(UsageError, match=r"The run daily-2025-11-02-1 has not ended, and `daybook x` changes"):
            require_no_active_run(archive, "`daybook x`")
    require_no_active_run(archive, "`daybook x`")
