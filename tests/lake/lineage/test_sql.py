"""Test the lineage of each SQL construct that Daybook's queries use."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from daybook.errors import LineageError
from daybook.lake.lineage.sql import LineageReader

TABLES = {
    "silver.orders": ["order_id", "customer_key", "order_date", "status"],
    "silver.items": ["order_id", "line", "product_id", "quantity", "price"],
    "silver.products": ["product_id", "category"],
    "days": ["day"],
}
KEYS = {"silver.orders": ["order_id"], "silver.items": ["order_id", "line"], "silver.products": ["product_id"]}


def lineage(sql: str, **views: str) -> dict[str, Any]:
    """Return the lineage of a table ``t`` that the query defines; it can read the views."""
    reader = LineageReader({**views, "t": sql}, TABLES.__getitem__, stored_names=["t"], keys=KEYS)
    return reader.entry("t")


def column(sql: str, name: Optional[str] = None, **views: str) -> dict[str, list[str]]:
    """Return the sources of one column without those of the table's rows; by default of the only column."""
    columns = lineage(sql, **views)["columns"]
    if name is None:
        ((_, sources),) = columns.items()
        return dict(sources)
    return dict(columns[name])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT status FROM silver.orders", {"silver.orders.status": ["IDENTITY"]}),
        ("SELECT status AS s FROM silver.orders", {"silver.orders.status": ["IDENTITY"]}),
        ("SELECT Status FROM silver.orders AS O", {"silver.orders.status": ["IDENTITY"]}),
        ("SELECT orders.status FROM silver.orders", {"silver.orders.status": ["IDENTITY"]}),
        ("SELECT silver.orders.status FROM silver.orders", {"silver.orders.status": ["IDENTITY"]}),
        ("SELECT upper(status) AS s FROM silver.orders", {"silver.orders.status": ["TRANSFORMATION"]}),
        (
            "SELECT quantity * price AS amount FROM silver.items",
            {"silver.items.price": ["TRANSFORMATION"], "silver.items.quantity": ["TRANSFORMATION"]},
        ),
        ("SELECT sum(quantity) AS q FROM silver.items", {"silver.items.quantity": ["AGGREGATION"]}),
        ("SELECT abs(sum(quantity)) + 1 AS q FROM silver.items", {"silver.items.quantity": ["AGGREGATION"]}),
        ("SELECT count(*) AS n FROM silver.items", {}),
        ("SELECT 'BR' AS country FROM silver.items", {}),
        (
            "SELECT CASE status WHEN 'a' THEN customer_key ELSE order_id END AS c FROM silver.orders",
            {
                "silver.orders.customer_key": ["TRANSFORMATION"],
                "silver.orders.order_id": ["TRANSFORMATION"],
                "silver.orders.status": ["CONDITIONAL"],
            },
        ),
        (
            "SELECT CASE WHEN 'a' = 'b' AND price > 0 THEN quantity ELSE line END AS c FROM silver.items",
            {"silver.items.line": ["TRANSFORMATION"]},
        ),
        (
            "SELECT CASE WHEN 'a' = 'a' AND price > 0 THEN quantity ELSE line END AS c FROM silver.items",
            {
                "silver.items.line": ["TRANSFORMATION"],
                "silver.items.price": ["CONDITIONAL"],
                "silver.items.quantity": ["TRANSFORMATION"],
            },
        ),
        (
            "SELECT sum(CASE WHEN price > 0 THEN quantity END) AS c FROM silver.items",
            {"silver.items.price": ["CONDITIONAL"], "silver.items.quantity": ["AGGREGATION"]},
        ),
        (
            "SELECT if(price > 0, quantity, 0) AS c FROM silver.items",
            {"silver.items.price": ["CONDITIONAL"], "silver.items.quantity": ["TRANSFORMATION"]},
        ),
        (
            "SELECT sum(quantity) FILTER (WHERE price > 0) AS c FROM silver.items",
            {"silver.items.price": ["CONDITIONAL"], "silver.items.quantity": ["AGGREGATION"]},
        ),
        (
            "SELECT row_number() OVER (PARTITION BY order_id ORDER BY line DESC) AS n FROM silver.items",
            {"silver.items.line": ["WINDOW"], "silver.items.order_id": ["WINDOW"]},
        ),
        (
            "SELECT sum(price) OVER (PARTITION BY order_id) AS n FROM silver.items",
            {"silver.items.order_id": ["WINDOW"], "silver.items.price": ["AGGREGATION"]},
        ),
        ("SELECT (SELECT max(day) FROM days) AS newest FROM silver.items", {"days.day": ["AGGREGATION"]}),
        (
            "SELECT (SELECT max(line) FROM silver.items AS i WHERE i.order_id = o.order_id) AS m FROM silver.orders AS o",
            {"silver.items.line": ["AGGREGATION"], "silver.items.order_id": ["FILTER"], "silver.orders.order_id": ["FILTER"]},
        ),
        (
            "WITH a AS (SELECT quantity AS q FROM silver.items), b AS (SELECT q + 1 AS r FROM a) SELECT sum(r) AS s FROM b",
            {"silver.items.quantity": ["AGGREGATION"]},
        ),
        ("SELECT s.x FROM (SELECT lower(status) AS x FROM silver.orders) AS s", {"silver.orders.status": ["TRANSFORMATION"]}),
        (
            "SELECT status FROM silver.orders UNION ALL SELECT category AS other FROM silver.products",
            {"silver.orders.status": ["IDENTITY"], "silver.products.category": ["IDENTITY"]},
        ),
    ],
)
def test_sources_of_values(sql: str, expected: dict[str, list[str]]) -> None:
    assert column(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT status FROM silver.orders", {}),
        ("SELECT status FROM silver.orders ORDER BY order_date", {}),
        ("SELECT status FROM silver.orders WHERE order_date > DATE '2025-01-01'", {"silver.orders.order_date": ["FILTER"]}),
        (
            "SELECT status FROM silver.orders WHERE order_date IN (SELECT day FROM days)",
            {"days.day": ["FILTER"], "silver.orders.order_date": ["FILTER"]},
        ),
        (
            "SELECT status FROM silver.orders AS o WHERE EXISTS (SELECT 1 FROM silver.items i WHERE i.order_id = o.order_id)",
            {"silver.items.order_id": ["FILTER"], "silver.orders.order_id": ["FILTER"]},
        ),
        ("SELECT status, count(*) AS n FROM silver.orders GROUP BY status", {"silver.orders.status": ["GROUP_BY"]}),
        ("SELECT status, count(*) AS n FROM silver.orders GROUP BY 1", {"silver.orders.status": ["GROUP_BY"]}),
        ("SELECT count(*) AS n FROM silver.orders WHERE status = 'paid'", {}),
        ("SELECT DISTINCT status FROM silver.orders", {"silver.orders.status": ["GROUP_BY"]}),
        ("SELECT status FROM silver.orders ORDER BY order_date LIMIT 1", {"silver.orders.order_date": ["SORT"]}),
        (
            "SELECT order_id FROM silver.items QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY line) = 1",
            {"silver.items.line": ["WINDOW"], "silver.items.order_id": ["WINDOW"]},
        ),
        (
            "SELECT status, count(*) AS n FROM silver.orders GROUP BY status HAVING max(order_date) > DATE '2025-01-01'",
            {"silver.orders.order_date": ["FILTER"], "silver.orders.status": ["GROUP_BY"]},
        ),
        (
            "SELECT o.status FROM silver.orders AS o JOIN silver.items AS i ON i.order_id = o.order_id",
            {"silver.items.order_id": ["JOIN"], "silver.orders.order_id": ["JOIN"]},
        ),
        (
            "SELECT o.status FROM silver.orders AS o JOIN silver.items AS i USING (order_id)",
            {"silver.items.order_id": ["JOIN"], "silver.orders.order_id": ["JOIN"]},
        ),
        (
            "SELECT status FROM silver.orders UNION SELECT category FROM silver.products",
            {"silver.orders.status": ["GROUP_BY"], "silver.products.category": ["GROUP_BY"]},
        ),
    ],
)
def test_sources_of_rows(sql: str, expected: dict[str, list[str]]) -> None:
    assert lineage(sql)["rows"] == expected


