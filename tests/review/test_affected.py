"""Test which columns a change of queries affects, on small notebooks."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.contracts import Table, load_tables
from daybook.review.affected import Effect, trace_effect

BEFORE = {
    "base": "SELECT order_id, order_date, lower(status) AS status FROM mapped.orders WHERE order_id IS NOT NULL",
    "silver.orders": "SELECT * FROM base",
    "names": "SELECT product_id, max(name) AS name FROM mapped.products GROUP BY product_id",
    "gold.daily_sales": """
        WITH counts AS (
          SELECT order_date, COUNT(*) AS orders, COUNT(CASE WHEN status = 'x' THEN 1 END) AS cancelled_orders
          FROM silver.orders GROUP BY order_date
        ), firsts AS (SELECT order_date, MIN(name) AS first_name FROM mapped.names GROUP BY order_date)
        SELECT c.order_date, c.orders, c.cancelled_orders, f.first_name AS units, $rate * c.orders AS gross_revenue
        FROM counts AS c LEFT JOIN firsts AS f ON f.order_date = c.order_date
    """,
    "gold.product_sales": """
        SELECT product_id, name AS category FROM names
        UNION ALL SELECT product_id, 'none' AS category FROM mapped.others WHERE {{ a.flag }}
    """,
}


@pytest.fixture
def contracts() -> dict[str, Table]:
    return {**load_tables("silver"), **load_tables("gold")}


def effect_of(contracts: dict[str, Table], changes: dict[str, tuple[str, str]], **given: Any) -> Effect:
    """Return the effect of replacing texts in the queries of the notebook."""
    after = dict(BEFORE)
    for name, (old, new) in changes.items():
        assert old in after[name]
        after[name] = after[name].replace(old, new)
    return trace_effect({"a.ipynb": BEFORE}, {"a.ipynb": after}, contracts, **given)


def affected(effect: Effect) -> dict[str, Any]:
    """Return the affected columns by table, as ``all`` or by their names."""
    assert effect.unread == []
    found: dict[str, Any] = {}
    for each in effect.affected:
        found.setdefault(each.table, set()).update(each.columns or ["all"])
    return found


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("base", "lower(status)", "upper(status)", {"silver.orders": {"status"}, "gold.daily_sales": {"cancelled_orders"}}),
        ("base", "IS NOT NULL", "> ''", {"silver.orders": {"all"}, "gold.daily_sales": {"all"}}),
        ("names", "max(name)", "min(name)", {"gold.product_sales": {"category"}}),
        ("gold.daily_sales", "'x'", "'y'", {"gold.daily_sales": {"cancelled_orders"}}),
        ("gold.daily_sales", "MIN(name)", "MAX(name)", {"gold.daily_sales": {"units"}}),
        ("gold.daily_sales", "$rate * c.orders", "$rate", {"gold.daily_sales": {"gross_revenue"}}),
        ("gold.daily_sales", "ON f.order_date", "ON c.orders > 1 AND f.order_date", {"gold.daily_sales": {"units"}}),
        ("gold.daily_sales", "LEFT JOIN", "JOIN", {"gold.daily_sales": {"all"}}),
        ("gold.daily_sales", "FROM counts", "FROM (SELECT * FROM counts)", {"gold.daily_sales": {"all"}}),
        ("gold.product_sales", "'none'", "'other'", {"gold.product_sales": {"category"}}),
        ("gold.product_sales", "a.flag", "a.other", {"gold.product_sales": {"all"}}),
        ("gold.product_sales", "UNION ALL", "UNION", {"gold.product_sales": {"all"}}),
        ("gold.product_sales", "product_id, name AS category", "name AS category, product_id", {"gold.product_sales": {"all"}}),
    ],
)
def test_changed_query_affects_columns(
    contracts: dict[str, Table], name: str, old: str, new: str, expected: dict[str, set[str]]
) -> None:
    assert affected(effect_of(contracts, {name: (old, new)})) == expected


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("base", "SELECT order_id,", "select  -- the key\n  ORDER_ID,"),
        ("gold.product_sales", "{{ a.flag }}", "{{a.flag}}"),
        ("names", "GROUP BY product_id", "GROUP BY product_id ORDER BY 1"),
    ],
)
def test_layout_comments_and_order_affect_nothing(contracts: dict[str, Table], name: str, old: str, new: str) -> None:
    effect = effect_of(contracts, {name: (old, new)})
    assert affected(effect) == {}
    assert effect.same_queries == ({("a.ipynb", name)} if "ORDER BY" not in new else set())


def test_changed_query_is_not_the_same(contracts: dict[str, Table]) -> None:
    assert effect_of(contracts, {"base": ("lower", "upper")}).same_queries == set()


def test_setting_affects_the_queries_that_read_it(contracts: dict[str, Table]) -> None:
    effect = effect_of(contracts, {}, settings={"rate", "other"})
    assert affected(effect) == {"gold.daily_sales": {"gross_revenue"}}
    assert effect.affected[0].values_from == ["$rate"]
    assert effect.reads == {"gold.daily_sales": {"$rate"}}


def test_column_of_a_mapping_affects_its_readers(contracts: dict[str, Table]) -> None:
    effect = effect_of(contracts, {}, columns={"mapped.orders.status"})
    assert affected(effect) == {"silver.orders": {"status"}, "gold.daily_sales": {"cancelled_orders"}}
    kinds = {each.table: (each.values_from, each.decided_by) for each in effect.affected}
    assert kinds == {"silver.orders": (["mapped.orders.status"], []), "gold.daily_sales": ([], ["mapped.orders.status"])}
    assert effect.reads == {"base": {"mapped.orders"}, "silver.orders": {"base"}, "gold.daily_sales": {"silver.orders"}}
    assert affected(effect_of(contracts, {}, columns={"mapped.products.*"})) == {"gold.product_sales": {"all"}}


def test_several_causes_are_told_apart(contracts: dict[str, Table]) -> None:
    effect = effect_of(contracts, {"base": ("IS NOT NULL", "> ''"), "gold.daily_sales": ("'x'", "'y'")})
    causes = {column: each.causes for each in effect.affected if each.table == "gold.daily_sales" for column in each.columns}
    assert causes["orders"] == ["base"]
    assert causes["cancelled_orders"] == ["gold.daily_sales", "base"]


def test_unreadable_query_is_named_and_others_are_traced(contracts: dict[str, Table]) -> None:
    effect = effect_of(contracts, {"names": ("GROUP BY", "GROUP"), "gold.daily_sales": ("'x'", "'y'")})
    assert [each.table for each in effect.affected] == ["gold.daily_sales"]
    assert "names cannot be parsed" in effect.unread[0]
