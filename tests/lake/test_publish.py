"""Publishing: one commit a table, once a run, and never an older look at silver over a newer one."""

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

GOLD = ["gold.payment_mix", "gold.cohort_retention"]


def run(lake: Lake, name: str) -> Lake:
    return Lake(lake.root, run_id=name)


def look(lake: Lake) -> LakeSnapshot:
    """A snapshot of a lake whose silver is bronze.orders."""
    return take_lake_snapshot(lake, ["bronze.orders", "bronze.customers"], GOLD, identified_by="bronze.orders")


def later_look(lake: Lake) -> LakeSnapshot:
    """One more commit, and a look at the lake after it."""
    lake.replace_partition("bronze.orders", landing_rows("a"), FIRST)
    return look(lake)


def cohort(size: int) -> pa.Table:
    row = {field.name: size if pa.types.is_integer(field.type) else None for field in COHORTS.arrow_schema}
    return pa.Table.from_pylist([row], schema=COHORTS.arrow_schema)


# Publishing a candidate


def test_publishing_replaces_its_dates_and_leaves_others(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2"), (THIRD, "3")), [FIRST, SECOND, THIRD])
    later = Lake(lake.root, run_id="daily-2025-11-02-1")
    assert publish(later, PAYMENTS, payments((SECOND, "20")), [FIRST, SECOND]).made
    assert read_rows(later, "gold.payment_mix", "order_date", "amount") == [(SECOND, Decimal(20)), (THIRD, Decimal(3))]
    assert later.tables_written == {"gold.payment_mix": later.version("gold.payment_mix")}


def test_a_run_publishes_a_table_once(lake: Lake) -> None:
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST]).made
    version = lake.version("gold.payment_mix")
    retry = Lake(lake.root, run_id=lake.run_id)
    assert not publish(retry, PAYMENTS, payments((FIRST, "1")), [FIRST]).made
    assert retry.version("gold.payment_mix") == version


def test_another_run_publishes_the_same_dates_again(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    assert publish(Lake(lake.root, run_id="daily-2025-11-01-2"), PAYMENTS, payments((FIRST, "2")), [FIRST]).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(2),)]


def test_an_empty_candidate_empties_its_dates(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    publish(Lake(lake.root, run_id="daily-2025-11-02-1"), PAYMENTS, payments(), [SECOND])
    assert read_rows(lake, "gold.payment_mix", "order_date") == [(FIRST,)]


def test_a_table_with_dates_is_not_published_without_any(lake: Lake) -> None:
    assert not publish(lake, PAYMENTS, payments(), []).made
    assert lake.tables_written == {}


def test_a_table_without_partitions_is_published_whole(lake: Lake) -> None:
    publish(lake, COHORTS, cohort(1), [])
    publish(run(lake, "daily-2025-11-02-1"), COHORTS, cohort(2), [])
    assert read_rows(lake, "gold.cohort_retention", "months_since") == [(2,)]


def test_rows_outside_the_published_dates_are_refused_and_nothing_changes(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    with pytest.raises(LakeError, match=r"^gold\.payment_mix at .* could not be written: "):
        publish(Lake(lake.root), PAYMENTS, payments((THIRD, "3")), [FIRST])
    assert read_rows(lake, "gold.payment_mix", "order_date", "amount") == [(FIRST, Decimal(1))]


def test_a_reader_of_a_version_goes_on_seeing_it(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    pinned = lake.dataset("gold.payment_mix")
    publish(Lake(lake.root, run_id="daily-2025-11-01-2"), PAYMENTS, payments((FIRST, "2")), [FIRST])
    assert pinned is not None
    assert pinned.to_table(columns=["amount"]).to_pylist() == [{"amount": Decimal(1)}]


def test_a_write_that_breaks_off_in_the_middle_leaves_the_old_version(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    version = lake.version("gold.payment_mix")

    later = Lake(lake.root, run_id="daily-2025-11-01-2")
    with pytest.raises(LakeError, match="could not be written"):
        publish(later, PAYMENTS, failing_reader(payments((FIRST, "2"))), [FIRST])
    assert lake.version("gold.payment_mix") == version
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]
    assert later.tables_written == {}


def test_a_run_that_broke_off_while_publishing_can_publish_on_its_next_try(lake: Lake) -> None:
    with pytest.raises(LakeError):
        publish(lake, PAYMENTS, failing_reader(payments((FIRST, "1"))), [FIRST])
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST]).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_a_next_try_is_told_the_version_that_the_first_one_made(lake: Lake) -> None:
    at = later_look(lake)
    made = publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], at)
    publish(run(lake, "daily-2025-11-03-1"), PAYMENTS, payments((THIRD, "3")), [THIRD], later_look(lake))
    retry = run(lake, lake.run_id)
    again = publish(retry, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], at)
    assert (again.made, again.version) == (False, made.version)
    assert retry.tables_written == {"gold.payment_mix": made.version}
    assert made.version != retry.version("gold.payment_mix")