def test_count_depends_on_filters() -> None:
    assert column("SELECT count(*) AS n FROM silver.orders WHERE status = 'paid'") == {"silver.orders.status": ["FILTER"]}


def test_left_join_to_a_unique_key_affects_its_columns_only() -> None:
    joined = "FROM silver.items AS i LEFT JOIN silver.products AS p ON p.product_id = i.product_id"
    found = lineage(f"SELECT i.line, p.category {joined}")
    assert found["rows"] == {}
    assert found["columns"]["line"] == {"silver.items.line": ["IDENTITY"]}
    assert found["columns"]["category"] == {
        "silver.items.product_id": ["JOIN"],
        "silver.products.category": ["IDENTITY"],
        "silver.products.product_id": ["JOIN"],
    }


def test_left_join_to_a_repeated_column_affects_the_rows() -> None:
    found = lineage("SELECT o.status FROM silver.orders AS o LEFT JOIN silver.items AS i ON i.order_id = o.order_id")
    assert found["rows"] == {"silver.items.order_id": ["JOIN"], "silver.orders.order_id": ["JOIN"]}


@pytest.mark.parametrize(
    "grouped",
    [
        "(SELECT order_id, sum(price) AS s FROM silver.items GROUP BY order_id)",
        "(SELECT g.order_id, g.s FROM (SELECT order_id, sum(price) AS s FROM silver.items GROUP BY order_id) AS g)",
    ],
)
def test_group_keys_are_unique(grouped: str) -> None:
    found = lineage(f"SELECT o.status, g.s FROM silver.orders AS o LEFT JOIN {grouped} AS g ON g.order_id = o.order_id")
    assert found["rows"] == {}
    assert found["columns"]["status"] == {"silver.orders.status": ["IDENTITY"]}


