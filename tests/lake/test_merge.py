"""The newest version of every row wins, in whatever order dates are merged, again, and in the middle of each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from typing import Any, Callable, NamedTuple, NoReturn, Optional

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.table import TableMerger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.contracts import load_table
from daybook.lake import merge as merging
from daybook.lake.merge import RowChanges, merge
from daybook.lake.tables import Lake
from tests.lake.tables import CUSTOMERS, FIRST, PRODUCTS, SECOND, THIRD, Version, customers, products, read_rows


def read(changes: RowChanges, sql: str) -> pa.Table:
    return changes.database.sql(sql).to_arrow_table()


def killed(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


# Merging by key


def test_merge_counts_what_it_did(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1)), dates=[FIRST])
    again = products(FIRST, Version("a", "Ant II", 2), Version("c", "Cat", 1))
    assert merge(lake, PRODUCTS, again, dates=[FIRST]) == {"inserted": 1, "updated": 1, "deleted": 1}


def test_newest_version_of_a_row_wins_whichever_lands_last(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(SECOND, Version("a", "new", 9)), dates=[SECOND])
    merge(lake, PRODUCTS, products(FIRST, Version("a", "old", 1)), dates=[FIRST])
    assert read_rows(lake, "silver.products", "name", "landed_on") == [("new", SECOND)]


def test_of_equal_versions_that_of_the_later_date_wins(lake: Lake) -> None:
    for day in (SECOND, FIRST):
        merge(lake, PRODUCTS, products(day, Version("a", f"of {day}", 5)), dates=[day])
    assert read_rows(lake, "silver.products", "name", "landed_on") == [(f"of {SECOND}", SECOND)]


def test_date_landed_again_corrected_replaces_what_it_brought(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Aunt", 1)), dates=[FIRST])
    assert read_rows(lake, "silver.products", "product_id", "name") == [("a", "Aunt")]


def test_corrected_date_leaves_what_other_dates_brought(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("b", "Bee", 1)), dates=[SECOND])
    merge(lake, PRODUCTS, products(SECOND), dates=[SECOND])
    assert read_rows(lake, "silver.products", "product_id") == [("a",)]


def test_unchanged_merge_makes_no_new_version(lake: Lake) -> None:
    rows = products(FIRST, Version("a", "Ant", 1))
    merge(lake, PRODUCTS, rows, dates=[FIRST])
    before = lake.version("silver.products")
    assert merge(lake, PRODUCTS, rows, dates=[FIRST]) == {"inserted": 0, "updated": 0, "deleted": 0}
    assert lake.version("silver.products") == before


def test_value_that_becomes_null_is_a_change(lake: Lake) -> None:
    merge(lake, CUSTOMERS, customers(FIRST, "a", city="Ulm"), dates=[FIRST])
    assert merge(lake, CUSTOMERS, customers(FIRST, "a", city=None), dates=[FIRST])["updated"] == 1
    assert read_rows(lake, "silver.customers", "city") == [(None,)]


def test_merge_leaves_the_first_order_date_alone(lake: Lake) -> None:
    merge(lake, CUSTOMERS, customers(FIRST, "a"), dates=[FIRST])
    lake.update_column(CUSTOMERS, customers(FIRST, "a", first=FIRST), "first_order_date")
    merge(lake, CUSTOMERS, customers(SECOND, "a", city="Ulm", first=SECOND), dates=[SECOND])
    assert read_rows(lake, "silver.customers", "city", "first_order_date") == [("Ulm", FIRST)]


def test_new_customers_get_their_first_order_date(lake: Lake) -> None:
    merge(lake, CUSTOMERS, customers(FIRST, "a", "b", first=FIRST), dates=[FIRST])
    assert read_rows(lake, "silver.customers", "customer_key", "first_order_date") == [("a", FIRST), ("b", FIRST)]
    rows = customers(SECOND, "a", "c", city="Ulm", first=SECOND)
    assert merge(lake, CUSTOMERS, rows, dates=[SECOND]) == {"inserted": 1, "updated": 1, "deleted": 0}
    assert read_rows(lake, "silver.customers", "customer_key", "city", "first_order_date") == [
        ("a", "Ulm", FIRST),
        ("b", None, FIRST),
        ("c", "Ulm", SECOND),
    ]
    assert "first_order_date" not in DeltaTable(lake.uri("versions.customers")).schema().to_arrow().names


def test_threads_that_merge_different_dates_lose_nothing(root: str, waits: list[float]) -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]

    def merge_day(day: date) -> dict[str, int]:
        rows = products(day, Version("shared", f"of {day}", day.day), Version(f"{day}", "own", 1))
        return merge(Lake(root), PRODUCTS, rows, dates=[day])

    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(merge_day, days))
    expected = [(f"{day}", "own") for day in days] + [("shared", f"of {days[-1]}")]
    assert read_rows(Lake(root), "silver.products", "product_id", "name") == expected


# What a date withdraws


def test_withdrawn_row_restores_the_superseded_version(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "first", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("a", "second", 2)), dates=[SECOND])
    merge(lake, PRODUCTS, products(THIRD, Version("a", "third", 3)), dates=[THIRD])
    assert merge(lake, PRODUCTS, products(THIRD), dates=[THIRD])["updated"] == 1
    assert read_rows(lake, "silver.products", "name", "landed_on") == [("second", SECOND)]


def test_older_version_of_a_date_restores_other_dates_rows(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "first", 5)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("a", "by mistake", 9)), dates=[SECOND])
    merge(lake, PRODUCTS, products(SECOND, Version("a", "as it is", 2)), dates=[SECOND])
    assert read_rows(lake, "silver.products", "name", "landed_on") == [("first", FIRST)]


def test_row_brought_again_after_it_was_withdrawn_counts_again(lake: Lake) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "first", 1)), dates=[FIRST])
    for rows in (products(SECOND, Version("a", "second", 2)), products(SECOND), products(SECOND, Version("a", "second", 2))):
        merge(lake, PRODUCTS, rows, dates=[SECOND])
    assert read_rows(lake, "silver.products", "name") == [("second",)]


def test_retry_finds_rows_withdrawn_before_a_crash(lake: Lake, monkeypatch: Any) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "first", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("a", "second", 2)), dates=[SECOND])
    with monkeypatch.context() as patch:
        patch.setattr(merging, "_commit_changes", killed)
        with pytest.raises(KeyboardInterrupt):
            merge(lake, PRODUCTS, products(SECOND), dates=[SECOND])
    assert read_rows(lake, "silver.products", "name") == [("second",)]
    merge(lake, PRODUCTS, products(SECOND), dates=[SECOND])
    assert read_rows(lake, "silver.products", "name") == [("first",)]


def test_withdrawal_finds_a_concurrently_kept_version(lake: Lake, monkeypatch: Any) -> None:
    """The other date finds the row still newer than its own, and leaves it: the withdrawing one has to look again."""
    merge(lake, PRODUCTS, products(SECOND, Version("a", "second", 2)), dates=[SECOND])
    write = merging._commit_changes

    def after_another(*args: Any) -> None:
        monkeypatch.setattr(merging, "_commit_changes", write)
        counts = merge(Lake(lake.root), PRODUCTS, products(FIRST, Version("a", "first", 1)), dates=[FIRST])
        assert counts == {"inserted": 0, "updated": 0, "deleted": 0}
        write(*args)

    monkeypatch.setattr(merging, "_commit_changes", after_another)
    merge(lake, PRODUCTS, products(SECOND), dates=[SECOND])
    assert read_rows(lake, "silver.products", "name") == [("first",)]


def test_concurrent_new_row_is_found_by_the_second_date(lake: Lake, monkeypatch: Any) -> None:
    """Neither replaces a file of the other."""
    write = merging._commit_changes

    def after_another(*args: Any) -> None:
        monkeypatch.setattr(merging, "_commit_changes", write)
        merge(Lake(lake.root), PRODUCTS, products(SECOND, Version("a", "second", 2)), dates=[SECOND])
        write(*args)

    monkeypatch.setattr(merging, "_commit_changes", after_another)
    counts = merge(lake, PRODUCTS, products(FIRST, Version("a", "first", 1), Version("b", "Bee", 1)), dates=[FIRST])
    assert counts == {"inserted": 1, "updated": 0, "deleted": 0}
    assert read_rows(lake, "silver.products", "name") == [("Bee",), ("second",)]


def test_before_a_commit_one_is_told_exactly_what_it_replaces(lake: Lake) -> None:
    told: list[RowChanges] = []
    rows = products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1), Version("c", "Cat", 1))
    merge(lake, PRODUCTS, rows, dates=[FIRST], before=told.append)
    again = products(FIRST, Version("a", "Aunt", 1), Version("b", "Bee", 1), Version("d", "Dog", 1))
    merge(lake, PRODUCTS, again, dates=[FIRST], before=told.append)
    merge(lake, PRODUCTS, again, dates=[FIRST], before=told.append)
    _, second = told
    assert sorted(read(second, second.before_sql)["name"].to_pylist()) == ["Ant", "Cat"]
    assert sorted(read(second, second.after_sql)["name"].to_pylist()) == ["Aunt", "Dog"]
    assert read(second, second.deleted_sql)["name"].to_pylist() == ["Cat"]


def test_rows_of_a_key_of_two_columns_are_kept_apart(lake: Lake) -> None:
    merge(lake, ITEMS, lines(FIRST, Lines("o", 1, "ab")), dates=[FIRST])
    merge(lake, ITEMS, lines(SECOND, Lines("o", 2, "-cd")), dates=[SECOND])
    merge(lake, ITEMS, lines(SECOND, Lines("o", 2, "--d")), dates=[SECOND])
    assert read_rows(lake, "silver.order_items", "line_number", "product_id") == [(1, "a"), (2, "b"), (3, "d")]


# Rows that are replaced by group


ITEMS = load_table("silver.order_items")
BY_ORDER = ("order_id",)


class Lines(NamedTuple):
    """The lines of an order, one for each letter; ``-`` leaves a number out."""

    order_id: str
    changed: int
    products: str


def lines(day: date, *orders: Lines) -> pa.Table:
    rows = [
        {
            "order_id": each.order_id,
            "line_number": number,
            "product_id": product,
            "version_at": datetime(2025, 11, 1, each.changed, tzinfo=timezone.utc),
            "landed_on": day,
        }
        for each in orders
        for number, product in enumerate(each.products, start=1)
        if product != "-"
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS.arrow_schema)


def merged(lake: Lake, day: date, *orders: Lines, **named: Any) -> dict[str, int]:
    return merge(lake, ITEMS, lines(day, *orders), dates=[day], group=BY_ORDER, **named)


def ordered(lake: Lake) -> dict[str, str]:
    """The products of every order, in the order of their lines."""
    found: dict[str, str] = {}
    for order, _, product in read_rows(lake, "silver.order_items", "order_id", "line_number", "product_id"):
        found[order] = found.get(order, "") + product
    return found


def test_newer_group_replaces_all_rows_of_the_older(lake: Lake) -> None:
    merged(lake, FIRST, Lines("o", 1, "abc"), Lines("p", 1, "a"))
    counts = merged(lake, SECOND, Lines("o", 1, "ad"))
    assert counts == {"inserted": 0, "updated": 2, "deleted": 1}
    assert ordered(lake) == {"o": "ad", "p": "a"}


def test_older_group_adds_no_row(lake: Lake) -> None:
    merged(lake, SECOND, Lines("o", 1, "a"))
    assert merged(lake, FIRST, Lines("o", 1, "abc")) == {"inserted": 0, "updated": 0, "deleted": 0}
    merged(lake, THIRD, Lines("o", 0, "xy"))
    assert ordered(lake) == {"o": "a"}


def test_group_landed_again_with_fewer_rows_loses_them(lake: Lake) -> None:
    merged(lake, FIRST, Lines("o", 1, "abc"))
    assert merged(lake, FIRST, Lines("o", 1, "ab"))["deleted"] == 1
    assert ordered(lake) == {"o": "ab"}


def test_withdrawn_group_gives_way_to_the_one_before(lake: Lake) -> None:
    merged(lake, FIRST, Lines("o", 1, "abc"))
    merged(lake, SECOND, Lines("o", 1, "d"))
    merged(lake, SECOND)
    assert ordered(lake) == {"o": "abc"}
    merged(lake, FIRST)
    assert ordered(lake) == {}


def test_unchanged_group_makes_no_new_version(lake: Lake) -> None:
    merged(lake, FIRST, Lines("o", 1, "abc"))
    before = lake.version("silver.order_items")
    assert merged(lake, FIRST, Lines("o", 1, "abc")) == {"inserted": 0, "updated": 0, "deleted": 0}
    assert lake.version("silver.order_items") == before


def test_groups_within_an_order_are_replaced_apart(lake: Lake) -> None:
    group = ("order_id", "product_id")
    merge(lake, ITEMS, lines(FIRST, Lines("o", 1, "aaab")), dates=[FIRST], group=group)
    merge(lake, ITEMS, lines(SECOND, Lines("o", 1, "-a")), dates=[SECOND], group=group)
    assert ordered(lake) == {"o": "ab"}


def test_rows_merged_by_key_before_are_replaced_by_group(lake: Lake) -> None:
    merge(lake, ITEMS, lines(FIRST, Lines("o", 1, "--ab")), dates=[FIRST])
    merge(lake, ITEMS, lines(SECOND, Lines("o", 1, "----ab")), dates=[SECOND])
    merged(lake, SECOND, Lines("o", 1, "ab"))
    assert read_rows(lake, "silver.order_items", "line_number", "product_id") == [(1, "a"), (2, "b")]


def test_before_a_commit_one_is_told_the_rows_a_group_loses(lake: Lake) -> None:
    told: list[RowChanges] = []
    merged(lake, FIRST, Lines("o", 1, "abc"), Lines("p", 1, "a"))
    merged(lake, SECOND, Lines("o", 1, "d"), before=told.append)
    (changes,) = told
    assert sorted(read(changes, changes.before_sql)["product_id"].to_pylist()) == ["a", "b", "c"]
    assert (read(changes, changes.after_sql)["product_id"].to_pylist(), read(changes, changes.deleted_sql).num_rows) == (
        ["d"],
        2,
    )


# Any order, again, and side by side


_BATCH = st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from(["x", "y", "z"]), st.integers(1, 3)), max_size=3)
_DAYS = [FIRST, SECOND, THIRD]


class Delivery(NamedTuple):
    """What a date brings; ``during`` is the step of its merge (a look at a table, a commit) at which the next one is done."""

    day: date
    versions: list[Version]
    during: Optional[int]


class Export(NamedTuple):
    """The orders in a date's file; ``during`` as in ``Delivery``."""

    day: date
    versions: list[Lines]
    during: Optional[int]


