"""Merging a range of dates leaves the rows of merging one date after the other, and tells which date changes which row."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.contracts import Table
from daybook.lake.merge import CHANGED_BY, RowChanges, merge
from daybook.lake.tables import Lake
from tests.lake.tables import FIRST, PRODUCTS, SECOND, THIRD, Version, products, read_rows
from tests.lake.test_merge import BY_ORDER, ITEMS, Lines, lines

_DAYS = [FIRST + timedelta(days=number) for number in range(4)]
Changes = set[tuple[Any, ...]]
"""Rows that change in a column: its value, the row's key, and the date that changes it."""


class Recorded:
    """Merge dates into a lake, and keep which rows each date has changed in a column."""

    def __init__(self, root: str, contract: Table, column: str, group: Sequence[str] = ()) -> None:
        self.root, self.contract, self.column, self.group = root, contract, column, group
        self.changes: Changes = set()

    def merge(self, rows: pa.Table, dates: Sequence[date]) -> dict[str, int]:
        return merge(Lake(self.root), self.contract, rows, dates=dates, group=self.group, before=self._record)

    def _record(self, changes: RowChanges) -> None:
        names = ", ".join([self.column, *self.contract.key, CHANGED_BY])
        sql = changes.differing_sql([self.column])
        self.changes.update(changes.database.execute(f"SELECT {names} FROM ({sql}) AS differing").fetchall())

    def read(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of the table, and of its versions."""
        names = [each.name for each in self.contract.arrow_schema if each.name not in self.contract.derived]
        return {
            "silver": read_rows(Lake(self.root), self.contract.full_name, *names),
            "versions": read_rows(Lake(self.root), f"versions.{self.contract.name}", *names, "run_date", "withdrawn"),
        }


def changed_by(recorded: Recorded, day: date) -> set[Any]:
    return {row[0] for row in recorded.changes if row[-1] == day}


@pytest.fixture
def recorded(root: str) -> Recorded:
    return Recorded(root, PRODUCTS, "name")


def together(*parts: pa.Table) -> pa.Table:
    return pa.concat_tables(parts)


def test_newest_of_the_rows_of_a_range_wins(recorded: Recorded) -> None:
    rows = together(products(FIRST, Version("a", "new", 9)), products(SECOND, Version("a", "old", 1), Version("b", "Bee", 1)))
    assert recorded.merge(rows, [FIRST, SECOND]) == {"inserted": 2, "updated": 0, "deleted": 0}
    assert read_rows(Lake(recorded.root), "silver.products", "name", "landed_on") == [("Bee", SECOND), ("new", FIRST)]
    assert len(recorded.read()["versions"]) == 3


def test_versions_of_a_range_are_kept_in_one_commit(recorded: Recorded) -> None:
    recorded.merge(products(FIRST, Version("a", "Ant", 1)), [FIRST])
    before = Lake(recorded.root).version("versions.products")
    recorded.merge(together(products(FIRST, Version("a", "Ant", 1)), products(SECOND)), [FIRST, SECOND])
    assert before is not None
    assert Lake(recorded.root).version("versions.products") == before + 1


def test_range_leaves_what_other_dates_brought(recorded: Recorded) -> None:
    recorded.merge(products(THIRD, Version("a", "third", 5), Version("b", "Bee", 1)), [THIRD])
    recorded.merge(together(products(FIRST, Version("a", "first", 1)), products(SECOND)), [FIRST, SECOND])
    assert read_rows(Lake(recorded.root), "silver.products", "product_id", "name") == [("a", "third"), ("b", "Bee")]


def test_row_withdrawn_by_a_range_restores_the_version_before(recorded: Recorded) -> None:
    for day, name, changed in ((FIRST, "first", 1), (SECOND, "second", 2), (THIRD, "third", 3)):
        recorded.merge(products(day, Version("a", name, changed)), [day])
    recorded.merge(products(FIRST), [SECOND, THIRD])
    assert read_rows(Lake(recorded.root), "silver.products", "name") == [("first",)]


def test_unchanged_range_makes_no_new_version(recorded: Recorded) -> None:
    rows = together(products(FIRST, Version("a", "Ant", 1)), products(SECOND, Version("a", "Aunt", 2)))
    recorded.merge(rows, [FIRST, SECOND])
    before, recorded.changes = Lake(recorded.root).version("silver.products"), set()
    assert recorded.merge(rows, [FIRST, SECOND]) == {"inserted": 0, "updated": 0, "deleted": 0}
    assert (Lake(recorded.root).version("silver.products"), recorded.changes) == (before, set())


def test_each_date_is_told_the_states_of_a_row_that_several_change(recorded: Recorded) -> None:
    recorded.merge(products(FIRST, Version("a", "zero", 0)), [FIRST])
    recorded.changes = set()
    rows = together(products(SECOND, Version("a", "two", 2), Version("b", "Bee", 1)), products(THIRD, Version("a", "three", 3)))
    recorded.merge(rows, [SECOND, THIRD])
    assert changed_by(recorded, SECOND) == {"zero", "two", "three", "Bee"}
    assert changed_by(recorded, THIRD) == {"zero", "two", "three"}


def test_row_changed_back_within_a_range_counts_as_changed(recorded: Recorded) -> None:
    recorded.merge(products(FIRST, Version("a", "same", 0)), [FIRST])
    recorded.changes = set()
    recorded.merge(
        together(products(SECOND, Version("a", "other", 1)), products(THIRD, Version("a", "same", 2))), [SECOND, THIRD]
    )
    assert changed_by(recorded, SECOND) == changed_by(recorded, THIRD) == {"same", "other"}


def test_row_that_differs_only_in_its_version_is_not_told(recorded: Recorded) -> None:
    recorded.merge(products(FIRST, Version("a", "Ant", 0)), [FIRST])
    recorded.changes = set()
    recorded.merge(together(products(SECOND, Version("a", "Ant", 1)), products(THIRD, Version("a", "Ant", 2))), [SECOND, THIRD])
    assert recorded.changes == set()


def test_newest_group_of_a_range_replaces_all_rows(root: str) -> None:
    recorded = Recorded(root, ITEMS, "product_id", BY_ORDER)
    recorded.merge(lines(FIRST, Lines("o", 1, "abc"), Lines("p", 1, "a")), [FIRST])
    rows = together(lines(SECOND, Lines("o", 2, "ad")), lines(THIRD, Lines("o", 3, "x"), Lines("p", 0, "yz")))
    assert recorded.merge(rows, [SECOND, THIRD]) == {"inserted": 0, "updated": 1, "deleted": 2}
    assert read_rows(Lake(root), "silver.order_items", "order_id", "product_id") == [("o", "x"), ("p", "a")]


def test_threads_that_merge_ranges_lose_nothing(root: str, waits: list[float]) -> None:
    def merge_range(first: int) -> None:
        days = [FIRST + timedelta(days=first + number) for number in range(2)]
        rows = [products(day, Version("shared", f"of {day}", day.day), Version(f"{day}", "own", 1)) for day in days]
        merge(Lake(root), PRODUCTS, together(*rows), dates=days)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(merge_range, (0, 2, 4)))
    days = [FIRST + timedelta(days=number) for number in range(6)]
    expected = [(f"{day}", "own") for day in days] + [("shared", f"of {days[-1]}")]
    assert read_rows(Lake(root), "silver.products", "product_id", "name") == expected


# Any cut, order and repetition


class Step(NamedTuple):
    """A contiguous range of dates that is merged, with what each date has."""

    dates: list[date]
    rows: list[Any]


_VERSIONS = st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from("xyz"), st.integers(1, 3)), max_size=3)
_ORDERS = st.dictionaries(st.sampled_from("op"), st.tuples(st.integers(1, 3), st.text("abc", min_size=1, max_size=3)))


@st.composite
def _histories(draw: st.DrawFn, delivery: Any) -> list[Step]:
    """Ranges in any order, some of them again with other rows or fewer; overlapping ones too."""
    steps = []
    for _ in range(draw(st.integers(2, 4))):
        first = draw(st.integers(0, len(_DAYS) - 1))
        dates = _DAYS[first : draw(st.integers(first + 1, len(_DAYS)))]
        steps.append(Step(dates, [draw(delivery) for _ in dates]))
    return steps


def check_history(root: str, history: Sequence[Step], contract: Table, column: str, build: Any, group: Sequence[str]) -> None:
    """Merge ranges, and their dates one after the other; compare the lakes, and the changes of each step."""
    ranges = Recorded(f"{root}/ranges", contract, column, group)
    single = Recorded(f"{root}/single", contract, column, group)
    for step in history:
        ranges.changes, single.changes = set(), set()
        parts = [build(day, rows) for day, rows in zip(step.dates, step.rows)]
        ranges.merge(together(*parts), step.dates)
        for day, part in zip(step.dates, parts):
            single.merge(part, [day])
        assert ranges.read() == single.read()
        assert single.changes <= ranges.changes


def build_products(day: date, rows: dict[str, Any]) -> pa.Table:
    return products(day, *(Version(key, *value) for key, value in rows.items()))


def build_lines(day: date, rows: dict[str, Any]) -> pa.Table:
    return lines(day, *(Lines(key, *value) for key, value in rows.items()))


_SLOW_EXAMPLES = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=3, deadline=None, suppress_health_check=_SLOW_EXAMPLES)
@given(_histories(_VERSIONS))
def test_ranges_leave_the_rows_of_single_dates(tmp_path_factory: pytest.TempPathFactory, history: list[Step]) -> None:
    check_history(str(tmp_path_factory.mktemp("lake")), history, PRODUCTS, "name", build_products, ())


@settings(max_examples=3, deadline=None, suppress_health_check=_SLOW_EXAMPLES)
@given(_histories(_ORDERS))
def test_ranges_leave_the_groups_of_single_dates(tmp_path_factory: pytest.TempPathFactory, history: list[Step]) -> None:
    check_history(str(tmp_path_factory.mktemp("lake")), history, ITEMS, "product_id", build_lines, BY_ORDER)


@pytest.mark.slow
@settings(max_examples=14, deadline=None, suppress_health_check=_SLOW_EXAMPLES)
@given(_histories(_VERSIONS))
def test_many_ranges_leave_the_rows_of_single_dates(tmp_path_factory: pytest.TempPathFactory, history: list[Step]) -> None:
    check_history(str(tmp_path_factory.mktemp("lake")), history, PRODUCTS, "name", build_products, ())


@pytest.mark.slow
@settings(max_examples=14, deadline=None, suppress_health_check=_SLOW_EXAMPLES)
@given(_histories(_ORDERS))
def test_many_ranges_leave_the_groups_of_single_dates(tmp_path_factory: pytest.TempPathFactory, history: list[Step]) -> None:
    check_history(str(tmp_path_factory.mktemp("lake")), history, ITEMS, "product_id", build_lines, BY_ORDER)
