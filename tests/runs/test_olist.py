"""Compare a business date of Olist in gold with one query over the raw files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.runs.shop import DaybookHome

pytestmark = pytest.mark.slow
DAY = "2017-11-24"


@pytest.fixture(scope="module")
def landing(shared_data: Path) -> Path:
    return shared_data / "olist"


@pytest.fixture(scope="module")
def home(module_home: DaybookHome, landing: Path) -> DaybookHome:
    execution, record = module_home.run("olist", DAY, landing=str(landing))
    assert execution.status == "SUCCEEDED", record.reasons
    assert record.outcome == "SUCCEEDED"
    return module_home


def raw(landing: Path, query: str) -> list[tuple[object, ...]]:
    """Run a query over the raw CSV files, independent of Daybook."""
    with duckdb.connect() as connection:
        for name in ("orders", "order_items", "order_payments", "customers", "products"):
            file = f"{landing}/olist_{name}_dataset.csv"
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_csv('{file}', all_varchar=true, header=true)")
        connection.execute(
            f"CREATE VIEW translation AS SELECT * FROM "
            f"read_csv('{landing}/product_category_name_translation.csv', all_varchar=true, header=true)"
        )
        return connection.sql(query).fetchall()


def test_daily_sales_equal_one_query_over_the_raw_files(home: DaybookHome, landing: Path) -> None:
    (expected,) = raw(
        landing,
        f"""
        WITH day AS (SELECT * FROM orders WHERE order_purchase_timestamp LIKE '{DAY}%'),
        sold AS (
            SELECT d.order_id, i.price::DECIMAL(18,4) AS price FROM day d JOIN order_items i USING (order_id)
            WHERE d.order_status NOT IN ('canceled', 'unavailable') AND i.price::DECIMAL(18,4) > 0
        )
        SELECT (SELECT count(*) FROM day WHERE order_status NOT IN ('canceled', 'unavailable')),
               (SELECT count(*) FROM day WHERE order_status IN ('canceled', 'unavailable')),
               (SELECT count(*) FROM sold), (SELECT sum(price) FROM sold)
        """,
    )
    (found,) = home.engine("olist").rows(
        f"SELECT orders, cancelled_orders, units, gross_revenue, returns_amount, net_revenue, average_order_value "
        f"FROM gold.daily_sales WHERE order_date = DATE '{DAY}'"
    )
    orders, _, _, revenue = expected
    assert orders > 50
    assert found[:4] == expected
    assert found[4:6] == (Decimal(0), revenue)
    assert abs(found[6] - revenue / orders) < Decimal("0.0001")


def test_categories_are_translated_with_their_revenue(home: DaybookHome, landing: Path) -> None:
    expected = raw(
        landing,
        f"""
        SELECT coalesce(t.product_category_name_english, p.product_category_name, '(none)') AS category,
               sum(i.price::DECIMAL(18,4)), count(*)
        FROM orders o JOIN order_items i USING (order_id) LEFT JOIN products p USING (product_id)
        LEFT JOIN translation t ON t.product_category_name = p.product_category_name
        WHERE o.order_purchase_timestamp LIKE '{DAY}%' AND o.order_status NOT IN ('canceled', 'unavailable')
        GROUP BY 1 ORDER BY 1
        """,
    )
    found = home.engine("olist").rows("SELECT category, gross_revenue, units FROM gold.category_sales ORDER BY category")
    assert found == expected


def test_payments_by_method_equal_the_raw_files(home: DaybookHome, landing: Path) -> None:
    expected = raw(
        landing,
        f"""
        SELECT p.payment_type, count(*), count(DISTINCT order_id), sum(p.payment_value::DECIMAL(18,4))
        FROM orders o JOIN order_payments p USING (order_id)
        WHERE o.order_purchase_timestamp LIKE '{DAY}%' AND o.order_status NOT IN ('canceled', 'unavailable')
        GROUP BY 1 ORDER BY 1
        """,
    )
    found = home.engine("olist").rows("SELECT method, payments, orders, amount FROM gold.payment_mix ORDER BY method")
    assert found == expected


def test_new_and_returning_customers_add_up(home: DaybookHome, landing: Path) -> None:
    ((expected,),) = raw(
        landing,
        f"""
        SELECT count(DISTINCT customer_unique_id) FROM orders JOIN customers USING (customer_id)
        WHERE order_purchase_timestamp LIKE '{DAY}%' AND order_status NOT IN ('canceled', 'unavailable')
        """,
    )
    ((new, returning),) = home.engine("olist").rows("SELECT new_customers, returning_customers FROM gold.daily_sales")
    assert (new, returning) == (expected, 0)


def test_no_customer_id_is_in_silver_or_gold(home: DaybookHome, landing: Path) -> None:
    query = f"""
        SELECT customer_id, customer_unique_id FROM customers JOIN orders USING (customer_id)
        WHERE order_purchase_timestamp LIKE '{DAY}%'
    """
    people = {value for row in raw(landing, query) for value in row}
    assert people
    for table, rows in home.content("olist").items():
        assert not people & {value for row in rows for value in row if isinstance(value, str)}, table
