"""Test that adjustments are not sales, with a real shop's corrections of bad debt: +11,062.06 once, -11,062.06 twice."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from tests.sessions import new_session

pytestmark = pytest.mark.slow

LANDING = Path(__file__).parent / "bad_debt"
DAY = "2011-08-12"
GROSS = Decimal("25.50") + Decimal("29.50")
RETURNED = Decimal("12.75")


@pytest.fixture(scope="module", params=["order_date", "return_date"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    """Return the lake after a day of two sales, a return and three corrections of bad debt."""
    folder = tmp_path_factory.mktemp("shop")
    overrides = {"landing": str(LANDING), "lake": str(folder / "lake"), "pii_key": str(folder / "pii.key")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_HOME", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.chdir(folder)
        patch.setattr(stages, "current", None)
        with new_session() as session:
            overrides["returns_count_on"] = request.param
            assert session.run_day(DAY, 1, overrides, env="online_retail") == "SUCCEEDED"
        yield DuckDBEngine(Lake(overrides["lake"]), "Europe/London")


def test_daily_sales_leave_both_signs_out(shop: DuckDBEngine) -> None:
    figures = "orders, cancelled_orders, units, gross_revenue, returns_amount, net_revenue, average_order_value"
    assert shop.rows(f"SELECT {figures} FROM gold.daily_sales") == [(2, 1, 12, GROSS, RETURNED, GROSS - RETURNED, GROSS / 2)]


def test_adjustments_have_a_column_of_their_own(shop: DuckDBEngine) -> None:
    assert shop.rows("SELECT adjustments_amount FROM gold.daily_sales") == [(Decimal("-11062.06"),)]


@pytest.mark.parametrize("table", ["category_sales", "product_sales"])
def test_parts_of_a_day_leave_both_signs_out(shop: DuckDBEngine, table: str) -> None:
    sums = "sum(units), sum(gross_revenue), sum(returns_amount), max(gross_revenue)"
    assert shop.rows(f"SELECT {sums} FROM gold.{table}")[0][:3] == (12, GROSS, RETURNED)
    assert shop.rows(f"SELECT max(gross_revenue) FROM gold.{table}")[0][0] <= GROSS


def test_customers_are_those_who_bought(shop: DuckDBEngine) -> None:
    found = shop.rows("SELECT frequency, monetary FROM gold.customer_rfm ORDER BY monetary")
    assert found == [(1, Decimal("25.50")), (1, Decimal("29.50"))]
