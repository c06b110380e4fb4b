"""Test that a date maps to local midnight, and that a landing with orders of other dates only is rejected."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.faults.instants_support import HERE, Shop, shop

NAMES = ("params_dateshift.yaml", "sources_dateshift.yaml", "contract_dateshift.yaml")
DAYS = ("2025-01-01", "2025-01-02", "2025-01-03")
AS_BEFORE = "CAST(CAST(min(day) AS VARCHAR) || ' 00:00:00Z' AS TIMESTAMPTZ)"


@pytest.fixture
def dateshift(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch, "dateshift", "date_shift", NAMES) as opened:
        for day in DAYS:
            lay_day(opened, day, (HERE / "date_shift" / f"sales_{day}.csv").read_text(encoding="utf-8"))
        yield opened


def lay_day(odd_shop: Shop, day: str, text: str) -> None:
    odd_shop.land(f"sales_{day}.csv", text)


def gross(odd_shop: Shop) -> dict[str, Decimal]:
    return {str(day): value for day, value in odd_shop.rows("SELECT order_date, gross_revenue FROM gold.daily_sales")}


def test_date_is_local_midnight_west_of_utc(dateshift):
    assert [dateshift.run(day) for day in DAYS] == ["SUCCEEDED"] * 3
    assert gross(dateshift) == {"2025-01-01": 10, "2025-01-02": 200, "2025-01-03": 3000}


def test_shifted_orders_add_no_revenue_to_other_dates(dateshift):
    dateshift.project.replace("params/sources/dateshift.yaml", "min(day)", f'"{AS_BEFORE}"')
    for day in (*DAYS, "2025-01-02", "2025-01-01"):
        assert dateshift.run(day) == "REJECTED"
        assert dateshift.ended.name == "transform"
        refused = {each["about"]: each["waivable"] for each in dateshift.ended.details["refused"]}
        assert refused["silver.orders: the landing has orders of its own date"]
    assert dateshift.rows("SELECT count(*) FROM silver.orders") == [(0,)]


def test_shifted_landing_adds_no_revenue_to_other_dates(dateshift):
    assert dateshift.run(DAYS[0]) == "SUCCEEDED"
    lay_day(dateshift, DAYS[1], f"order,day,product,qty,price\nA2,{DAYS[0]},P1,1,200.00\n")
    assert [dateshift.run(DAYS[1]), dateshift.run(DAYS[0])] == ["REJECTED", "SUCCEEDED"]
    assert gross(dateshift) == {DAYS[0]: 10}


@pytest.mark.parametrize(
    ("zone", "day"), [("America/Sao_Paulo", "2018-11-04"), ("Asia/Beirut", "2024-03-31"), ("Pacific/Kiritimati", "2025-01-02")]
)
def test_date_keeps_its_day_where_midnight_is_skipped(dateshift, zone, day):
    dateshift.project.replace("params/dateshift.yaml", "America/New_York", zone)
    lay_day(dateshift, day, f"order,day,product,qty,price\nB1,{day},P1,1,10.00\n")
    assert dateshift.run(day) == "SUCCEEDED"
    assert gross(dateshift) == {day: 10}


@pytest.mark.parametrize("order", [DAYS[:2], DAYS[1::-1]])
def test_day_of_changes_has_one_outcome_in_any_order(dateshift, order):
    lay_day(dateshift, DAYS[1], "order,day,product,qty,price\nA1,2025-01-01,P1,2,10.00\n")
    outcomes = {day: dateshift.run(day) for day in order}
    assert outcomes == {DAYS[0]: "SUCCEEDED", DAYS[1]: "REJECTED"}
    assert dateshift.rows("SELECT quantity FROM silver.order_items") == [(1,)]


def test_late_orders_with_own_orders_pass(dateshift):
    lay_day(dateshift, DAYS[1], "order,day,product,qty,price\nA9,2025-01-01,P1,2,10.00\nA2,2025-01-02,P1,1,200.00\n")
    assert [dateshift.run(day) for day in DAYS[:2]] == ["SUCCEEDED"] * 2
    assert gross(dateshift) == {"2025-01-01": 30, "2025-01-02": 200}
