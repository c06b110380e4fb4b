"""Test that one cell of notebook 4 defines what counts as sold, and that the quality stage uses this definition."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from demo_shop import generate
from tests.conftest import Project
from tests.sessions import Session

pytestmark = pytest.mark.slow

DAY = "2025-11-30"
NOTEBOOK = "notebooks/4_aggregate.ipynb"


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, str]:
    """Return the overrides of a small demo shop."""
    generate(tmp_path / "landing", orders_per_day=20)
    return {name: str(tmp_path / name) for name in ("landing", "lake", "archive", "pii_key")}


def figures(overrides: dict[str, str]) -> tuple[Any, ...]:
    """Return orders, gross revenue and returns that are published for the day."""
    engine = DuckDBEngine(Lake(overrides["lake"]), "Europe/Berlin")
    (row,) = engine.rows(f"SELECT orders, gross_revenue, returns_amount FROM gold.daily_sales WHERE order_date = DATE '{DAY}'")
    return row


def test_new_definition_of_sold_is_published(session: Session, project: Project, overrides: dict[str, str]) -> None:
    assert session.run_day(DAY, 1, overrides) == "SUCCEEDED"
    before = figures(overrides)
    project.replace(
        NOTEBOOK,
        "o.is_counted AND i.quantity > 0 AND i.unit_price > 0 AS is_sold",
        "o.is_counted AND i.quantity > 1 AS is_sold",
    )
    assert session.run_day(DAY, 2, overrides) == "SUCCEEDED"
    orders, gross, returns = figures(overrides)
    assert (orders, returns) == (before[0], before[2])
    assert Decimal(0) < gross < before[1]


def test_new_definition_of_counted_orders_is_published(session: Session, project: Project, overrides: dict[str, str]) -> None:
    project.replace(
        NOTEBOOK,
        "status NOT IN ('cancelled', 'unavailable', 'adjustment') AS is_counted",
        "status NOT IN ('cancelled', 'unavailable', 'adjustment', 'created') AND order_id NOT LIKE '%7' AS is_counted",
    )
    assert session.run_day(DAY, 1, overrides) == "SUCCEEDED"
    engine = DuckDBEngine(Lake(overrides["lake"]), "Europe/Berlin")
    (counted,) = engine.fetch_row(
        f"SELECT count(*) FROM silver.orders WHERE order_date = DATE '{DAY}' AND order_id NOT LIKE '%7' "
        "AND status NOT IN ('cancelled', 'unavailable', 'adjustment', 'created')"
    )
    assert figures(overrides)[0] == counted


@pytest.mark.parametrize(
    ("cell", "changed", "figure"),
    [
        ("SUM(CASE WHEN is_sold THEN quantity ELSE 0 END) AS units,", "SUM(quantity) + 1 AS units,", "daily_sales.units"),
        ("LEFT JOIN silver.products AS p ON p.product_id = l.product_id", "JOIN silver.products AS p ON TRUE", "units"),
        ("JOIN silver.payments AS p ON p.order_id = c.order_id", "JOIN silver.payments AS p ON TRUE", "payment_mix.amount"),
    ],
)
def test_gold_that_differs_from_the_definitions_is_rejected(
    session: Session, project: Project, overrides: dict[str, str], cell: str, changed: str, figure: str
) -> None:
    project.replace(NOTEBOOK, cell, changed)
    assert session.run_day(DAY, 1, overrides) == "REJECTED"
    assert stages.current is not None
    refused = [each for each in stages.current.details["refused"] if each["about"].endswith("agrees with silver")]
    assert any(figure in each["about"] for each in refused)
    assert not any(each["waivable"] for each in refused)


def test_report_shows_the_definitions(session: Session, overrides: dict[str, str]) -> None:
    assert session.run_day(DAY, 1, overrides) == "SUCCEEDED"
    shown = session.value("audit.shared_definitions")
    assert list(shown.facts) == ["all_orders", "all_lines"]
    assert "AS is_sold" in shown.facts["all_lines"]


def test_notebook_without_reconciliation_publishes_nothing(
    session: Session, project: Project, overrides: dict[str, str]
) -> None:
    project.replace("notebooks/5_quality.ipynb", "quality.reconcile(stage, audit, ", "dict(")
    with pytest.raises(Exception, match="No cell compares the candidates with silver"):
        session.run_day(DAY, 1, overrides)
