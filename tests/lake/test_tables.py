"""Test that partitions are replaced, versions are pinned, and concurrent commits do not lose rows."""

from __future__ import annotations

import itertools
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

import daybook.lake.tables
from daybook.contracts import load_table
from daybook.errors import LakeError
from daybook.lake.compaction import COMPACTION_MIN_FILES
from daybook.lake.delta import TableCache
from daybook.lake.layout import find_stored_date_column
from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import Lake
from tests.lake.tables import (
    CUSTOMERS,
    FIRST,
    PAYMENTS,
    PRODUCTS,
    SECOND,
    THIRD,
    Version,
    customers,
    landing_rows,
    list_files,
    payments,
    products,
    read_rows,
)
from tests.lake.writing import replace_date


def conflicting(action: Any, times: int) -> Any:
    """Return ``action`` with a conflict in the first ``times`` calls."""
    tries = itertools.count(1)

    def act(*args: Any, **named: Any) -> Any:
        if next(tries) <= times:
            raise CommitFailedError("Commit failed: a concurrent transaction added new data.\nHelp: run it again.")
        return action(*args, **named)

    return act


# Names and versions


@pytest.mark.parametrize("name", ["orders", "brass.orders", "silver.", ""])
def test_name_without_a_known_layer_is_an_error(lake: Lake, name: str) -> None:
    with pytest.raises(LakeError) as caught:
        lake.uri(name)
    assert str(caught.value) == (
        f"{name!r} is not a table name; write layer.name, where layer is one of: "
        "bronze, versions, silver, gold, quarantine, candidate, control."
    )


def test_missing_table_has_no_version_rows_or_partitions(lake: Lake) -> None:
    assert (lake.exists("bronze.orders"), lake.version("bronze.orders")) == (False, None)
    assert lake.dataset("bronze.orders") is None
    assert lake.run_dates("bronze.orders") == []
    assert lake.tables_read == {}


def test_tables_lists_stored_tables_and_contracts(lake: Lake) -> None:
    replace_date(lake, "bronze.shelves", landing_rows("a"), FIRST)
    lake.write_candidate("candidate.daily_sales", landing_rows("a"))
    found = lake.tables()
    assert "bronze.shelves" in found
    assert "silver.orders" in found
    assert "gold.daily_sales" in found
    assert not [name for name in found if name.startswith("candidate.")]


def test_reading_records_the_version(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    reader = Lake(lake.root)
    reader.dataset("bronze.orders")
    assert reader.tables_read == {"bronze.orders": 1}
    assert reader.tables_written == {}


def test_writing_records_the_version(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    replace_date(lake, "bronze.orders", landing_rows("b"), SECOND)
    assert lake.tables_written == {"bronze.orders": 2}
    assert lake.tables_read == {}


def test_recorded_version_is_that_of_the_own_commit(lake: Lake, monkeypatch: Any) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    overwrite = daybook.lake.tables.overwrite

    def then_another(*args: Any, **named: Any) -> None:
        overwrite(*args, **named)
        monkeypatch.setattr(daybook.lake.tables, "overwrite", overwrite)
        replace_date(Lake(lake.root), "bronze.orders", landing_rows("c"), THIRD)

    monkeypatch.setattr(daybook.lake.tables, "overwrite", then_another)
    replace_date(lake, "bronze.orders", landing_rows("b"), SECOND)
    assert lake.tables_written == {"bronze.orders": 2}
    assert lake.version("bronze.orders") == 3


def test_commits_name_the_run(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    newest = DeltaTable(lake.uri("bronze.orders")).history(1)[0]
    assert newest["daybook_run_id"] == "daily-2025-11-01-1"


@pytest.mark.parametrize("folder", ["my shop", "Größe", "100%", "no #1", "it's + more"])
def test_lake_folder_can_have_any_name(tmp_path: Path, folder: str) -> None:
    lake = Lake(str(tmp_path / folder))
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1)), dates=[FIRST])
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]
    assert read_rows(lake, "silver.products", "name") == [("Ant",)]


# Replacing a partition


