"""The lake: partitions replaced, rows merged, gold published, each as one commit that composes with others in any order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

import daybook.lake
from daybook.contracts import load_table
from daybook.errors import LakeError
from daybook.lake import Lake

FIRST, SECOND, THIRD = date(2025, 11, 1), date(2025, 11, 2), date(2025, 11, 3)
PRODUCTS = load_table("silver.products")
CUSTOMERS = load_table("silver.customers")
PAYMENTS = load_table("gold.payment_mix")
COHORTS = load_table("gold.cohort_retention")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture
def lake(root: str) -> Lake:
    return Lake(root, run_id="daily-2025-11-01-1")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries to commit, which are not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(daybook.lake, "time", SimpleNamespace(sleep=waited.append))
    return waited


def content(lake: Lake, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """The table's rows, or the named columns of them, sorted."""
    dataset = lake.dataset(table)
    assert dataset is not None
    found = dataset.to_table(columns=list(columns) or None)
    return sorted(zip(*(column.to_pylist() for column in found.columns)), key=repr)


def files(folder: Path) -> dict[Path, int]:
    """Every file under a folder with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def landed(*values: str) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.string())})


class Version(NamedTuple):
    """One version of a product, as a landing brings it; ``changed`` is the hour of November 2025 that the shop gives it."""

    product_id: str
    name: str
    changed: int


def products(landed_on: date, *versions: Version) -> pa.Table:
    start = datetime(2025, 11, 1, tzinfo=timezone.utc)
    rows = [
        {
            "product_id": each.product_id,
            "name": each.name,
            "version_at": start + timedelta(hours=each.changed),
            "landed_on": landed_on,
        }
        for each in versions
    ]
    return pa.Table.from_pylist(rows, schema=PRODUCTS.arrow_schema)


def customers(landed_on: date, *keys: str, city: Optional[str] = None, first: Optional[date] = None) -> pa.Table:
    rows = [
        {
            "customer_key": key,
            "city": city,
            "first_order_date": first,
            "version_at": datetime(2025, 11, landed_on.day, tzinfo=timezone.utc),
            "landed_on": landed_on,
        }
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=CUSTOMERS.arrow_schema)


def payments(*amounts: tuple[date, str]) -> pa.Table:
    rows = [
        {"order_date": day, "method": "card", "payments": 1, "orders": 1, "amount": Decimal(amount), "share": Decimal(1)}
        for day, amount in amounts
    ]
    return pa.Table.from_pylist(rows, schema=PAYMENTS.arrow_schema)


def cut_off(rows: pa.Table) -> pa.RecordBatchReader:
    """The rows, and then an end in the middle."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows.to_batches()
        raise OSError("the disk went away")

    return pa.RecordBatchReader.from_batches(rows.schema, batches())


def conflicting(action: Any, times: int) -> Any:
    """``action``, but the first ``times`` calls meet another writer's commit."""
    tries = itertools.count(1)

    def act(*args: Any, **named: Any) -> Any:
        if next(tries) <= times:
            raise CommitFailedError("Commit failed: a concurrent transaction added new data.\nHelp: run it again.")
        return action(*args, **named)

    return act


# Names and versions


@pytest.mark.parametrize("name", ["orders", "brass.orders", "silver.", ""])
def test_a_name_without_a_known_layer_is_refused_with_the_layers(lake: Lake, name: str) -> None:
    with pytest.raises(LakeError) as caught:
        lake.uri(name)
    assert str(caught.value) == (
        f"{name!r} is not a table's name; write layer.name with a layer of: "
        "bronze, silver, gold, quarantine, candidate, control."
    )


def test_a_table_that_was_never_written_has_no_version_rows_or_partitions(lake: Lake) -> None:
    assert (lake.exists("bronze.orders"), lake.version("bronze.orders")) == (False, None)
    assert lake.dataset("bronze.orders") is None
    assert lake.partitions("bronze.orders") == []
    assert lake.tables_read == {}


def test_tables_are_those_stored_and_those_with_a_contract(lake: Lake) -> None:
    lake.replace_partition("bronze.shelves", landed("a"), FIRST)
    lake.write_candidate("candidate.daily_sales", landed("a"))
    found = lake.tables()
    assert "bronze.shelves" in found
    assert "silver.orders" in found
    assert "gold.daily_sales" in found
    assert not [name for name in found if name.startswith("candidate.")]