# An older look at silver


def test_dates_that_a_later_look_has_published_are_left_as_they_are(lake: Lake) -> None:
    older, newer = later_look(lake), later_look(lake)
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10"), (SECOND, "20")), [FIRST, SECOND], newer)
    done = publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2"), (THIRD, "3")), [FIRST, SECOND, THIRD], older)
    assert (done.made, done.left_to_newer) == (True, [FIRST, SECOND])
    found = read_rows(lake, "gold.payment_mix", "order_date", "amount")
    assert found == [(FIRST, Decimal(10)), (SECOND, Decimal(20)), (THIRD, Decimal(3))]
    retry = publish(run(lake, lake.run_id), PAYMENTS, payments((FIRST, "1")), [FIRST, SECOND, THIRD], older)
    assert retry == (False, done.version, [FIRST, SECOND])


def test_a_later_look_publishes_over_an_older_one(lake: Lake) -> None:
    older, newer = later_look(lake), later_look(lake)
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], older)
    assert publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer).left_to_newer == []
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(10),)]


def test_where_all_dates_are_left_nothing_is_committed(lake: Lake) -> None:
    older, newer = later_look(lake), later_look(lake)
    made = publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer).version
    done = publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], older)
    assert done == (False, None, [FIRST])
    assert lake.version("gold.payment_mix") == made
    assert "gold.payment_mix" not in lake.tables_written


def test_a_whole_table_is_left_to_a_later_look(lake: Lake) -> None:
    older, newer = later_look(lake), later_look(lake)
    publish(run(lake, "daily-2025-11-02-1"), COHORTS, cohort(2), [SECOND], newer)
    assert publish(lake, COHORTS, cohort(1), [FIRST], older) == (False, None, [FIRST])
    assert read_rows(lake, "gold.cohort_retention", "months_since") == [(2,)]


def test_what_was_published_before_the_look_is_replaced(lake: Lake) -> None:
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], later_look(lake))
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], look(lake)).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_a_lake_whose_silver_was_begun_anew_publishes_over_the_former(lake: Lake) -> None:
    """Its numbers start again below those of what was published before."""
    for _ in range(5):
        former = later_look(lake)
    shutil.rmtree(lake.uri("bronze.orders"))
    anew = later_look(lake)
    assert anew.number < former.number
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], former)
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], anew).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_gold_begun_anew_after_the_look_is_published_to(lake: Lake) -> None:
    for name in ("daily-2025-11-02-1", "daily-2025-11-02-2"):
        publish(run(lake, name), PAYMENTS, payments((FIRST, "10")), [FIRST])
    at = later_look(lake)
    shutil.rmtree(lake.uri("gold.payment_mix"))
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


def test_a_log_that_lost_who_published_meanwhile_is_told_and_nothing_is_published(lake: Lake, monkeypatch: Any) -> None:
    publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST])
    at = later_look(lake)
    publish(run(lake, "daily-2025-11-02-2"), PAYMENTS, payments((FIRST, "11")), [FIRST], at)
    monkeypatch.setattr(DeltaTable, "history", lambda delta, limit=None: [])
    with pytest.raises(LakeError, match=r"no longer says who published since version 1; run the date again from its 4_agg"):
        publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at)
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(11),)]


# One moment of several tables