def test_replacing_a_date_keeps_other_dates(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a", "b"), FIRST)
    replace_date(lake, "bronze.orders", landing_rows("c"), SECOND)
    replace_date(lake, "bronze.orders", landing_rows("d"), FIRST)
    assert read_rows(lake, "bronze.orders", "run_date", "value") == [(FIRST, "d"), (SECOND, "c")]


def test_replacing_a_date_is_idempotent(lake: Lake) -> None:
    for _ in range(2):
        replace_date(lake, "bronze.orders", landing_rows("a", "a"), FIRST)
    assert read_rows(lake, "bronze.orders", "run_date", "value") == [(FIRST, "a"), (FIRST, "a")]


def test_replacing_dates_is_one_commit_and_keeps_other_dates(lake: Lake) -> None:
    for day in (FIRST, SECOND, THIRD):
        replace_date(lake, "bronze.orders", landing_rows("a", "b"), day)
    before = lake.version("bronze.orders")
    rows = landing_rows("c")
    lake.replace_dates("bronze.orders", rows.add_column(0, "run_date", pa.array([SECOND], pa.date32())), [FIRST, SECOND])
    assert lake.version("bronze.orders") == (before or 0) + 1
    assert read_rows(lake, "bronze.orders", "run_date", "value") == [(SECOND, "c"), (THIRD, "a"), (THIRD, "b")]


def test_replacing_a_date_with_no_rows_removes_its_rows(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    replace_date(lake, "bronze.orders", landing_rows("b"), SECOND)
    replace_date(lake, "bronze.orders", landing_rows(), SECOND)
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]
    assert lake.run_dates("bronze.orders") == [FIRST]


def test_table_can_be_created_without_rows(lake: Lake) -> None:
    replace_date(lake, "quarantine.orders", landing_rows(), FIRST)
    assert lake.exists("quarantine.orders")
    replace_date(lake, "quarantine.orders", landing_rows("a"), SECOND)
    assert read_rows(lake, "quarantine.orders", "run_date", "value") == [(SECOND, "a")]


def test_new_column_is_null_in_older_rows(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    replace_date(lake, "bronze.orders", landing_rows("b").append_column("coupon", pa.array(["X"])), SECOND)
    assert read_rows(lake, "bronze.orders", "value", "coupon") == [("a", None), ("b", "X")]


def test_rows_get_the_date_that_they_replace(lake: Lake) -> None:
    rows = landing_rows("a").append_column("run_date", pa.array([THIRD]))
    replace_date(lake, "bronze.orders", rows, FIRST)
    assert read_rows(lake, "bronze.orders", "run_date", "value") == [(FIRST, "a")]


def test_partitions_are_sorted_dates(lake: Lake) -> None:
    for day in (THIRD, FIRST, SECOND):
        replace_date(lake, "bronze.orders", landing_rows("a"), day)
    assert lake.run_dates("bronze.orders") == [FIRST, SECOND, THIRD]


def test_dataset_of_a_date_has_its_rows_and_files(lake: Lake) -> None:
    assert (lake.dataset("bronze.orders", [FIRST]), lake.list_files("bronze.orders", [FIRST])) == (None, frozenset())
    for day in (FIRST, SECOND):
        replace_date(lake, "bronze.orders", landing_rows(f"of {day}"), day)
    found = lake.dataset("bronze.orders", [SECOND])
    assert found is not None
    assert found.to_table()["value"].to_pylist() == [f"of {SECOND}"]
    before = lake.list_files("bronze.orders", [SECOND])
    replace_date(lake, "bronze.orders", landing_rows("another"), FIRST)
    assert lake.list_files("bronze.orders", [SECOND]) == before
    replace_date(lake, "bronze.orders", landing_rows("another"), SECOND)
    assert not lake.list_files("bronze.orders", [SECOND]) & before


def test_unpartitioned_table_is_read_as_a_whole(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "a", 1)), dates=[FIRST])
    found = lake.dataset("silver.products", [SECOND])
    assert found is not None
    assert found.count_rows() == len(lake.list_files("silver.products", [SECOND])) == 1


def test_threads_can_replace_dates_of_a_new_table(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(8)]
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(lambda day: replace_date(Lake(root), "bronze.orders", landing_rows(f"{day}"), day), days))
    assert read_rows(Lake(root), "bronze.orders", "run_date", "value") == [(day, f"{day}") for day in days]


def test_processes_can_replace_different_dates(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        under_way = [pool.submit(replace_date, Lake(root), "bronze.orders", landing_rows(f"{day}"), day) for day in days]
        assert [each.result() for each in under_way] == [None] * 4
    assert read_rows(Lake(root), "bronze.orders", "run_date", "value") == [(day, f"{day}") for day in days]


def test_concurrent_writers_can_create_a_table(lake: Lake, monkeypatch: Any) -> None:
    create = DeltaTable.create

    def second(*args: Any, **named: Any) -> None:
        create(*args, **named)
        create(*args, **{**named, "mode": "error"})  # what the slower of two writers meets

    monkeypatch.setattr(DeltaTable, "create", second)
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]


