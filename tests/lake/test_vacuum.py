"""Test that a vacuum keeps the versions in use, removes everything else, and can be interrupted."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.errors import LakeError, UsageError
from daybook.lake.rewrite import list_tables, remove_history
from daybook.lake.tables import Lake
from daybook.lake.vacuum import SAFETY_MARGIN, TableVacuum, VacuumPlan, apply_vacuum, find_resumable_runs, plan_vacuum
from daybook.records.archive import Archive
from tests.conftest import Killed, Killer
from tests.lake.vacuuming import (
    FIRST,
    NOW,
    SECOND,
    age_commit,
    age_file,
    build_rows,
    list_data_files,
    list_files,
    read_version,
    write_rows,
    write_run_record,
)
from tests.lake.writing import replace_date
from tests.sample_records import run_record

TABLE = "bronze.orders"
KEEP = timedelta(days=90)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Write versions 1 to 4 of a date: 200, 100, 50 and 10 days old."""
    lake = Lake(str(tmp_path / "a lake"), run_id="daily-2025-11-01-1")
    for value, days in (("a", 200), ("b", 100), ("c", 50), ("d", 10)):
        write_rows(lake, TABLE, value, days=days)
    return lake


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


def plan(lake: Lake, archive: Archive, keep: timedelta = KEEP) -> VacuumPlan:
    return plan_vacuum(lake.root, archive, keep=keep, at=NOW)


def vacuum(lake: Lake, archive: Archive, keep: timedelta = KEEP) -> VacuumPlan:
    done = plan(lake, archive, keep)
    apply_vacuum(done)
    return done


def only(done: VacuumPlan) -> TableVacuum:
    (removal,) = done.removals
    return removal


def readable(lake: Lake, table: str = TABLE) -> dict[int, list[str]]:
    """Return the readable versions with their values."""
    found = {}
    for version in range(DeltaTable(lake.uri(table)).version() + 1):
        held = read_version(lake.uri(table), version)
        if held is not None:
            found[version] = [row["value"] for row in held]
    return found


# Kept versions and files


def test_newest_and_recorded_versions_are_kept(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=100, read={TABLE: 1})
    write_run_record(archive, days=80, read={TABLE: 2})
    write_run_record(archive, days=70, snapshot={TABLE: 3})
    done = only(vacuum(lake, archive))
    assert (done.kept_versions, done.lost_versions, len(done.files)) == ((2, 3, 4), (), 1)
    assert readable(lake) == {0: [], 2: ["b"], 3: ["c"], 4: ["d"]}


def test_shorter_retention_keeps_fewer_versions(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=80, read={TABLE: 2})
    write_run_record(archive, days=20, read={TABLE: 3})
    assert only(plan(lake, archive, timedelta(days=30))).kept_versions == (3, 4)
    assert only(plan(lake, archive, timedelta(0))).kept_versions == (4,)


def test_newest_versions_of_the_last_day_are_kept(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=200)
    write_rows(lake, TABLE, "e", days=0.9)
    write_rows(lake, TABLE, "f", days=0.1)
    # Version 4 is ten days old and was the newest until now.
    assert only(vacuum(lake, archive)).kept_versions == (4, 5, 6)
    assert readable(lake) == {0: [], 4: ["d"], 5: ["e"], 6: ["f"]}


def test_run_in_progress_keeps_its_versions(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=150, read={TABLE: 1}, outcome="RUNNING")
    write_run_record(archive, days=150, read={TABLE: 2}, outcome="FAILED", run_date=SECOND)
    assert only(plan(lake, archive)).kept_versions == (1, 4)


def test_shared_files_are_kept(lake: Lake, archive: Archive) -> None:
    write_rows(lake, TABLE, "z", days=9, run_date=SECOND)
    write_rows(lake, TABLE, "y", days=8, run_date=SECOND)
    write_run_record(archive, days=1, read={TABLE: 5})
    assert only(vacuum(lake, archive)).kept_versions == (5, 6)
    assert readable(lake) == {0: [], 4: ["d"], 5: ["d", "z"], 6: ["d", "y"]}


