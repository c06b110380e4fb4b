"""Test that dates run after a contract gains a column, and that reruns fill the column."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook.stale_dates import mark_stale_dates
from daybook.privacy.erasure import erase
from daybook.settings import load_settings
from demo_shop import generate
from tests.conftest import Project
from tests.sessions import Session

pytestmark = pytest.mark.slow

FIRST, SECOND, LAST = "2025-11-28", "2025-11-29", "2025-11-30"
BRAND = '      - {name: brand, logicalType: string, physicalType: VARCHAR, description: "Who makes it."}\n'
LARGEST = '      - {name: largest, logicalType: number, physicalType: "DECIMAL(18,4)", description: "The largest payment."}\n'


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """Return the folders of a small shop."""
    generate(tmp_path / "landing", days=5, last_day=date(2025, 11, 30), orders_per_day=20)
    return {"landing": str(tmp_path / "landing"), "lake": str(tmp_path / "lake"), "pii_key": str(tmp_path / "pii.key")}


@pytest.fixture
def later(project: Project) -> Project:
    """Return the project with a new column in the middle of a silver and of a gold table."""
    project.replace("params/contracts/silver/products.yaml", "      - name: category\n", f"{BRAND}      - name: category\n")
    project.replace(
        "params/sources/demo.yaml", "        name: products.name\n", "        name: products.name\n        brand: '''Acme'''\n"
    )
    project.replace("notebooks/3_transform.ipynb", "product_id, name, category,", "product_id, name, brand, category,")
    project.replace("params/contracts/gold/payment_mix.yaml", "      - name: share\n", f"{LARGEST}      - name: share\n")
    project.replace(
        "notebooks/4_aggregate.ipynb", "SUM(p.amount) AS amount,", "SUM(p.amount) AS amount, MAX(p.amount) AS largest,"
    )
    return project


def engine_on(lake: str) -> DuckDBEngine:
    return DuckDBEngine(Lake(lake), load_settings("local").timezone)


def rows_of(lake: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of silver and gold by table, sorted."""
    engine = engine_on(lake)
    tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold."))]
    return {name: sorted(engine.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


def test_new_column_is_null_for_older_dates_until_a_rerun(
    session: Session, shop: dict[str, str], later: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("DAYBOOK_PROJECT")
        assert session.run_range(FIRST, SECOND, 1, shop) == "SUCCEEDED"
    before = engine_on(shop["lake"])
    assert before.rows("SELECT count(brand), count(*) > 0 FROM silver.products") == [(0, True)]
    assert before.rows("SELECT count(largest), count(*) > 0 FROM gold.payment_mix") == [(0, True)]

    assert session.run_day(LAST, 1, shop) == "SUCCEEDED"
    published = session.value("sorted(stage.details['published_dates'])")
    engine = engine_on(shop["lake"])
    branded = engine.rows("SELECT DISTINCT CAST(landed_on AS VARCHAR), brand FROM silver.products ORDER BY 1")
    assert branded == [(FIRST, None), (SECOND, None), (LAST, "Acme")]
    filled = engine.rows(
        "SELECT DISTINCT CAST(order_date AS VARCHAR) FROM gold.payment_mix WHERE largest IS NOT NULL ORDER BY 1"
    )
    assert [row[0] for row in filled] == published

    assert session.run_range(FIRST, SECOND, 2, shop) == "SUCCEEDED"
    fresh = {**shop, "lake": shop["lake"] + "-fresh"}
    session.run_range(FIRST, LAST, 1, fresh)
    assert rows_of(shop["lake"]) == rows_of(fresh["lake"])


def test_project_with_the_earlier_contract_again_continues(
    session: Session, shop: dict[str, str], later: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session.run_day(FIRST, 1, shop) == "SUCCEEDED"
    monkeypatch.delenv("DAYBOOK_PROJECT")
    assert [session.run_day(day, 2, shop) for day in (FIRST, SECOND)] == ["SUCCEEDED"] * 2
    fresh = {**shop, "lake": shop["lake"] + "-fresh"}
    session.run_range(FIRST, SECOND, 1, fresh)
    assert rows_of(shop["lake"]) == rows_of(fresh["lake"])


def test_person_is_erased_from_tables_with_new_columns(
    session: Session, shop: dict[str, str], later: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("DAYBOOK_PROJECT")
        session.run_day(FIRST, 1, shop)
    session.run_day(SECOND, 1, shop)
    with (tmp_path / "landing" / "customers" / FIRST / "customers.csv").open(encoding="utf-8") as landed:
        person = next(csv.DictReader(landed))["customer_id"]
    settings = load_settings("local", {**shop, "archive": str(tmp_path / "archive")})
    before = rows_of(shop["lake"])

    done = erase(settings, person, "asked to", mark_stale_dates)

    assert done.proof.is_clean
    after = rows_of(shop["lake"])
    assert after["silver.products"] == before["silver.products"]
    assert len(after["silver.customers"]) == len(before["silver.customers"]) - 1