def test_reading_notes_the_version_read(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    reader = Lake(lake.root)
    reader.dataset("bronze.orders")
    assert reader.tables_read == {"bronze.orders": 1}
    assert reader.tables_written == {}


def test_writing_notes_the_version_written(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    lake.replace_partition("bronze.orders", landed("b"), SECOND)
    assert lake.tables_written == {"bronze.orders": 2}
    assert lake.tables_read == {}


def test_the_version_written_is_ones_own_where_another_writer_came_right_after(lake: Lake, monkeypatch: Any) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    overwrite = daybook.lake._overwrite

    def then_another(*args: Any, **named: Any) -> None:
        overwrite(*args, **named)
        monkeypatch.setattr(daybook.lake, "_overwrite", overwrite)
        Lake(lake.root).replace_partition("bronze.orders", landed("c"), THIRD)

    monkeypatch.setattr(daybook.lake, "_overwrite", then_another)
    lake.replace_partition("bronze.orders", landed("b"), SECOND)
    assert lake.tables_written == {"bronze.orders": 2}
    assert lake.version("bronze.orders") == 3


def test_every_commit_is_signed_with_the_run(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    newest = DeltaTable(lake.uri("bronze.orders")).history(1)[0]
    assert newest["daybook_run_id"] == "daily-2025-11-01-1"


@pytest.mark.parametrize("folder", ["my shop", "Größe", "100%", "no #1", "it's + more"])
def test_a_lake_may_lie_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    lake = Lake(str(tmp_path / folder))
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1)), landed_on=FIRST)
    assert content(lake, "bronze.orders", "value") == [("a",)]
    assert content(lake, "silver.products", "name") == [("Ant",)]


# Replacing a partition


def test_replacing_a_date_leaves_other_dates_alone(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a", "b"), FIRST)
    lake.replace_partition("bronze.orders", landed("c"), SECOND)
    lake.replace_partition("bronze.orders", landed("d"), FIRST)
    assert content(lake, "bronze.orders", "run_date", "value") == [(FIRST, "d"), (SECOND, "c")]


def test_replacing_a_date_twice_is_replacing_it_once(lake: Lake) -> None:
    for _ in range(2):
        lake.replace_partition("bronze.orders", landed("a", "a"), FIRST)
    assert content(lake, "bronze.orders", "run_date", "value") == [(FIRST, "a"), (FIRST, "a")]


def test_replacing_a_date_with_no_rows_empties_it(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    lake.replace_partition("bronze.orders", landed("b"), SECOND)
    lake.replace_partition("bronze.orders", landed(), SECOND)
    assert content(lake, "bronze.orders", "value") == [("a",)]
    assert lake.partitions("bronze.orders") == [FIRST]


def test_a_table_can_begin_without_rows(lake: Lake) -> None:
    lake.replace_partition("quarantine.orders", landed(), FIRST)
    assert lake.exists("quarantine.orders")
    lake.replace_partition("quarantine.orders", landed("a"), SECOND)
    assert content(lake, "quarantine.orders", "run_date", "value") == [(SECOND, "a")]


def test_a_new_column_is_added_and_null_in_older_rows(lake: Lake) -> None:
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    lake.replace_partition("bronze.orders", landed("b").append_column("coupon", pa.array(["X"])), SECOND)
    assert content(lake, "bronze.orders", "value", "coupon") == [("a", None), ("b", "X")]


def test_the_rows_bear_the_date_they_replace_whatever_they_said(lake: Lake) -> None:
    rows = landed("a").append_column("run_date", pa.array([THIRD]))
    lake.replace_partition("bronze.orders", rows, FIRST)
    assert content(lake, "bronze.orders", "run_date", "value") == [(FIRST, "a")]


def test_partitions_are_the_dates_with_rows_in_order(lake: Lake) -> None:
    for day in (THIRD, FIRST, SECOND):
        lake.replace_partition("bronze.orders", landed("a"), day)
    assert lake.partitions("bronze.orders") == [FIRST, SECOND, THIRD]


def test_threads_that_replace_different_dates_of_a_new_table_lose_nothing(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(8)]
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(lambda day: Lake(root).replace_partition("bronze.orders", landed(f"{day}"), day), days))
    assert content(Lake(root), "bronze.orders", "run_date", "value") == [(day, f"{day}") for day in days]


def test_processes_that_replace_different_dates_lose_nothing(root: str) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        under_way = [pool.submit(Lake(root).replace_partition, "bronze.orders", landed(f"{day}"), day) for day in days]
        assert [each.result() for each in under_way] == [None] * 4
    assert content(Lake(root), "bronze.orders", "run_date", "value") == [(day, f"{day}") for day in days]


def test_two_writers_that_make_a_table_at_once_both_find_it_made(lake: Lake, monkeypatch: Any) -> None:
    create = DeltaTable.create

    def second(*args: Any, **named: Any) -> None:
        create(*args, **named)
        create(*args, **{**named, "mode": "error"})  # what the slower of two writers meets

    monkeypatch.setattr(DeltaTable, "create", second)
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    assert content(lake, "bronze.orders", "value") == [("a",)]


# Merging by key


def test_a_merge_counts_what_it_did(lake: Lake) -> None:
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1)), landed_on=FIRST)
    again = products(FIRST, Version("a", "Ant II", 2), Version("c", "Cat", 1))
    assert lake.merge(PRODUCTS, again, landed_on=FIRST) == {"inserted": 1, "updated": 1, "deleted": 1}


