"""Test that publishing is one commit a table and never replaces rows of a newer snapshot."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

import daybook.lake.publish
from daybook.errors import LakeError
from daybook.lake.publish import LakeSnapshot, publish, take_lake_snapshot
from daybook.lake.tables import Lake
from tests.lake.tables import COHORTS, FIRST, PAYMENTS, SECOND, THIRD, failing_reader, landing_rows, payments, read_rows
from tests.lake.writing import replace_date

GOLD = ["gold.payment_mix", "gold.cohort_retention"]


def run(lake: Lake, name: str) -> Lake:
    return Lake(lake.root, run_id=name)


def snapshot(lake: Lake) -> LakeSnapshot:
    """Return a snapshot of a lake whose silver is bronze.orders."""
    return take_lake_snapshot(lake, ["bronze.orders", "bronze.customers"], GOLD, identified_by="bronze.orders")


def later_snapshot(lake: Lake) -> LakeSnapshot:
    """Commit once more and return a snapshot after it."""
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    return snapshot(lake)


def cohort(size: int) -> pa.Table:
    row = {field.name: size if pa.types.is_integer(field.type) else None for field in COHORTS.arrow_schema}
    return pa.Table.from_pylist([row], schema=COHORTS.arrow_schema)


# Publishing a candidate


def test_publishing_replaces_its_dates_and_leaves_others(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2"), (THIRD, "3")), [FIRST, SECOND, THIRD])
    later = Lake(lake.root, run_id="daily-2025-11-02-1")
    assert publish(later, PAYMENTS, payments((SECOND, "20")), [FIRST, SECOND]).committed
    assert read_rows(later, "gold.payment_mix", "order_date", "amount") == [(SECOND, Decimal(20)), (THIRD, Decimal(3))]
    assert later.tables_written == {"gold.payment_mix": later.version("gold.payment_mix")}


def test_run_publishes_a_table_once(lake: Lake) -> None:
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST]).committed
    version = lake.version("gold.payment_mix")
    retry = Lake(lake.root, run_id=lake.run_id)
    assert not publish(retry, PAYMENTS, payments((FIRST, "1")), [FIRST]).committed
    assert retry.version("gold.payment_mix") == version


def test_another_run_publishes_the_same_dates_again(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    assert publish(Lake(lake.root, run_id="daily-2025-11-01-2"), PAYMENTS, payments((FIRST, "2")), [FIRST]).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(2),)]


def test_empty_candidate_removes_rows_of_its_dates(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    publish(Lake(lake.root, run_id="daily-2025-11-02-1"), PAYMENTS, payments(), [SECOND])
    assert read_rows(lake, "gold.payment_mix", "order_date") == [(FIRST,)]


def test_partitioned_table_needs_dates(lake: Lake) -> None:
    assert not publish(lake, PAYMENTS, payments(), []).committed
    assert lake.tables_written == {}


def test_table_without_partitions_is_replaced(lake: Lake) -> None:
    publish(lake, COHORTS, cohort(1), [])
    publish(run(lake, "daily-2025-11-02-1"), COHORTS, cohort(2), [])
    assert read_rows(lake, "gold.cohort_retention", "months_since") == [(2,)]


def test_rows_of_other_dates_are_an_error(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    with pytest.raises(LakeError, match=r"^gold\.payment_mix at .* could not be written: "):
        publish(Lake(lake.root), PAYMENTS, payments((THIRD, "3")), [FIRST])
    assert read_rows(lake, "gold.payment_mix", "order_date", "amount") == [(FIRST, Decimal(1))]


def test_open_dataset_keeps_its_version(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    pinned = lake.dataset("gold.payment_mix")
    publish(Lake(lake.root, run_id="daily-2025-11-01-2"), PAYMENTS, payments((FIRST, "2")), [FIRST])
    assert pinned is not None
    assert pinned.to_table(columns=["amount"]).to_pylist() == [{"amount": Decimal(1)}]


def test_interrupted_write_leaves_the_old_version(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    version = lake.version("gold.payment_mix")

    later = Lake(lake.root, run_id="daily-2025-11-01-2")
    with pytest.raises(LakeError, match="could not be written"):
        publish(later, PAYMENTS, failing_reader(payments((FIRST, "2"))), [FIRST])
    assert lake.version("gold.payment_mix") == version
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]
    assert later.tables_written == {}


def test_retry_after_an_interrupted_write_publishes(lake: Lake) -> None:
    with pytest.raises(LakeError):
        publish(lake, PAYMENTS, failing_reader(payments((FIRST, "1"))), [FIRST])
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST]).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_retry_returns_the_version_of_the_first_try(lake: Lake) -> None:
    at = later_snapshot(lake)
    made = publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], at)
    publish(run(lake, "daily-2025-11-03-1"), PAYMENTS, payments((THIRD, "3")), [THIRD], later_snapshot(lake))
    retry = run(lake, lake.run_id)
    again = publish(retry, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], at)
    assert (again.committed, again.version) == (False, made.version)
    assert retry.tables_written == {"gold.payment_mix": made.version}
    assert made.version != retry.version("gold.payment_mix")


# An older snapshot


def test_dates_of_a_later_snapshot_are_kept(lake: Lake) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10"), (SECOND, "20")), [FIRST, SECOND], newer)
    done = publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2"), (THIRD, "3")), [FIRST, SECOND, THIRD], older)
    assert (done.committed, done.superseded_dates) == (True, [FIRST, SECOND])
    found = read_rows(lake, "gold.payment_mix", "order_date", "amount")
    assert found == [(FIRST, Decimal(10)), (SECOND, Decimal(20)), (THIRD, Decimal(3))]
    retry = publish(run(lake, lake.run_id), PAYMENTS, payments((FIRST, "1")), [FIRST, SECOND, THIRD], older)
    assert retry == (False, done.version, [FIRST, SECOND])


def test_later_snapshot_replaces_an_older_one(lake: Lake) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], older)
    assert publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer).superseded_dates == []
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(10),)]


def test_nothing_is_committed_if_all_dates_are_superseded(lake: Lake) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    made = publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer).version
    done = publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], older)
    assert done == (False, None, [FIRST])
    assert lake.version("gold.payment_mix") == made
    assert "gold.payment_mix" not in lake.tables_written


def test_unpartitioned_table_of_a_later_snapshot_is_kept(lake: Lake) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    publish(run(lake, "daily-2025-11-02-1"), COHORTS, cohort(2), [SECOND], newer)
    assert publish(lake, COHORTS, cohort(1), [FIRST], older) == (False, None, [FIRST])
    assert read_rows(lake, "gold.cohort_retention", "months_since") == [(2,)]


def test_commits_before_the_snapshot_are_replaced(lake: Lake) -> None:
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], later_snapshot(lake))
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], snapshot(lake)).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_new_silver_replaces_gold_of_the_old_lake(lake: Lake) -> None:
    """The sequence numbers of a new lake begin below those of the old one."""
    for _ in range(5):
        former = later_snapshot(lake)
    shutil.rmtree(lake.uri("bronze.orders"))
    later = later_snapshot(lake)
    assert later.sequence_number < former.sequence_number
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], former)
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], later).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_gold_created_after_the_snapshot_is_published_to(lake: Lake) -> None:
    for name in ("daily-2025-11-02-1", "daily-2025-11-02-2"):
        publish(run(lake, name), PAYMENTS, payments((FIRST, "10")), [FIRST])
    at = later_snapshot(lake)
    shutil.rmtree(lake.uri("gold.payment_mix"))
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_missing_commits_in_the_log_are_an_error(lake: Lake, monkeypatch: Any) -> None:
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST])
    at = later_snapshot(lake)
    publish(run(lake, "daily-2025-11-02-2"), PAYMENTS, payments((FIRST, "11")), [FIRST], at)
    monkeypatch.setattr(DeltaTable, "history", lambda delta, limit=None: [])
    with pytest.raises(LakeError, match=r"no longer has all commits since version 1; run the date again from its 4_agg"):
        publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at)
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(11),)]


# Snapshots


def test_snapshot_is_read_until_two_readings_agree(lake: Lake, monkeypatch: Any) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    version, readings = Lake.version, []

    def with_a_writer(self: Lake, table: str) -> Any:
        found = version(self, table)
        readings.append(table)
        if table == "bronze.orders" and readings.count(table) <= 3:
            replace_date(Lake(lake.root), "bronze.orders", landing_rows("a"), SECOND)
            replace_date(Lake(lake.root), "bronze.customers", landing_rows("a"), SECOND)
        return found

    monkeypatch.setattr(Lake, "version", with_a_writer)
    at = snapshot(lake)
    assert at.versions == {"bronze.orders": 4, "bronze.customers": 3}
    assert at.published == dict.fromkeys(GOLD, -1)
    assert readings.count("bronze.orders") == 5


def test_later_snapshot_has_a_greater_sequence_number(lake: Lake) -> None:
    first = snapshot(lake)
    replace_date(lake, "bronze.customers", landing_rows("a"), FIRST)
    second = snapshot(lake)
    third = later_snapshot(lake)
    assert first.sequence_number < second.sequence_number < third.sequence_number
    assert snapshot(lake) == third


# Concurrent publications


def test_delta_rejects_concurrent_transactions_of_an_app(lake: Lake) -> None:
    lake.ensure_table(PAYMENTS)
    mine, yours = DeltaTable(lake.uri("gold.payment_mix")), DeltaTable(lake.uri("gold.payment_mix"))
    bearing = CommitProperties(app_transactions=[Transaction("daybook.publish", 1)])
    write_deltalake(mine, payments((FIRST, "1")), mode="append", commit_properties=bearing)
    with pytest.raises(CommitFailedError):
        write_deltalake(yours, payments((SECOND, "2")), mode="append", commit_properties=bearing)


def test_concurrent_first_publications_do_not_duplicate_rows(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    """Neither replaces a file of the other: Delta detects the conflict by their transactions only."""
    at = later_snapshot(lake)
    overwrite = daybook.lake.publish.overwrite

    def after_another(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(daybook.lake.publish, "overwrite", overwrite)
        publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "2")), [FIRST], at)
        overwrite(*args, **named)

    monkeypatch.setattr(daybook.lake.publish, "overwrite", after_another)
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at).committed
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]
    assert len(waits) == 1


def test_concurrent_newer_publication_keeps_its_dates(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    overwrite = daybook.lake.publish.overwrite

    def after_another(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(daybook.lake.publish, "overwrite", overwrite)
        publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer)
        overwrite(*args, **named)

    monkeypatch.setattr(daybook.lake.publish, "overwrite", after_another)
    assert publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], older).superseded_dates == [FIRST]
    assert read_rows(lake, "gold.payment_mix", "order_date", "amount") == [(FIRST, Decimal(10)), (SECOND, Decimal(2))]


def test_threads_can_publish_dates_of_a_new_table(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]

    def publish_day(day: date) -> bool:
        return publish(Lake(root, run_id=f"daily-{day}-1"), PAYMENTS, payments((day, f"{day.day}")), [day]).committed

    with ThreadPoolExecutor(len(days)) as pool:
        assert list(pool.map(publish_day, days)) == [True] * 4
    assert read_rows(Lake(root), "gold.payment_mix", "order_date", "amount") == [(day, Decimal(day.day)) for day in days]


def test_development_copy_ignores_published_snapshots(lake: Lake) -> None:
    older, newer = later_snapshot(lake), later_snapshot(lake)
    publish(lake, PAYMENTS, payments((FIRST, "10")), [FIRST], newer)
    mine = Lake(lake.root, development="ann")
    for amount in ("1", "2"):
        assert publish(mine, PAYMENTS, payments((FIRST, amount)), [FIRST], older).committed
    assert read_rows(mine, "gold.payment_mix", "amount") == [(Decimal(2),)]