def test_a_snapshot_is_read_again_until_nothing_was_written_between_two_readings(lake: Lake, monkeypatch: Any) -> None:
    lake.replace_partition("bronze.orders", landing_rows("a"), FIRST)
    version, readings = Lake.version, []

    def with_a_writer(self: Lake, table: str) -> Any:
        found = version(self, table)
        readings.append(table)
        if table == "bronze.orders" and readings.count(table) <= 3:
            Lake(lake.root).replace_partition("bronze.orders", landing_rows("a"), SECOND)
            Lake(lake.root).replace_partition("bronze.customers", landing_rows("a"), SECOND)
        return found

    monkeypatch.setattr(Lake, "version", with_a_writer)
    at = look(lake)
    assert at.versions == {"bronze.orders": 4, "bronze.customers": 3}
    assert at.published == dict.fromkeys(GOLD, -1)
    assert readings.count("bronze.orders") == 5


def test_later_snapshots_have_greater_numbers_also_where_a_table_is_new(lake: Lake) -> None:
    first = look(lake)
    lake.replace_partition("bronze.customers", landing_rows("a"), FIRST)
    second = look(lake)
    third = later_look(lake)
    assert first.number < second.number < third.number
    assert look(lake) == third


# Publishing at once


def test_delta_refuses_two_commits_at_once_with_transactions_of_one_application(lake: Lake) -> None:
    lake.ensure_table(PAYMENTS)
    mine, yours = DeltaTable(lake.uri("gold.payment_mix")), DeltaTable(lake.uri("gold.payment_mix"))
    bearing = CommitProperties(app_transactions=[Transaction("daybook.publish", 1)])
    write_deltalake(mine, payments((FIRST, "1")), mode="append", commit_properties=bearing)
    with pytest.raises(CommitFailedError):
        write_deltalake(yours, payments((SECOND, "2")), mode="append", commit_properties=bearing)


def test_the_first_two_publications_of_a_table_at_once_leave_each_date_once(
    lake: Lake, waits: list[float], monkeypatch: Any
) -> None:
    """Neither replaces a file of the other, so only their transactions tell Delta that they meet."""
    at = later_look(lake)
    overwrite = daybook.lake.publish.overwrite

    def after_another(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(daybook.lake.publish, "overwrite", overwrite)
        publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "2")), [FIRST], at)
        overwrite(*args, **named)

    monkeypatch.setattr(daybook.lake.publish, "overwrite", after_another)
    assert publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST], at).made
    assert read_rows(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]
    assert len(waits) == 1


def test_a_publication_that_meets_a_newer_one_leaves_its_dates_to_it(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    older, newer = later_look(lake), later_look(lake)
    overwrite = daybook.lake.publish.overwrite

    def after_another(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(daybook.lake.publish, "overwrite", overwrite)
        publish(run(lake, "daily-2025-11-02-1"), PAYMENTS, payments((FIRST, "10")), [FIRST], newer)
        overwrite(*args, **named)

    monkeypatch.setattr(daybook.lake.publish, "overwrite", after_another)
    assert publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND], older).left_to_newer == [FIRST]
    assert read_rows(lake, "gold.payment_mix", "order_date", "amount") == [(FIRST, Decimal(10)), (SECOND, Decimal(2))]


def test_threads_that_publish_different_dates_of_a_new_table_lose_nothing(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]

    def publish_day(day: date) -> bool:
        return publish(Lake(root, run_id=f"daily-{day}-1"), PAYMENTS, payments((day, f"{day.day}")), [day]).made

    with ThreadPoolExecutor(len(days)) as pool:
        assert list(pool.map(publish_day, days)) == [True] * 4
    assert read_rows(Lake(root), "gold.payment_mix", "order_date", "amount") == [(day, Decimal(day.day)) for day in days]


def test_a_development_copy_is_published_to_whatever_others_published(lake: Lake) -> None:
    older, newer = later_look(lake), later_look(lake)
    publish(lake, PAYMENTS, payments((FIRST, "10")), [FIRST], newer)
    mine = Lake(lake.root, development="ann")
    for amount in ("1", "2"):
        assert publish(mine, PAYMENTS, payments((FIRST, amount)), [FIRST], older).made
    assert read_rows(mine, "gold.payment_mix", "amount") == [(Decimal(2),)]