def test_the_newest_version_of_a_row_wins_whichever_lands_last(lake: Lake) -> None:
    lake.merge(PRODUCTS, products(SECOND, Version("a", "new", 9)), landed_on=SECOND)
    lake.merge(PRODUCTS, products(FIRST, Version("a", "old", 1)), landed_on=FIRST)
    assert content(lake, "silver.products", "name", "landed_on") == [("new", SECOND)]


def test_of_equal_versions_that_of_the_later_date_wins(lake: Lake) -> None:
    for day in (SECOND, FIRST):
        lake.merge(PRODUCTS, products(day, Version("a", f"of {day}", 5)), landed_on=day)
    assert content(lake, "silver.products", "name", "landed_on") == [(f"of {SECOND}", SECOND)]


def test_a_date_landed_again_corrected_replaces_what_it_brought(lake: Lake) -> None:
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1)), landed_on=FIRST)
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Aunt", 1)), landed_on=FIRST)
    assert content(lake, "silver.products", "product_id", "name") == [("a", "Aunt")]


def test_a_corrected_date_leaves_what_other_dates_brought(lake: Lake) -> None:
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1)), landed_on=FIRST)
    lake.merge(PRODUCTS, products(SECOND, Version("b", "Bee", 1)), landed_on=SECOND)
    lake.merge(PRODUCTS, products(SECOND), landed_on=SECOND)
    assert content(lake, "silver.products", "product_id") == [("a",)]


def test_an_unchanged_merge_makes_no_new_version(lake: Lake) -> None:
    rows = products(FIRST, Version("a", "Ant", 1))
    lake.merge(PRODUCTS, rows, landed_on=FIRST)
    before = lake.version("silver.products")
    assert lake.merge(PRODUCTS, rows, landed_on=FIRST) == {"inserted": 0, "updated": 0, "deleted": 0}
    assert lake.version("silver.products") == before


def test_a_value_that_becomes_null_is_a_change(lake: Lake) -> None:
    lake.merge(CUSTOMERS, customers(FIRST, "a", city="Ulm"), landed_on=FIRST)
    assert lake.merge(CUSTOMERS, customers(FIRST, "a", city=None), landed_on=FIRST)["updated"] == 1
    assert content(lake, "silver.customers", "city") == [(None,)]


def test_a_merge_leaves_the_first_order_date_alone(lake: Lake) -> None:
    lake.merge(CUSTOMERS, customers(FIRST, "a"), landed_on=FIRST)
    lake.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date")
    lake.merge(CUSTOMERS, customers(SECOND, "a", city="Ulm", first=SECOND), landed_on=SECOND)
    assert content(lake, "silver.customers", "city", "first_order_date") == [("Ulm", FIRST)]


def test_updating_a_column_changes_only_rows_where_it_differs(lake: Lake) -> None:
    lake.merge(CUSTOMERS, customers(FIRST, "a", "b", first=FIRST), landed_on=FIRST)
    lake.merge(CUSTOMERS, customers(SECOND, "c", first=SECOND), landed_on=SECOND)
    values = customers(FIRST, "a", "c", "unknown", first=FIRST)
    assert lake.update_column(CUSTOMERS, values, "first_order_date") == 1
    assert content(lake, "silver.customers", "customer_key", "first_order_date") == [("a", FIRST), ("b", FIRST), ("c", FIRST)]


