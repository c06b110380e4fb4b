"""Test the lineage that a stage records of the tables that its cells define."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.notebook import context as stages
from daybook.notebook.context import Stage
from daybook.notebook.lineage import record_lineage
from tests.sessions import Session


@pytest.fixture
def stage(opened: Session) -> Stage:
    """Return a stage of the demo shop with an empty lake."""
    assert stages.current is not None
    return stages.current


def recorded(stage: Stage, name: str, **definitions: str) -> dict[str, Any]:
    """Return the details of a stage whose cells defined these queries (``__`` stands for the dot in a name)."""
    stage.name = name
    stage.definitions = {each.replace("__", "."): sql for each, sql in definitions.items()}
    record_lineage(stage)
    return stage.details


def test_named_query_of_a_cell_is_recorded(opened: Session, stage: Stage) -> None:
    opened.value("%%sql best --quiet\nSELECT order_date FROM gold.daily_sales WHERE orders > {{ 2 + 3 }};")
    assert stage.definitions == {"best": "SELECT order_date FROM gold.daily_sales WHERE orders > 5"}


def test_gold_comes_from_silver_and_computed_tables(opened: Session, stage: Stage) -> None:
    opened.value("import pyarrow as pa\nstage.engine.register('touched', pa.table({'order_date': []}))")
    details = recorded(
        stage,
        "aggregate",
        counted="SELECT * FROM silver.orders WHERE order_date IN (SELECT order_date FROM touched)",
        gold__payment_mix="SELECT c.order_date, c.status AS method FROM counted AS c",
    )
    assert details["lineage"] == {
        "gold.payment_mix": {
            "rows": {"silver.orders.order_date": ["FILTER"], "touched.order_date": ["FILTER"]},
            "columns": {
                "order_date": {"silver.orders.order_date": ["IDENTITY"]},
                "method": {"silver.orders.status": ["IDENTITY"]},
            },
        }
    }
    assert "lineage_gaps" not in details


def test_silver_comes_from_bronze_by_the_mapping(stage: Stage) -> None:
    first_orders = "SELECT customer_key, MIN(order_date) AS first_order_date FROM silver.orders GROUP BY customer_key"
    details = recorded(
        stage,
        "transform",
        silver__customers="SELECT c.customer_key, c.city, o.first_order_date FROM mapped.customers AS c "
        f"LEFT JOIN ({first_orders}) AS o ON o.customer_key = c.customer_key",
    )
    assert details["lineage"]["silver.customers"]["columns"] == {
        "customer_key": {"bronze.customers.customer_id": ["TRANSFORMATION"]},
        "city": {"bronze.customers.city": ["TRANSFORMATION"]},
        "first_order_date": {
            "bronze.customers.customer_id": ["JOIN"],
            "silver.orders.customer_key": ["GROUP_BY", "JOIN"],
            "silver.orders.order_date": ["AGGREGATION"],
        },
    }


def test_query_without_lineage_is_noted_and_does_not_fail(stage: Stage) -> None:
    details = recorded(
        stage,
        "aggregate",
        gold__daily_sales="SELECT day FROM range(3) AS r(day)",
        gold__payment_mix="SELECT method FROM silver.payments",
    )
    assert list(details["lineage"]) == ["gold.payment_mix"]
    (gap,) = details["lineage_gaps"]
    assert "is not a table" in gap


def test_parser_error_is_noted_and_does_not_fail(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RecursionError

    monkeypatch.setattr("daybook.lake.lineage.sql.qualify", fail)
    details = recorded(stage, "aggregate", gold__payment_mix="SELECT method FROM silver.payments")
    assert details["lineage_gaps"] == ["The lineage of gold.payment_mix cannot be read (RecursionError); simplify its query."]


def test_stage_that_defines_no_table_records_no_lineage(stage: Stage) -> None:
    assert "lineage" not in recorded(stage, "quality", best="SELECT orders FROM gold.daily_sales")