def test_update_changes_only_rows_that_differ(lake: Lake) -> None:
    merge(lake, CUSTOMERS, customers(FIRST, "a", "b"), dates=[FIRST])
    merge(lake, CUSTOMERS, customers(SECOND, "c"), dates=[SECOND])
    lake.update_column(CUSTOMERS, customers(FIRST, "a", "b", first=FIRST), "first_order_date")
    lake.update_column(CUSTOMERS, customers(SECOND, "c", first=SECOND), "first_order_date")
    values = customers(FIRST, "a", "c", "unknown", first=FIRST)
    assert lake.update_column(CUSTOMERS, values, "first_order_date") == 1
    assert read_rows(lake, "silver.customers", "customer_key", "first_order_date") == [("a", FIRST), ("b", FIRST), ("c", FIRST)]


def test_update_of_an_empty_table_changes_nothing(lake: Lake) -> None:
    assert lake.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date") == 0


def test_append_keeps_earlier_rows_of_the_date(lake: Lake) -> None:
    lake.append("control.notes", landing_rows("a"), FIRST)
    lake.append("control.notes", landing_rows("b"), FIRST)
    lake.append("control.notes", landing_rows("c").append_column("by", pa.array(["Ann"])), SECOND)
    assert read_rows(lake, "control.notes", "run_date", "value") == [(FIRST, "a"), (FIRST, "b"), (SECOND, "c")]


def test_delete_keeps_rows_with_other_values(lake: Lake) -> None:
    lake.append("control.notes", landing_rows("a", "it's", "c"), FIRST)
    lake.delete_rows("control.notes", "value", ["a", "it's", "never there"])
    lake.delete_rows("control.notes", "value", [])
    lake.delete_rows("control.not_there", "value", ["a"])
    assert read_rows(lake, "control.notes", "value") == [("c",)]


# Reading at a pinned version


def test_pinned_table_is_read_at_its_version(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    version = lake.version("bronze.orders")
    replace_date(lake, "bronze.orders", landing_rows("b"), SECOND)
    replace_date(lake, "bronze.customers", landing_rows("c"), FIRST)
    lake.pin({"bronze.orders": version})
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]
    assert lake.tables_read["bronze.orders"] == version == lake.version("bronze.orders")
    assert lake.run_dates("bronze.orders") == [FIRST]
    assert read_rows(lake, "bronze.customers", "value") == [("c",)]


def test_table_pinned_to_none_does_not_exist(lake: Lake) -> None:
    lake.pin({"bronze.orders": None})
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert (lake.exists("bronze.orders"), lake.dataset("bronze.orders")) == (False, None)


def test_pinning_replaces_earlier_pins(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    lake.pin({"bronze.orders": None})
    lake.pin({})
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]


def test_pinned_table_can_be_written(lake: Lake) -> None:
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    lake.pin({"bronze.orders": lake.version("bronze.orders")})
    replace_date(lake, "bronze.orders", landing_rows("b"), SECOND)
    assert read_rows(Lake(lake.root), "bronze.orders", "value") == [("a",), ("b",)]
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]


def test_recreated_table_has_another_id(lake: Lake) -> None:
    assert lake.table_id("bronze.orders") == ""
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    first = lake.table_id("bronze.orders")
    replace_date(lake, "bronze.orders", landing_rows("b"), FIRST)
    assert lake.table_id("bronze.orders") == first
    shutil.rmtree(lake.uri("bronze.orders"))
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert lake.table_id("bronze.orders") not in ("", first)


def test_candidate_is_visible_to_its_run_only(lake: Lake) -> None:
    lake.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    other = Lake(lake.root, run_id="daily-2025-11-01-2")
    assert lake.exists("candidate.payment_mix")
    assert not other.exists("candidate.payment_mix")
    assert not other.exists("gold.payment_mix")


def test_second_candidate_replaces_the_first(lake: Lake) -> None:
    lake.write_candidate("candidate.payment_mix", landing_rows("a"))
    lake.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    assert read_rows(lake, "candidate.payment_mix", "amount") == [(Decimal(1),)]
    assert lake.tables_written == {"candidate.payment_mix": 1}