def test_updating_a_column_of_a_table_without_rows_changes_none(lake: Lake) -> None:
    assert lake.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date") == 0


def test_threads_that_merge_different_dates_lose_nothing(root: str, waits: list[float]) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]

    def merge(day: date) -> dict[str, int]:
        rows = products(day, Version("shared", f"of {day}", day.day), Version(f"{day}", "own", 1))
        return Lake(root).merge(PRODUCTS, rows, landed_on=day)

    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(merge, days))
    expected = [(f"{day}", "own") for day in days] + [("shared", f"of {days[-1]}")]
    assert content(Lake(root), "silver.products", "product_id", "name") == expected


_BATCH = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from(["x", "y", "z"]), st.integers(1, 3)), max_size=4)


@st.composite
def _landings(draw: st.DrawFn) -> tuple[dict[date, list[Version]], list[date]]:
    """What each of three dates brings, and an order to run them in, in which each stands at least once."""
    days = [FIRST, SECOND, THIRD]
    brought = {day: [Version(key, *value) for key, value in draw(_BATCH).items()] for day in days}
    order = draw(st.permutations(days + draw(st.lists(st.sampled_from(days), max_size=3))))
    return brought, order


@settings(max_examples=30, deadline=None)
@given(_landings())
def test_dates_in_any_order_and_repeated_give_what_once_in_order_gives(
    tmp_path_factory: pytest.TempPathFactory, landings: tuple[dict[date, list[Version]], list[date]]
) -> None:
    brought, order = landings
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for day in order:
        lake.merge(PRODUCTS, products(day, *brought[day]), landed_on=day)
    newest: dict[str, tuple[int, date, str]] = {}
    for day in sorted(brought):
        for each in brought[day]:
            newest[each.product_id] = max(newest.get(each.product_id, (0, day, "")), (each.changed, day, each.name))
    expected = sorted((key, name, day) for key, (_, day, name) in newest.items())
    assert content(lake, "silver.products", "product_id", "name", "landed_on") == expected


# Candidates and publishing


def test_a_candidate_is_seen_by_its_run_alone(lake: Lake) -> None:
    lake.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    other = Lake(lake.root, run_id="daily-2025-11-01-2")
    assert lake.exists("candidate.payment_mix")
    assert not other.exists("candidate.payment_mix")
    assert not other.exists("gold.payment_mix")


def test_a_candidate_written_again_replaces_the_first_with_its_columns(lake: Lake) -> None:
    lake.write_candidate("candidate.payment_mix", landed("a"))
    lake.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    assert content(lake, "candidate.payment_mix", "amount") == [(Decimal(1),)]
    assert lake.tables_written == {"candidate.payment_mix": 1}


