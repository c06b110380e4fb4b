"""Cases are recorded from a date in silver: few rows, under other names."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from daybook.errors import UsageError
from daybook.settings import Settings, load_settings
from daybook.testing.case import read_cases
from daybook.testing.recorder import record_case, save_cases
from daybook.testing.runner import CaseRunner
from tests.testing.small_shop import CITY, DAY, PERSON, write_small_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a lake: a day with two ways of sales, a cancelled order and a return."""
    lake = tmp_path_factory.mktemp("recorded") / "lake"
    settings = load_settings("local", {"lake": str(lake)})
    write_small_shop(settings)
    return settings


def test_sample_has_one_order_for_each_way(shop: Settings) -> None:
    case = record_case(shop, "gold.daily_sales", DAY, rows=5)
    orders = [(row["status"], "customer_key" in row, row["order_date"]) for row in case.given["silver.orders"]]
    assert sorted(orders) == [
        ("cancelled", False, "2025-11-30"),
        ("delivered", False, "2025-11-30"),
        ("delivered", True, "2025-11-01"),
        ("delivered", True, "2025-11-30"),
        ("delivered", True, "2025-11-30"),
    ]
    assert len(case.given["silver.order_items"]) == 4
    (row,) = case.expect
    expected = {
        "orders": "3",
        "cancelled_orders": "1",
        "returns_amount": "2.5",
        "new_customers": "1",
        "returning_customers": "1",
    }
    assert {name: row[name] for name in expected} == expected


def test_case_has_only_columns_that_cells_read(shop: Settings) -> None:
    case = record_case(shop, "gold.daily_sales", DAY, rows=5)
    assert {name for row in case.given["silver.orders"] for name in row} == {
        "order_id",
        "customer_key",
        "order_date",
        "status",
    }
    assert "silver.products" not in case.given
    assert case.parameters == {"run_date": "2025-11-30", "returns_count_on": "order_date"}


def test_ids_and_personal_texts_are_replaced(shop: Settings, tmp_path: Path) -> None:
    for table in ("gold.daily_sales", "gold.product_sales", "gold.customer_rfm", "all_orders"):
        path = tmp_path / f"{table}.yaml"
        save_cases(path, [record_case(shop, table, DAY, rows=3)])
        text = path.read_text(encoding="utf-8")
        assert not [each for each in (CITY, PERSON, "SHOP-", "SKU-", "toys", f"{1:032x}") if each in text]


def test_number_of_expected_rows_is_limited(shop: Settings) -> None:
    assert [len(record_case(shop, "gold.customer_rfm", DAY, rows=rows).expect) for rows in (1, 4)] == [1, 4]


def test_day_without_known_persons_is_recorded(shop: Settings) -> None:
    case = record_case(shop, "gold.daily_sales", date(2025, 11, 29), rows=5)
    assert [row["order_date"] for row in case.given["silver.orders"]] == ["2025-11-29"]
    assert case.expect[0]["returns_amount"] == "2.5"


def test_return_of_an_earlier_order_is_recorded(shop: Settings) -> None:
    returning = load_settings("local", {"lake": shop.lake, "returns_count_on": "return_date"})
    case = record_case(returning, "gold.daily_sales", DAY, rows=5)
    (line,) = [row for row in case.given["silver.order_items"] if "returned_at" in row]
    (order,) = [row for row in case.given["silver.orders"] if row["order_id"] == line["order_id"]]
    assert (order["order_date"], line["returned_at"]) == ("2025-11-29", "2025-11-30 10:00:00+01:00")
    assert case.parameters["returns_count_on"] == "return_date"


def test_recorded_case_passes_and_notices_a_change(shop: Settings, tmp_path: Path) -> None:
    path = tmp_path / "cases.yaml"
    save_cases(path, [record_case(shop, "gold.daily_sales", DAY, rows=5)])
    (case,) = read_cases(path)
    assert CaseRunner().run(case).passed
    changed = case.model_copy(update={"parameters": {**case.parameters, "run_date": "2025-11-29"}})
    assert not CaseRunner().run(changed).passed


@pytest.mark.parametrize(
    ("table", "day", "message"),
    [
        ("gold.daily_sale", DAY, "No cell defines gold.daily_sale; did you mean gold.daily_sales"),
        ("silver.orders", DAY, "silver.orders is not computed from silver"),
        ("from_candidates", DAY, "reads candidate.category_sales"),
        ("gold.daily_sales", date(2020, 1, 1), "silver.orders has no rows of 2020-01-01"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(shop: Settings, table: str, day: date, message: str) -> None:
    with pytest.raises(UsageError) as error:
        record_case(shop, table, day, rows=5)
    assert message in str(error.value)
