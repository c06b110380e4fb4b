"""Test whether a returned line counts on the date of its order or of its return (``returns_count_on``)."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Optional

import pytest

from daybook.notebook import affected_dates
from daybook.notebook import context as stages
from daybook.settings import load_settings
from tests.notebook.histories import DAYS, Landing, Run, list_stale_dates, moment, read_tables

pytestmark = pytest.mark.slow

EARLY, MIDDLE, LATE = DAYS
BY_ORDER, BY_RETURN = "order_date", "return_date"
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quiet(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no results."""
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "lake")


def order(name: str, placed: date, *, status: str = "paid", version: int = 1) -> Row:
    return {
        "order_id": name, "customer_key": None, "ordered_at": moment(placed, 12), "status": status,
        "version_at": moment(EARLY, version),
    }  # fmt: skip


def sold(name: str, price: str) -> Row:
    return line(name, 1, 1, price, None, 1)


def returned(name: str, price: str, at: Optional[datetime], version: int = 1) -> Row:
    return line(name, 1001, -1, price, at, version)


def line(name: str, number: int, pieces: int, price: str, at: Optional[datetime], version: int) -> Row:
    return {
        "order_id": name, "line_number": number, "product_id": "p1", "quantity": pieces, "unit_price": Decimal(price),
        "is_return": pieces < 0, "returned_at": at, "version_at": moment(EARLY, version),
    }  # fmt: skip


def product(category: str, version: int) -> Row:
    return {"product_id": "p1", "name": "p1", "category": category, "version_at": moment(EARLY, version)}


class Shop:
    """A lake with one value of the setting; every run is reconciled with silver before it publishes."""

    def __init__(self, root: str, returns_count_on: str) -> None:
        self.root, self.returns_count_on, self.number = root, returns_count_on, 0

    def begin(self, day: date, orders: list[Row], lines: list[Row], products: Optional[list[Row]] = None) -> Run:
        """Return a run of a date that has not begun yet."""
        self.number += 1
        rows = {"orders": orders, "order_items": lines, "products": products or []}
        landing = Landing(day, {"customers": [], "payments": [], "reviews": [], **rows})
        return Run(self.root, landing, number=self.number, gate=True, returns_count_on=self.returns_count_on)

    def run(self, day: date, orders: list[Row], lines: list[Row], products: Optional[list[Row]] = None) -> None:
        """Run all stages of a date."""
        self.begin(day, orders, lines, products).finish()

    def returns(self) -> dict[date, int]:
        """Return each date's returns; require that the three tables agree and that net is gross less returns."""
        rows = read_tables(self.root)
        found = {row[0]: int(row[5]) for row in rows["gold.daily_sales"]}
        assert all(row[6] == row[4] - row[5] for row in rows["gold.daily_sales"])
        for table in ("gold.category_sales", "gold.product_sales"):
            parts = dict.fromkeys(found, 0)
            for day, *_, gross, back, net in rows[table]:
                parts[day] += int(back)
                assert net == gross - back
            assert parts == found
        assert list_stale_dates(self.root) == []
        return found


@pytest.fixture(params=[BY_ORDER, BY_RETURN])
def shop(request: pytest.FixtureRequest, root: str) -> Shop:
    """Return a shop for each value of the setting."""
    return Shop(root, request.param)


@pytest.fixture
def by_return(root: str) -> Shop:
    """Return a shop whose returns count on the date of the return."""
    return Shop(root, BY_RETURN)


def test_returned_line_counts_on_chosen_date(shop: Shop) -> None:
    shop.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    shop.run(MIDDLE, [order("o2", MIDDLE)], [sold("o2", "20"), returned("o1", "10", moment(MIDDLE, 9))])
    expected = {BY_ORDER: {EARLY: 10, MIDDLE: 0}, BY_RETURN: {EARLY: 0, MIDDLE: 10}}
    assert shop.returns() == expected[shop.returns_count_on]
    figures = {row[0]: row[1:5] for row in read_tables(shop.root)["gold.daily_sales"]}
    assert figures == {EARLY: (1, 0, 1, 10), MIDDLE: (1, 0, 1, 20)}


def test_order_date_is_the_default() -> None:
    assert load_settings("olist").returns_count_on == BY_ORDER


def test_returned_line_without_date_counts_on_order_date(shop: Shop) -> None:
    shop.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    shop.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "10", None)])
    assert shop.returns() == {EARLY: 10, MIDDLE: 0}