def test_star_and_views_are_expanded() -> None:
    found = lineage("SELECT v.* EXCLUDE (status) FROM v", v="SELECT * FROM silver.orders WHERE status <> 'cancelled'")
    assert list(found["columns"]) == ["order_id", "customer_key", "order_date"]
    assert found["columns"]["order_date"] == {"silver.orders.order_date": ["IDENTITY"]}
    assert found["rows"] == {"silver.orders.status": ["FILTER"]}


def test_stored_definition_is_not_expanded() -> None:
    definitions = {"gold.a": "SELECT status AS s FROM silver.orders", "gold.b": "SELECT s FROM gold.a"}
    reader = LineageReader(definitions, TABLES.__getitem__, stored_names=["gold.a", "gold.b"])
    assert reader.entry("gold.b")["columns"] == {"s": {"gold.a.s": ["IDENTITY"]}}


def test_cte_hides_a_table_of_its_name() -> None:
    assert column("WITH days AS (SELECT order_date AS day FROM silver.orders) SELECT day FROM days") == {
        "silver.orders.order_date": ["IDENTITY"]
    }


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT x FROM read_csv('a.csv')", "is not a table"),
        ("SELECT nothing FROM silver.orders", "The lineage of t cannot be read: .*nothing"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r", "WITH RECURSIVE"),
    ],
)
def test_unsupported_sql_is_an_error(sql: str, said: str) -> None:
    with pytest.raises(LineageError, match=said):
        lineage(sql)


def test_recursive_views_are_an_error() -> None:
    with pytest.raises(LineageError, match="reads itself"):
        lineage("SELECT x FROM a", a="SELECT x FROM b", b="SELECT x FROM a")
