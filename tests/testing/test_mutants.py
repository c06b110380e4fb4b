"""Test which mutants are derived from a query."""

from __future__ import annotations

import pytest

from tests.testing.mutants import derive_mutants, format_query


@pytest.mark.parametrize(
    ("sql", "mutants"),
    [
        ("SELECT a FROM t WHERE a < 1", ["a <= 1", "a > 1", "a < 2", "a < 0", ""]),
        ("SELECT a FROM t WHERE a AND b", ["a", "b", "a OR b", "NOT a AND b", "a AND NOT b", "b AND b", "a AND a", ""]),
        (
            "SELECT a FROM t WHERE a IN ('x', 'y')",
            ["NOT a IN ('x', 'y')", "a IN ('y')", "a IN ('x')", "a IN ('mutant', 'y')"],
        ),
    ],
)
def test_conditions_are_changed_and_dropped(sql: str, mutants: list[str]) -> None:
    found = {each.sql.partition(" WHERE ")[2].replace("(", "").replace(")", "") for each in derive_mutants(sql)}
    assert {each.replace("(", "").replace(")", "") for each in mutants} <= found


@pytest.mark.parametrize(
    ("sql", "mutant"),
    [
        ("SELECT DISTINCT a FROM t", "SELECT a FROM t"),
        ("SELECT COUNT(DISTINCT a) AS n FROM t", "SELECT COUNT(a) AS n FROM t"),
        ("SELECT MIN(a) AS n FROM t", "SELECT MAX(a) AS n FROM t"),
        ("SELECT a - b AS n FROM t", "SELECT (a + b) AS n FROM t"),
        ("SELECT COALESCE(a, 0) AS n FROM t", "SELECT (a) AS n FROM t"),
        ("SELECT CASE WHEN a THEN 1 ELSE 0 END AS n FROM t", "SELECT CASE WHEN a THEN 1 END AS n FROM t"),
        ("SELECT a FROM t LEFT JOIN u ON t.i = u.i", "SELECT a FROM t JOIN u ON t.i = u.i"),
        ("SELECT a FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) = 1", "SELECT a FROM t"),
        ("SELECT SUM(a) OVER (PARTITION BY b) AS n FROM t", "SELECT SUM(a) OVER () AS n FROM t"),
        ("SELECT order_id, product_id FROM t", "SELECT product_id, product_id FROM t"),
    ],
)
def test_mutants_of_a_query(sql: str, mutant: str) -> None:
    assert mutant in [each.sql for each in derive_mutants(sql)]


def test_mutants_differ_from_query_and_each_other() -> None:
    sql = "SELECT a, MIN(b) AS n FROM t WHERE a > 0 GROUP BY a ORDER BY a DESC"
    mutants = derive_mutants(sql)
    assert len({format_query(sql), *(each.sql for each in mutants)}) == len(mutants) + 1
    assert len({each.change for each in mutants}) == len(mutants)
    assert all(each.sql.endswith("ORDER BY a DESC") for each in mutants)
