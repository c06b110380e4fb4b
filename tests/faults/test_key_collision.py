"""Test that different rows of one key and version are reported, and rejected if the landing contract declares the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.faults.lines_support import FAULTS, Shop, open_shop, warnings_of

DAY = "2025-11-11"
ORDERS = "order_id,customer,ordered_at,status,updated_at"
LINES = "order_id,line,sku,qty,price"


@pytest.fixture
def shop(project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop("keyed", project, home, monkeypatch) as opened:
        yield opened


def finding(table: str, sample: str) -> str:
    return (
        f"silver.{table}: 'landed rows of one key and version say the same' does not hold: 1 key has rows that differ "
        f"({sample}), of which one counts; correct the keys of the export, or map a version_at that orders the rows"
    )


def add_key(project: Project, entity: str, *columns: str) -> None:
    """Declare a primary key in the landing contract."""
    file = "params/contracts/landing/keyed.yaml"
    head, mark, rest = (project.root / file).read_text(encoding="utf-8").partition(f"- name: {entity}\n")
    for position, column in enumerate(columns, start=1):
        key = f"primaryKey: true, primaryKeyPosition: {position}"
        rest = rest.replace(f"{{name: {column}, ", f"{{name: {column}, {key}, ", 1)
    project.write(file, head + mark + rest)


def test_orders_with_equal_truncated_ids_are_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.land_files(DAY, *(FAULTS / "key_collision").glob("*.csv"))
    with warnings_of("transform", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    assert {finding("orders", "1.23E+12"), finding("order_items", "1.23E+12 / 1")} <= set(warnings)


@pytest.mark.parametrize(("entity", "columns"), [("orders", ["order_id"]), ("lines", ["order_id", "line"])])
def test_primary_key_makes_a_collision_an_error(shop: Shop, project: Project, entity: str, columns: list[str]) -> None:
    add_key(project, entity, *columns)
    shop.land_files(DAY, *(FAULTS / "key_collision").glob("*.csv"))
    assert shop.run(DAY) == "REJECTED"
    assert shop.rows("SELECT * FROM silver.orders") == []


def test_versions_of_an_order_do_not_collide(shop: Shop, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(project, "orders", "order_id")
    placed = "2025-11-11 10:00:00"
    shop.land(DAY, "orders.csv", f"o,1,{placed},created,{placed}", f"o,1,{placed},paid,2025-11-11 11:00:00", header=ORDERS)
    shop.land(DAY, "lines.csv", "o,1,A,1,1.00", "o,1,A,1,1.00", header=LINES)
    with warnings_of("transform", monkeypatch) as warnings:
        assert shop.run(DAY) == "SUCCEEDED"
    assert not [each for each in warnings if "one key" in each]
    assert shop.rows("SELECT status FROM silver.orders") == [("paid",)]


def test_rejected_row_does_not_collide(shop: Shop, project: Project) -> None:
    add_key(project, "lines", "order_id", "line")
    shop.land(DAY, "orders.csv", "o,1,2025-11-11 10:00:00,paid,2025-11-11 10:00:00", header=ORDERS)
    shop.land(DAY, "lines.csv", "o,1,A,1,1.00", "o,1,A,one,1.00", header=LINES)
    assert shop.run(DAY) == "SUCCEEDED"
    assert shop.gross() == 1