_ORDERS = st.dictionaries(st.sampled_from("op"), st.tuples(st.integers(1, 3), st.text("abc", min_size=1, max_size=3)))


@st.composite
def _exports(draw: st.DrawFn) -> list[Export]:
    """Exports in the order they are merged in; a date may be exported again, with other orders and lines or fewer."""
    days = [*draw(st.permutations(_DAYS)), *draw(st.lists(st.sampled_from(_DAYS), max_size=3))]
    steps = st.none() | st.integers(0, 11)
    return [Export(day, [Lines(key, *value) for key, value in draw(_ORDERS).items()], draw(steps)) for day in days]


@st.composite
def _histories(draw: st.DrawFn) -> list[Delivery]:
    """Deliveries in the order they are merged in; a date may be delivered again, with other rows or fewer."""
    days = [*draw(st.permutations(_DAYS)), *draw(st.lists(st.sampled_from(_DAYS), max_size=3))]
    steps = st.none() | st.integers(0, 11)
    return [Delivery(day, [Version(key, *value) for key, value in draw(_BATCH).items()], draw(steps)) for day in days]


def merge_all(root: str, history: Sequence[Any], merge_one: Callable[[Lake, Any], Any]) -> None:
    """Merge one delivery after the other, or the next one in the middle of the one before."""
    ahead = list(history)

    def merge_next(number: int) -> None:
        each = ahead.pop(0)
        lake = Interrupted(root, run_id=f"daily-{each.day}-{number}")
        busy.add(each.day)
        lake.at_step = each.during
        # One date is not merged twice at once: the runs of a date follow each other.
        lake.interruption = lambda: merge_next(number + 1) if ahead and ahead[0].day not in busy else None
        merge_one(lake, each)
        busy.discard(each.day)

    busy: set[date] = set()
    while ahead:
        merge_next(len(history) - len(ahead) + 1)


