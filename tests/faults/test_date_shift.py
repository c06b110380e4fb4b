"""Test dates mapped to times: a date is local midnight, and orders of other dates only are rejected."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.faults.conftest import FAULTS, Shop

pytestmark = pytest.mark.slow

DAYS = ("2025-01-01", "2025-01-02", "2025-01-03")
UTC_MIDNIGHT = "CAST(CAST(min(day) AS VARCHAR) || ' 00:00:00Z' AS TIMESTAMPTZ)"


@pytest.fixture
def dateshift(shop: Shop) -> Shop:
    deployed = shop.deploy("date_shift", "dateshift")
    deployed.land_files(".", *(FAULTS / "date_shift").glob("*.csv"))
    return deployed


def gross(shop: Shop) -> dict[str, Decimal]:
    return {str(day): value for day, value in shop.rows("SELECT order_date, gross_revenue FROM gold.daily_sales")}


def test_date_is_local_midnight_west_of_utc(dateshift):
    assert [dateshift.run(day).outcome for day in DAYS] == ["SUCCEEDED"] * 3
    assert gross(dateshift) == {"2025-01-01": 10, "2025-01-02": 200, "2025-01-03": 3000}


def test_shifted_orders_never_become_another_dates_revenue(dateshift):
    dateshift.project.replace("params/sources/dateshift.yaml", "min(day)", f'"{UTC_MIDNIGHT}"')
    for day in (*DAYS, "2025-01-02", "2025-01-01"):
        ran = dateshift.run(day)
        assert (ran.outcome, ran.last.name) == ("REJECTED", "transform")
        refused = {each["about"]: each["waivable"] for each in ran.last.details["refused"]}
        assert refused["silver.orders: the landing has orders of its own date"]
    assert dateshift.rows("SELECT count(*) FROM silver.orders") == [(0,)]


def test_rejected_landing_changes_no_other_date(dateshift):
    assert dateshift.run(DAYS[0]).outcome == "SUCCEEDED"
    dateshift.land(f"sales_{DAYS[1]}.csv", f"order,day,product,qty,price\nA2,{DAYS[0]},P1,1,200.00\n")
    assert [dateshift.run(DAYS[1]).outcome, dateshift.run(DAYS[0]).outcome] == ["REJECTED", "SUCCEEDED"]
    assert gross(dateshift) == {DAYS[0]: 10}


@pytest.mark.parametrize(
    ("zone", "day"), [("America/Sao_Paulo", "2018-11-04"), ("Asia/Beirut", "2024-03-31"), ("Pacific/Kiritimati", "2025-01-02")]
)
def test_date_keeps_its_day_where_midnight_is_skipped(dateshift, zone, day):
    dateshift.project.replace("params/dateshift.yaml", "America/New_York", zone)
    dateshift.land(f"sales_{day}.csv", f"order,day,product,qty,price\nB1,{day},P1,1,10.00\n")
    assert dateshift.run(day).outcome == "SUCCEEDED"
    assert gross(dateshift) == {day: 10}


@pytest.mark.parametrize("order", [DAYS[:2], DAYS[1::-1]])
def test_date_of_changes_only_is_rejected_in_any_order(dateshift, order):
    dateshift.land(f"sales_{DAYS[1]}.csv", "order,day,product,qty,price\nA1,2025-01-01,P1,2,10.00\n")
    outcomes = {day: dateshift.run(day).outcome for day in order}
    assert outcomes == {DAYS[0]: "SUCCEEDED", DAYS[1]: "REJECTED"}
    assert dateshift.rows("SELECT quantity FROM silver.order_items") == [(1,)]


def test_late_orders_beside_the_dates_own_pass(dateshift):
    dateshift.land(f"sales_{DAYS[1]}.csv", "order,day,product,qty,price\nA9,2025-01-01,P1,2,10.00\nA2,2025-01-02,P1,1,200.00\n")
    assert [dateshift.run(day).outcome for day in DAYS[:2]] == ["SUCCEEDED"] * 2
    assert gross(dateshift) == {"2025-01-01": 30, "2025-01-02": 200}