def test_return_counts_on_the_shops_local_day(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    late_evening = datetime(EARLY.year, EARLY.month, EARLY.day, 23, 30, tzinfo=timezone.utc)
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "10", late_evening)])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10}


def test_day_with_returns_and_no_orders_has_a_row(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    by_return.run(MIDDLE, [], [returned("o1", "10", moment(MIDDLE, 9))])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10}
    (row,) = [row for row in read_tables(by_return.root)["gold.daily_sales"] if row[0] == MIDDLE]
    assert row == (MIDDLE, 0, 0, 0, 0, 10, -10, None, 0, 0, 0)


@pytest.mark.smoke
def test_late_return_restates_its_own_day(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [])
    by_return.run(LATE, [], [returned("o1", "10", moment(MIDDLE, 9))])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10}


def test_corrected_return_date_restates_both_days(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "10", moment(MIDDLE, 9))])
    by_return.run(LATE, [order("o3", LATE)], [returned("o1", "10", moment(EARLY, 15), version=2)])
    assert by_return.returns() == {EARLY: 10, MIDDLE: 0, LATE: 0}


def test_withdrawn_return_restates_its_day(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [])
    by_return.run(LATE, [order("o3", LATE)], [returned("o1", "10", moment(MIDDLE, 9))])
    by_return.run(LATE, [order("o3", LATE)], [])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 0, LATE: 0}


def test_order_after_its_return_restates_return_day(by_return: Shop) -> None:
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "10", moment(MIDDLE, 9))])
    assert by_return.returns() == {MIDDLE: 0}
    by_return.run(EARLY, [order("o1", EARLY)], [])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10}


def test_order_that_becomes_an_adjustment_restates_return_day(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")])
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "4", moment(MIDDLE, 9))])
    by_return.run(LATE, [order("o1", EARLY, status="adjustment", version=2), order("o3", LATE)], [])
    assert by_return.returns() == {EARLY: 0, MIDDLE: 0, LATE: 0}
    adjusted = {row[0]: row[8] for row in read_tables(by_return.root)["gold.daily_sales"]}
    assert adjusted == {EARLY: 6, MIDDLE: 0, LATE: 0}


def test_corrected_category_restates_return_day(by_return: Shop) -> None:
    by_return.run(EARLY, [order("o1", EARLY)], [sold("o1", "10")], [product("Tea", 1)])
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [returned("o1", "10", moment(MIDDLE, 9))])
    by_return.run(LATE, [order("o3", LATE)], [], [product("Toys", 2)])
    assert {row[:2] for row in read_tables(by_return.root)["gold.category_sales"]} == {(EARLY, "Toys"), (MIDDLE, "Toys")}
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10, LATE: 0}


def test_return_that_lands_while_its_order_merges_is_counted(by_return: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    by_return.run(MIDDLE, [order("o2", MIDDLE)], [])
    bringing_order = by_return.begin(EARLY, [order("o1", EARLY)], [])
    bringing_return = by_return.begin(LATE, [], [returned("o1", "10", moment(MIDDLE, 9))])
    note = affected_dates.StaleDateTracker.note

    def note_and_wait(watch: Any, contract: Any, changes: Any) -> None:
        note(watch, contract, changes)
        if contract.name == "orders" and watch.stage.run_date == EARLY:
            bringing_return.finish()

    monkeypatch.setattr(affected_dates.StaleDateTracker, "note", note_and_wait)
    bringing_order.finish()
    assert by_return.returns() == {EARLY: 0, MIDDLE: 10}


def test_returns_of_dates_that_never_landed_give_a_warning(root: str) -> None:
    shop = Shop(root, BY_RETURN)
    shop.run(EARLY, [order("o1", EARLY)], [sold("o1", "7"), returned("o1", "7", moment(LATE, 9))])
    last = shop.begin(EARLY, [order("o1", EARLY)], [sold("o1", "7"), returned("o1", "7", moment(LATE, 9))])
    last.finish()
    assert last.last is not None
    assert last.last.engine.rows("SELECT * FROM undated_returns") == [(1, Decimal(7), LATE, LATE)]
    by_order = Shop(f"{root}-by-order", BY_ORDER).begin(EARLY, [order("o1", EARLY)], [sold("o1", "7")])
    by_order.finish()
    assert by_order.last is not None
    assert by_order.last.engine.rows("SELECT returned_lines FROM undated_returns") == [(0,)]