class Interrupted(Lake):
    """A lake on which something else happens at one of the steps of what is done with it."""

    at_step: Optional[int] = None
    interruption: Callable[[], None] = staticmethod(lambda: None)
    _steps = 0

    def _step(self) -> None:
        self._steps += 1
        if self._steps - 1 == self.at_step:
            self.interruption()

    def dataset(self, table: str, landed: Optional[date] = None) -> Any:
        found = super().dataset(table, landed)
        self._step()
        return found

    def version(self, table: str) -> Optional[int]:
        self._step()
        return super().version(table)

    def commit_properties(self, *args: Any, **named: Any) -> Any:
        self._step()
        return super().commit_properties(*args, **named)

    def commit(self, table: str, action: Any) -> Any:
        self._step()
        done = super().commit(table, action)
        self._step()
        return done


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_histories())
def test_any_order_and_interleaving_leave_the_newest_rows(
    tmp_path_factory: pytest.TempPathFactory, waits: list[float], history: list[Delivery]
) -> None:
    root = str(tmp_path_factory.mktemp("lake"))
    merge_all(root, history, lambda lake, it: merge(lake, PRODUCTS, products(it.day, *it.versions), dates=[it.day]))
    last = {each.day: each.versions for each in history}
    newest: dict[str, tuple[int, date, str]] = {}
    for day in sorted(last):
        for each in last[day]:
            newest[each.product_id] = max(newest.get(each.product_id, (0, day, "")), (each.changed, day, each.name))
    expected = sorted((key, name, day) for key, (_, day, name) in newest.items())
    assert read_rows(Lake(root), "silver.products", "product_id", "name", "landed_on") == expected


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_exports())
def test_exports_in_any_order_leave_each_orders_newest_lines(
    tmp_path_factory: pytest.TempPathFactory, waits: list[float], history: list[Export]
) -> None:
    root = str(tmp_path_factory.mktemp("lake"))
    merge_all(root, history, lambda lake, it: merged(lake, it.day, *it.versions))
    last = {each.day: each.versions for each in history}
    newest: dict[str, tuple[int, date, str]] = {}
    for day in sorted(last):
        for each in last[day]:
            newest[each.order_id] = max(newest.get(each.order_id, (0, day, "")), (each.changed, day, each.products))
    assert ordered(Lake(root)) == {order: products for order, (_, _, products) in newest.items()}