def test_drop_candidates_drops_those_of_the_run_only(lake: Lake) -> None:
    other = Lake(lake.root, run_id="daily-2025-11-01-2")
    for each in (lake, other):
        each.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    assert lake.drop_candidates() > 0
    assert not lake.exists("candidate.payment_mix")
    assert other.exists("candidate.payment_mix")
    assert lake.drop_candidates() == 0


# Conflicts


def test_waits_between_tries_increase(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(daybook.lake.tables, "overwrite", conflicting(daybook.lake.tables.overwrite, 3))
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert len(waits) == 3
    assert waits == sorted(set(waits))
    assert read_rows(lake, "bronze.orders", "value") == [("a",)]


def test_ten_conflicts_are_a_lake_error(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(daybook.lake.tables, "overwrite", conflicting(None, 99))
    with pytest.raises(LakeError) as caught:
        replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    assert str(caught.value) == (
        "bronze.orders was changed by another writer during each of 10 tries to commit "
        "(Commit failed: a concurrent transaction added new data); run it again."
    )
    assert len(waits) == 9


# The development copy


@pytest.fixture
def published(lake: Lake) -> Lake:
    """Return a lake with one published table of each kind."""
    replace_date(lake, "bronze.orders", landing_rows("a"), FIRST)
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1)), dates=[FIRST])
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    return lake