def test_publishing_replaces_its_dates_and_leaves_others(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1"), (SECOND, "2"), (THIRD, "3")), [FIRST, SECOND, THIRD])
    later = Lake(lake.root, run_id="daily-2025-11-02-1")
    assert later.publish(PAYMENTS, payments((SECOND, "20")), [FIRST, SECOND])
    assert content(later, "gold.payment_mix", "order_date", "amount") == [(SECOND, Decimal(20)), (THIRD, Decimal(3))]
    assert later.tables_written == {"gold.payment_mix": later.version("gold.payment_mix")}


def test_a_run_publishes_a_table_once(lake: Lake) -> None:
    assert lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    version = lake.version("gold.payment_mix")
    retry = Lake(lake.root, run_id=lake.run_id)
    assert not retry.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    assert retry.version("gold.payment_mix") == version


def test_another_run_publishes_the_same_dates_again(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    assert Lake(lake.root, run_id="daily-2025-11-01-2").publish(PAYMENTS, payments((FIRST, "2")), [FIRST])
    assert content(lake, "gold.payment_mix", "amount") == [(Decimal(2),)]


def test_an_empty_candidate_empties_its_dates(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    Lake(lake.root, run_id="daily-2025-11-02-1").publish(PAYMENTS, payments(), [SECOND])
    assert content(lake, "gold.payment_mix", "order_date") == [(FIRST,)]


def test_a_table_with_dates_is_not_published_without_any(lake: Lake) -> None:
    assert not lake.publish(PAYMENTS, payments(), [])
    assert lake.tables_written == {}


def test_a_table_without_partitions_is_published_whole(lake: Lake) -> None:
    def cohort(size: int) -> pa.Table:
        row = {field.name: size if pa.types.is_integer(field.type) else None for field in COHORTS.arrow_schema}
        return pa.Table.from_pylist([row], schema=COHORTS.arrow_schema)

    size = next(field.name for field in COHORTS.arrow_schema if pa.types.is_integer(field.type))
    lake.publish(COHORTS, cohort(1), [])
    Lake(lake.root, run_id="daily-2025-11-02-1").publish(COHORTS, cohort(2), [])
    assert content(lake, "gold.cohort_retention", size) == [(2,)]


def test_rows_outside_the_published_dates_are_refused_and_nothing_changes(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    with pytest.raises(LakeError, match=r"^gold\.payment_mix at .* could not be written: "):
        Lake(lake.root).publish(PAYMENTS, payments((THIRD, "3")), [FIRST])
    assert content(lake, "gold.payment_mix", "order_date", "amount") == [(FIRST, Decimal(1))]


def test_a_reader_of_a_version_goes_on_seeing_it(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    pinned = lake.dataset("gold.payment_mix")
    Lake(lake.root, run_id="daily-2025-11-01-2").publish(PAYMENTS, payments((FIRST, "2")), [FIRST])
    assert pinned is not None
    assert pinned.to_table(columns=["amount"]).to_pylist() == [{"amount": Decimal(1)}]


def test_a_write_that_breaks_off_in_the_middle_leaves_the_old_version(lake: Lake) -> None:
    lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    version = lake.version("gold.payment_mix")

    later = Lake(lake.root, run_id="daily-2025-11-01-2")
    with pytest.raises(LakeError, match="could not be written"):
        later.publish(PAYMENTS, cut_off(payments((FIRST, "2"))), [FIRST])
    assert lake.version("gold.payment_mix") == version
    assert content(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]
    assert later.tables_written == {}


def test_a_run_that_broke_off_while_publishing_can_publish_on_its_next_try(lake: Lake) -> None:
    with pytest.raises(LakeError):
        lake.publish(PAYMENTS, cut_off(payments((FIRST, "1"))), [FIRST])
    assert lake.publish(PAYMENTS, payments((FIRST, "1")), [FIRST])
    assert content(lake, "gold.payment_mix", "amount") == [(Decimal(1),)]


# Other writers


def test_a_commit_that_met_another_is_tried_again_on_the_newest_version(
    lake: Lake, waits: list[float], monkeypatch: Any
) -> None:
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1)), landed_on=FIRST)
    merge = DeltaTable.merge
    tries = itertools.count(1)

    def raced(delta: DeltaTable, *args: Any, **named: Any) -> Any:
        """The first try is built on a version that another writer's commit has made old by the time it ends."""
        builder = merge(delta, *args, **named)
        if next(tries) == 1:
            write_deltalake(lake.uri("silver.products"), products(THIRD, Version("c", "Cat", 1)), mode="append")
        return builder

    monkeypatch.setattr(DeltaTable, "merge", raced)
    rows = products(SECOND, Version("a", "Aunt", 2), Version("c", "Old cat", 0))
    lake.merge(PRODUCTS, rows, landed_on=SECOND)
    assert next(tries) == 3
    assert content(lake, "silver.products", "product_id", "name") == [("a", "Aunt"), ("c", "Cat")]
    assert len(waits) == 1


def test_waits_between_tries_grow(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(daybook.lake, "_overwrite", conflicting(daybook.lake._overwrite, 3))
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    assert len(waits) == 3
    assert waits == sorted(set(waits))
    assert content(lake, "bronze.orders", "value") == [("a",)]


def test_after_ten_tries_a_sentence_says_what_was_in_the_way(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(daybook.lake, "_overwrite", conflicting(None, 99))
    with pytest.raises(LakeError) as caught:
        lake.replace_partition("bronze.orders", landed("a"), FIRST)
    assert str(caught.value) == (
        "bronze.orders was changed by others 10 times while this run tried to "
        "(Commit failed: a concurrent transaction added new data); run it again."
    )
    assert len(waits) == 9


# The development copy


@pytest.fixture
def published(lake: Lake) -> Lake:
    """A lake with one published table of each kind."""
    lake.replace_partition("bronze.orders", landed("a"), FIRST)
    lake.merge(PRODUCTS, products(FIRST, Version("a", "Ant", 1)), landed_on=FIRST)
    lake.publish(PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    return lake


def test_a_development_copy_reads_what_is_published_until_it_writes(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    assert content(mine, "bronze.orders", "value") == [("a",)]
    published.replace_partition("bronze.orders", landed("b"), FIRST)
    assert content(mine, "bronze.orders", "value") == [("b",)]


def test_a_development_copy_begins_as_the_whole_published_table(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    mine.replace_partition("bronze.orders", landed("mine"), SECOND)
    mine.merge(PRODUCTS, products(SECOND, Version("b", "Bee", 1)), landed_on=SECOND)
    mine.publish(PAYMENTS, payments((SECOND, "20")), [SECOND])
    assert content(mine, "bronze.orders", "value") == [("a",), ("mine",)]
    assert content(mine, "silver.products", "name") == [("Ant",), ("Bee",)]
    assert content(mine, "gold.payment_mix", "amount") == [(Decimal(1),), (Decimal(20),)]


def test_a_development_copy_stays_as_it_is_when_others_publish(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    mine.replace_partition("bronze.orders", landed("mine"), SECOND)
    published.replace_partition("bronze.orders", landed("newer"), FIRST)
    assert content(mine, "bronze.orders", "value") == [("a",), ("mine",)]


def test_a_development_copy_never_touches_a_published_file(published: Lake) -> None:
    root = Path(published.root)
    before = files(root)
    mine = Lake(published.root, development="ann")
    mine.replace_partition("bronze.orders", landed("mine"), FIRST)
    mine.replace_partition("control.stale_dates", landed("new"), FIRST)
    mine.merge(PRODUCTS, products(FIRST), landed_on=FIRST)
    mine.merge(CUSTOMERS, customers(FIRST, "a"), landed_on=FIRST)
    mine.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date")
    mine.write_candidate("candidate.payment_mix", payments((FIRST, "9")))
    mine.publish(PAYMENTS, payments((FIRST, "9")), [FIRST])
    others = {path: changed for path, changed in files(root).items() if root / "dev" / "ann" not in path.parents}
    assert others == before


def test_updating_a_column_in_a_development_copy_begins_with_the_published_rows(published: Lake) -> None:
    published.merge(CUSTOMERS, customers(FIRST, "a", "b"), landed_on=FIRST)
    mine = Lake(published.root, development="ann")
    assert mine.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date") == 1
    assert content(mine, "silver.customers", "customer_key", "first_order_date") == [("a", FIRST), ("b", None)]
    assert content(published, "silver.customers", "first_order_date") == [(None,), (None,)]


def test_development_copies_of_two_people_are_apart(published: Lake) -> None:
    mine, yours = Lake(published.root, development="ann"), Lake(published.root, development="bob")
    mine.replace_partition("bronze.orders", landed("mine"), FIRST)
    assert content(yours, "bronze.orders", "value") == [("a",)]


def test_a_development_copy_can_publish_again_and_again(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    for amount in ("5", "6"):
        assert mine.publish(PAYMENTS, payments((FIRST, amount)), [FIRST])
    assert content(mine, "gold.payment_mix", "amount") == [(Decimal(2),), (Decimal(6),)]


def test_a_development_copy_of_an_empty_table_keeps_its_partitions(published: Lake) -> None:
    published.publish(load_table("gold.category_sales"), load_table("gold.category_sales").arrow_schema.empty_table(), [FIRST])
    mine = Lake(published.root, development="ann")
    mine.ensure(load_table("gold.category_sales"))
    assert DeltaTable(mine.uri("gold.category_sales")).metadata().partition_columns == ["order_date"]
    assert content(mine, "gold.category_sales") == []


def test_tables_of_a_development_copy_are_listed_beside_the_published(published: Lake) -> None:
    mine = Lake(published.root, development="ann")
    mine.replace_partition("bronze.sketches", landed("a"), FIRST)
    assert {"bronze.orders", "bronze.sketches"} <= set(mine.tables())
    assert "bronze.sketches" not in published.tables()