def test_merge_reads_no_file_whose_keys_lie_elsewhere(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for day, key in ((FIRST, "a"), (SECOND, "k"), (THIRD, "t")):
        merge(lake, PRODUCTS, products(day, Version(key, "Old", 1)), dates=[day])
    execute, counted = TableMerger.execute, []
    monkeypatch.setattr(TableMerger, "execute", lambda self: counted.append(execute(self)))
    merge(lake, PRODUCTS, products(THIRD, Version("t", "New", 2), Version("u", "Other", 2)), dates=[THIRD])
    (found,) = counted
    assert (found["num_target_files_scanned"], found["num_target_files_skipped_during_scan"]) == (1, 2)
    names = [("a", "Old"), ("k", "Old"), ("t", "New"), ("u", "Other")]
    assert read_rows(lake, "silver.products", "product_id", "name") == names


# Other writers


def test_conflicting_commit_is_retried_on_the_newest_version(lake: Lake, waits: list[float], monkeypatch: Any) -> None:
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1)), dates=[FIRST])
    build = DeltaTable.merge
    tries = itertools.count(1)

    def raced(delta: DeltaTable, *args: Any, **named: Any) -> Any:
        """The first try is built on a version that another writer's commit has made old by the time it ends."""
        builder = build(delta, *args, **named)
        if next(tries) == 1:
            write_deltalake(lake.uri("silver.products"), products(THIRD, Version("c", "Cat", 1)), mode="append")
        return builder

    monkeypatch.setattr(DeltaTable, "merge", raced)
    rows = products(SECOND, Version("a", "Aunt", 2), Version("c", "Old cat", 0))
    merge(lake, PRODUCTS, rows, dates=[SECOND])
    assert next(tries) == 3
    assert read_rows(lake, "silver.products", "product_id", "name") == [("a", "Aunt"), ("c", "Cat")]
    assert len(waits) == 1


def test_columns_of_a_contract_can_be_named_new_and_old(lake: Lake) -> None:
    names = {"name": "new", "category": "old"}
    renamed = [each.model_copy(update={"name": names.get(each.name, each.name)}) for each in PRODUCTS.properties]
    values = {name: getattr(PRODUCTS, name) for name in type(PRODUCTS).model_fields}
    contract = type(PRODUCTS).model_construct(**{**values, "name": "things", "properties": renamed})
    for day, name in ((FIRST, "a"), (SECOND, "b")):
        rows = products(day, Version("p", name, 1)).rename_columns(contract.arrow_schema.names)
        merge(lake, contract, rows, dates=[day])
    assert read_rows(lake, "silver.things", "product_id", "new") == [("p", "b")]