def test_versions_of_a_deleted_lake_are_ignored(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1, read={TABLE: 400, "silver.orders": 3})
    assert (only(plan(lake, archive)).kept_versions, only(plan(lake, archive)).lost_versions) == ((4,), ())


def test_removed_versions_are_listed_as_lost(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=80, read={TABLE: 2})
    write_run_record(archive, days=20, read={TABLE: 3})
    vacuum(lake, archive, timedelta(days=30))
    done = only(vacuum(lake, archive))
    assert (done.kept_versions, done.lost_versions, done.files) == ((3, 4), (2,), ())
    remove_history(list_tables(lake.root)[0])
    done = only(vacuum(lake, archive))
    # Removing the history makes two commits; no earlier version is readable.
    assert (done.kept_versions, done.lost_versions, done.files) == ((6,), (2, 3), ())
    assert readable(lake) == {6: ["d"]}


def test_orphan_files_are_removed_after_a_day(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    folder = Path(lake.uri(TABLE))
    old = age_file(folder / "run_date=2025-11-01" / "killed.parquet", 1.1)
    young = age_file(folder / "run_date=2025-11-01" / "being-written.parquet", 0.9)
    hidden = age_file(folder / "_index" / "of.others", 9)
    left = age_file(folder / "_delta_log" / "_commit_0f.json.tmp", 2)
    unfinished = age_file(folder / "_delta_log" / "_commit_1f.json.tmp", 0)
    vacuum(lake, archive)
    assert [each.exists() for each in (old, young, hidden, left, unfinished)] == [False, True, True, False, True]


def test_development_copy_keeps_its_newest_version(lake: Lake, archive: Archive) -> None:
    mine = Lake(lake.root, development="ann")
    write_rows(mine, TABLE, "x", days=20)
    write_rows(mine, TABLE, "y", days=10)
    for version, value in enumerate(("m", "n")):
        mine.write_candidate("candidate.orders", build_rows(value))
        age_commit(mine.uri("candidate.orders"), version, 10 - version)
    write_run_record(archive, days=1, read={TABLE: 1})
    done = {each.table.uri: each for each in vacuum(lake, archive).removals}
    assert done[mine.uri(TABLE)].kept_versions == (DeltaTable(mine.uri(TABLE)).version(),)
    assert read_version(mine.uri(TABLE)) == [{"run_date": FIRST, "value": "y"}]
    assert done[mine.uri("candidate.orders")].kept_versions == (1,)
    assert len(list_data_files(mine.uri("candidate.orders"))) == 1
    assert read_version(mine.uri("candidate.orders")) == [{"value": "n"}]


@pytest.mark.parametrize(
    ("outcome", "days", "again", "stays"),
    [
        ("SUCCEEDED", 1, False, False),
        ("REJECTED", 1, False, False),
        ("FAILED", 1, False, True),
        ("FAILED", 1, True, False),
        ("FAILED", 100, False, False),
        ("RUNNING", 100, False, True),
    ],
)
def test_candidates_of_resumable_runs_are_kept(
    lake: Lake, archive: Archive, outcome: str, days: float, again: bool, stays: bool
) -> None:
    run_id = write_run_record(archive, days=days, outcome=outcome)
    Lake(lake.root, run_id=run_id).write_candidate("candidate.orders", build_rows("x"))
    if again:
        write_run_record(archive, days=0.5, outcome="SUCCEEDED")
    vacuum(lake, archive)
    assert any(name.startswith(f"candidate/{run_id}/") for name in list_files(lake.root)) == stays


@pytest.mark.parametrize(("outcomes", "resumable"), [(("FAILED", "SUCCEEDED"), True), (("SUCCEEDED", "REJECTED"), False)])
def test_range_is_resumable_if_one_of_its_dates_failed(outcomes: tuple[str, str], resumable: bool) -> None:
    range_id, now = "range-2025-11-29-2025-11-30-1", datetime(2025, 12, 1, tzinfo=timezone.utc)
    records = [
        run_record(f"daily-2025-11-{day}-2", outcome, range_id=range_id, started_at="2025-12-01T00:00:00.000Z")
        for day, outcome in zip((29, 30), outcomes)
    ]
    assert find_resumable_runs(records, since=now - timedelta(days=1)) == ({range_id} if resumable else set())


def test_unfinished_tables_are_removed_after_a_day(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    root = Path(lake.root)
    old = [age_file(root / name, 2) for name in ("candidate/interactive/x/part.parquet", "silver/ghost/part.parquet")]
    young = [age_file(root / name, 0.5) for name in ("candidate/interactive/y/part.parquet", "silver/spirit/part.parquet")]
    other = age_file(root / "not-daybooks" / "file", 99)
    assert len(vacuum(lake, archive).orphans) == 2
    assert [each.exists() for each in (*old, *young, other)] == [False, False, True, True, True]


# The log


def test_log_is_removed_up_to_the_needed_checkpoint(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1, read={TABLE: 3})
    DeltaTable(lake.uri(TABLE), version=2).create_checkpoint()
    DeltaTable(lake.uri(TABLE)).create_checkpoint()
    assert len(only(vacuum(lake, archive)).entries) == 2
    assert readable(lake) == {3: ["c"], 4: ["d"]}
    assert only(vacuum(lake, archive)).kept_versions == (3, 4)


def test_writers_do_not_clean_the_log(lake: Lake, archive: Archive) -> None:
    """By default delta-rs removes entries older than 30 days at each checkpoint, every hundred commits."""
    write_until_checkpoint(lake)
    assert 1 in readable(lake)


def test_table_of_an_earlier_release_keeps_its_log(tmp_path: Path, archive: Archive) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for version, value in enumerate(("a", "b")):
        write_deltalake(lake.uri(TABLE), build_rows(value), mode="overwrite")
        age_commit(lake.uri(TABLE), version, 100)
    write_run_record(archive, days=1, read={TABLE: 0})
    vacuum(lake, archive)
    before = int(DeltaTable(lake.uri(TABLE)).version())
    vacuum(lake, archive)
    assert int(DeltaTable(lake.uri(TABLE)).version()) == before == 2
    write_until_checkpoint(lake)
    assert read_version(lake.uri(TABLE), 0) == [{"value": "a"}]


def test_delta_rs_cleans_the_log_by_default(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    write_deltalake(lake.uri(TABLE), build_rows("a"))
    write_until_checkpoint(lake)
    assert read_version(lake.uri(TABLE), 0) is None


def write_until_checkpoint(lake: Lake) -> None:
    """Commit past the next two checkpoints while all earlier entries are 60 days old."""
    uri = lake.uri(TABLE)
    now = datetime.now(timezone.utc)
    row = DeltaTable(uri).to_pyarrow_table().slice(0, 1)
    DeltaTable(uri).alter.set_table_properties({"delta.checkpointInterval": "5"})
    for _ in range(2):
        before = set((Path(uri) / "_delta_log").glob("*.checkpoint.parquet"))
        while set((Path(uri) / "_delta_log").glob("*.checkpoint.parquet")) <= before:
            write_deltalake(uri, row, mode="append")
        for path in (Path(uri) / "_delta_log").glob("*.json"):
            age_commit(uri, int(path.stem), 60, now)
        for path in (Path(uri) / "_delta_log").glob("*.checkpoint.parquet"):
            age_file(path, 60, now)
        write_deltalake(uri, row, mode="append")


# Errors


def test_archive_without_runs_is_an_error(lake: Lake, archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"has no runs, so it is unknown which versions of the tables in .* are in use;"):
        plan(lake, archive)


def test_incomplete_log_is_an_error(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    (Path(lake.uri(TABLE)) / "_delta_log" / f"{2:020d}.json").unlink()
    with pytest.raises(
        LakeError, match=r"The log of bronze.orders at .* is not complete \(an entry before version 3 is missing\)"
    ):
        plan(lake, archive)


def test_newest_version_without_a_file_is_an_error(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    for uri in DeltaTable(lake.uri(TABLE)).file_uris():
        Path(uri.replace("%20", " ")).unlink()
    with pytest.raises(LakeError, match=r"bronze.orders at .* lacks files of its newest version; nothing was removed"):
        plan(lake, archive)


def test_log_with_files_in_other_places_is_an_error(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1, read={TABLE: 3})
    path = Path(lake.uri(TABLE)) / "_delta_log" / f"{4:020d}.json"
    path.write_text(path.read_text().replace('{"add":{"path":"', '{"add":{"path":"s3://elsewhere/'))
    with pytest.raises(LakeError, match="has deletion vectors or files in other places, which Daybook does not write"):
        plan(lake, archive)


def test_unreadable_version_is_named(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1, read={TABLE: 2})
    DeltaTable(lake.uri(TABLE), version=3).create_checkpoint()
    (Path(lake.uri(TABLE)) / "_delta_log" / f"{2:020d}.json").write_text('{"add": nonsense')
    with pytest.raises(LakeError, match=r"^Version 2 of bronze\.orders at .* cannot be read \(.*\); nothing was removed\."):
        plan(lake, archive)


def test_damaged_entry_that_nothing_needs_is_removed(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    DeltaTable(lake.uri(TABLE), version=3).create_checkpoint()
    (Path(lake.uri(TABLE)) / "_delta_log" / f"{1:020d}.json").write_text('{"add": nonsense')
    assert only(vacuum(lake, archive)).kept_versions == (4,)
    assert not (Path(lake.uri(TABLE)) / "_delta_log" / f"{1:020d}.json").exists()


def test_missing_entry_below_a_checkpoint_is_no_error(tmp_path: Path, archive: Archive) -> None:
    lake = Lake(str(tmp_path / "young"), run_id="daily-2025-11-01-1")
    for value in "abcd":
        write_rows(lake, TABLE, value, days=0.1)
    write_run_record(archive, days=1)
    DeltaTable(lake.uri(TABLE), version=3).create_checkpoint()
    (Path(lake.uri(TABLE)) / "_delta_log" / f"{3:020d}.json").unlink()
    assert only(plan(lake, archive)).kept_versions == (3, 4)


def test_timestamps_without_a_zone_are_no_deletion_vectors(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    times = pa.table({"at": pa.array([datetime(2025, 11, 1)], pa.timestamp("us"))})
    write_deltalake(lake.uri("silver.times"), times)
    assert {each.table.full_name for each in plan(lake, archive).removals} == {TABLE, "silver.times"}


# Interruptions


@pytest.fixture
def messy(lake: Lake, archive: Archive) -> Lake:
    """Return a lake with files of every kind to remove."""
    write_run_record(archive, days=1, read={TABLE: 3})
    done = write_run_record(archive, days=1, run_date=SECOND)
    Lake(lake.root, run_id=done).write_candidate("candidate.orders", build_rows("x"))
    DeltaTable(lake.uri(TABLE), version=2).create_checkpoint()
    write_rows(lake, "silver.orders", "s", days=100)
    write_rows(lake, "silver.orders", "t", days=50)
    age_file(Path(lake.root) / "silver" / "ghost" / "part.parquet", 2)
    return lake


def test_interrupted_vacuum_can_be_repeated(messy: Lake, archive: Archive, killer: Killer) -> None:
    copy = f"{messy.root}.copy"
    shutil.copytree(messy.root, copy)
    killer.aim(None)
    vacuum(messy, archive)
    writes, wanted = killer.writes, list_files(messy.root)
    assert writes > 8
    for number in range(1, writes + 1):
        shutil.rmtree(messy.root)
        shutil.copytree(copy, messy.root)
        killer.aim(number)
        with pytest.raises(Killed):
            vacuum(messy, archive)
        killer.aim(None)
        vacuum(messy, archive)
        assert list_files(messy.root) == wanted
        assert readable(messy) == {3: ["c"], 4: ["d"]}


def test_files_written_after_the_plan_are_kept(lake: Lake, archive: Archive) -> None:
    write_run_record(archive, days=1)
    planned = plan(lake, archive)
    write_rows(lake, TABLE, "e", days=5)
    write_rows(lake, TABLE, "f", days=4)
    apply_vacuum(planned)
    assert readable(lake) == {0: [], 4: ["d"], 5: ["e"], 6: ["f"]}


# Random histories


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, int, float]], list[tuple[int, float]], float]:
    """Draw changes (kind, date, days ago, oldest first), runs (version read, days ago) and a retention in days."""
    count = draw(st.integers(2, 9))
    kinds = st.sampled_from(["replace", "replace", "append", "remove", "checkpoint", "clean log"])
    ages = sorted(draw(st.lists(st.sampled_from([0.1, 0.9, 1.1, 5, 20, 40, 80]), min_size=count, max_size=count)), reverse=True)
    changes = [(draw(kinds), draw(st.integers(1, 2)), age) for age in ages]
    runs = draw(st.lists(st.tuples(st.integers(0, count), st.sampled_from([0.5, 3, 30, 70])), min_size=1, max_size=4))
    return changes, runs, draw(st.sampled_from([0, 2, 10, 60, 90]))


@pytest.mark.slow
@settings(max_examples=40)
@given(histories())
def test_kept_versions_are_readable_and_no_other_file_remains(
    history: tuple[list[tuple[str, int, float]], list[tuple[int, float]], float],
) -> None:
    changes, runs, keep = history
    with tempfile.TemporaryDirectory() as folder:
        lake, archive = Lake(f"{folder}/lake", run_id="daily-2025-11-01-1"), Archive(f"{folder}/archive")
        uri = lake.uri(TABLE)
        write_rows(lake, TABLE, "begin", days=85)
        ages = {0: 85.0, 1: 85.0}
        file_ages = dict.fromkeys(list_data_files(uri), 85.0)
        for number, (kind, day, age) in enumerate(changes):
            apply(lake, kind, day, f"v{number}")
            version = int(DeltaTable(uri).version())
            if version not in ages:
                age_commit(uri, version, age)
                ages[version] = age
            file_ages.update(dict.fromkeys(list_data_files(uri) - file_ages.keys(), age))
        for version, age in runs:
            write_run_record(archive, days=age, read={TABLE: version})
        newest = max(ages)
        before = {version: read_version(uri, version) for version in ages}
        needed: dict[int, set[str]] = {version: named(uri, version) for version in ages if before[version] is not None}
        pinned = {version for version, age in runs if age <= keep}
        young = {version for version in ages if version == newest or ages[version + 1] <= SAFETY_MARGIN.days}
        kept = sorted((pinned | young) & needed.keys())
        fresh = {name for name, age in file_ages.items() if age <= SAFETY_MARGIN.days}

        done = only(vacuum(lake, archive, timedelta(days=keep)))

        assert list(done.kept_versions) == kept
        assert {version: read_version(uri, version) for version in kept} == {version: before[version] for version in kept}
        assert read_version(uri) == before[newest]
        assert list_data_files(uri) == fresh.union(*(needed[version] for version in kept))
        assert plan(lake, archive, timedelta(days=keep)).files == 0


def apply(lake: Lake, kind: str, day: int, value: str) -> None:
    uri = lake.uri(TABLE)
    run_date = FIRST if day == 1 else SECOND
    if kind == "replace":
        replace_date(lake, TABLE, build_rows(value), run_date)
    elif kind == "append":
        lake.append(TABLE, build_rows(value), run_date)
    elif kind == "remove":
        lake.delete_rows(TABLE, "value", ["begin", "v0"])
    else:
        delta = DeltaTable(uri)
        delta.create_checkpoint()
        if kind == "clean log":
            for path in (Path(uri) / "_delta_log").glob("0*"):
                if int(path.name.split(".")[0]) < int(delta.version()):
                    path.unlink()


def named(uri: str, version: int) -> set[str]:
    """Return the files of a version according to deltalake, relative to the table."""
    actions: Any = DeltaTable(uri, version=version).file_uris()
    return {name[len(uri) + 1 :] for name in actions}