def test_development_copy_reads_published_rows_until_it_writes(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    assert read_rows(mine, "bronze.orders", "value") == [("a",)]
    replace_date(published, "bronze.orders", landing_rows("b"), FIRST)
    assert read_rows(mine, "bronze.orders", "value") == [("b",)]


def test_development_copy_begins_with_the_published_rows(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    replace_date(mine, "bronze.orders", landing_rows("mine"), SECOND)
    merge(mine, PRODUCTS, products(SECOND, Version("b", "Bee", 1)), dates=[SECOND])
    publish(mine, PAYMENTS, payments((SECOND, "20")), [SECOND])
    assert read_rows(mine, "bronze.orders", "value") == [("a",), ("mine",)]
    assert read_rows(mine, "silver.products", "name") == [("Ant",), ("Bee",)]
    assert read_rows(mine, "gold.payment_mix", "amount") == [(Decimal(1),), (Decimal(20),)]


def test_development_copy_ignores_later_publications(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    replace_date(mine, "bronze.orders", landing_rows("mine"), SECOND)
    replace_date(published, "bronze.orders", landing_rows("newer"), FIRST)
    assert read_rows(mine, "bronze.orders", "value") == [("a",), ("mine",)]


def test_development_copy_does_not_change_published_files(published: Lake) -> None:
    root = Path(published.root)
    before = list_files(root)
    mine = Lake(published.root, development="ann")
    replace_date(mine, "bronze.orders", landing_rows("mine"), FIRST)
    replace_date(mine, "control.stale_dates", landing_rows("new"), FIRST)
    merge(mine, PRODUCTS, products(FIRST), dates=[FIRST])
    merge(mine, CUSTOMERS, customers(FIRST, "a"), dates=[FIRST])
    mine.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date")
    mine.write_candidate("candidate.payment_mix", payments((FIRST, "9")))
    publish(mine, PAYMENTS, payments((FIRST, "9")), [FIRST])
    others = {path: changed for path, changed in list_files(root).items() if root / "dev" / "ann" not in path.parents}
    assert others == before


def test_update_of_a_development_copy_keeps_published_rows(published: Lake) -> None:
    merge(published, CUSTOMERS, customers(FIRST, "a", "b"), dates=[FIRST])
    mine = Lake(published.root, development="ann")
    assert mine.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date") == 1
    assert read_rows(mine, "silver.customers", "customer_key", "first_order_date") == [("a", FIRST), ("b", None)]
    assert read_rows(published, "silver.customers", "first_order_date") == [(None,), (None,)]


def test_development_copies_of_two_users_are_separate(published: Lake) -> None:
    mine, yours = Lake(published.root, development="ann"), Lake(published.root, development="bob")
    replace_date(mine, "bronze.orders", landing_rows("mine"), FIRST)
    assert read_rows(yours, "bronze.orders", "value") == [("a",)]


def test_development_copy_can_be_published_repeatedly(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    for amount in ("5", "6"):
        assert publish(mine, PAYMENTS, payments((FIRST, amount)), [FIRST]).committed
    assert read_rows(mine, "gold.payment_mix", "amount") == [(Decimal(2),), (Decimal(6),)]


def test_development_copy_of_an_empty_table_has_its_date(published: Lake) -> None:
    publish(published, load_table("gold.category_sales"), load_table("gold.category_sales").arrow_schema.empty_table(), [FIRST])
    mine = Lake(published.root, development="ann")
    mine.ensure_table(load_table("gold.category_sales"))
    assert find_stored_date_column(DeltaTable(mine.uri("gold.category_sales"))) == "order_date"
    assert read_rows(mine, "gold.category_sales") == []


def test_tables_includes_the_development_copy(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    replace_date(mine, "bronze.sketches", landing_rows("a"), FIRST)
    assert {"bronze.orders", "bronze.sketches"} <= set(mine.tables())
    assert "bronze.sketches" not in published.tables()


# Compaction


def grown(lake: Lake, days: int) -> None:
    """Write a silver table with daily merges, each of which adds a file."""
    for number in range(days):
        day = FIRST + timedelta(days=number)
        merge(lake, COMPACTED, items(number, day), dates=[day])


COMPACTED = load_table("silver.order_items")


def items(number: int, day: date) -> pa.Table:
    row = dict.fromkeys(COMPACTED.columns)
    row.update(order_id=f"o{number}", line=1, landed_on=day, version_at=datetime(2025, 11, 1, tzinfo=timezone.utc))
    return pa.Table.from_pylist([row], schema=COMPACTED.arrow_schema)


def test_compaction_combines_small_files(lake: Lake) -> None:
    grown(lake, COMPACTION_MIN_FILES)
    before = read_rows(lake, "silver.order_items")
    assert lake.compact("silver.order_items")
    assert read_rows(lake, "silver.order_items") == before
    assert len(DeltaTable(lake.uri("silver.order_items")).file_uris()) == 1
    assert lake.version("silver.order_items") == COMPACTION_MIN_FILES + 1
    assert not lake.compact("silver.order_items")


def test_few_files_are_not_compacted(lake: Lake) -> None:
    grown(lake, COMPACTION_MIN_FILES - 1)
    assert not lake.compact("silver.order_items")
    assert not lake.compact("silver.reviews")


def test_large_files_are_not_compacted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Random(1)  # noqa: S311 (ids that do not compress)
    many = pa.concat_tables([items(ids.getrandbits(120), FIRST) for _ in range(5_000)])
    merge(lake, COMPACTED, many, dates=[FIRST])
    (large,) = DeltaTable(lake.uri("silver.order_items")).file_uris()
    monkeypatch.setattr("daybook.lake.compaction._FILE_BYTES", {"silver": Path(large).stat().st_size})
    for number in range(COMPACTION_MIN_FILES - 1):
        merge(lake, COMPACTED, items(number, SECOND), dates=[SECOND])
    assert not lake.compact("silver.order_items")
    merge(lake, COMPACTED, items(COMPACTION_MIN_FILES, THIRD), dates=[THIRD])
    assert lake.compact("silver.order_items")
    files = DeltaTable(lake.uri("silver.order_items")).file_uris()
    assert large in files
    assert len(files) == 2
    assert len(read_rows(lake, "silver.order_items")) == 5_000 + COMPACTION_MIN_FILES


def test_version_before_compaction_is_readable(lake: Lake) -> None:
    grown(lake, COMPACTION_MIN_FILES)
    lake.compact("silver.order_items")
    lake.pin({"silver.order_items": COMPACTION_MIN_FILES - 1})
    assert len(read_rows(lake, "silver.order_items")) == COMPACTION_MIN_FILES - 1


def test_concurrent_commit_cancels_the_compaction(lake: Lake, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(lake, COMPACTION_MIN_FILES)
    committing = TableCache.committing

    def late(tables: TableCache, uri: str) -> Any:
        monkeypatch.undo()
        Lake(root, run_id="daily-2025-12-01-1").delete_rows("silver.order_items", "order_id", ["o0"])
        return committing(tables, uri)

    monkeypatch.setattr(TableCache, "committing", late)
    assert not lake.compact("silver.order_items")
    assert len(read_rows(lake, "silver.order_items")) == COMPACTION_MIN_FILES - 1
    merge(lake, COMPACTED, items(99, THIRD), dates=[THIRD])
    assert len(read_rows(lake, "silver.order_items")) == COMPACTION_MIN_FILES
