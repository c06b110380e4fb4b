"""Test that different rows of one key and version are reported, and rejected if the contract declares the key."""

from __future__ import annotations

import pytest

from tests.conftest import Project
from tests.faults.conftest import FAULTS, Shop

pytestmark = pytest.mark.slow

DAY = "2025-11-11"
ORDERS = "order_id,customer,ordered_at,status,updated_at"
LINES = "order_id,line,sku,qty,price"


@pytest.fixture
def keyed(shop: Shop) -> Shop:
    return shop.deploy("keyed", "keyed")


def collision_warning(table: str, sample: str) -> str:
    return (
        f"silver.{table}: 'landed rows of one key and version say the same' does not hold: 1 key has rows that differ "
        f"({sample}), of which one counts; correct the keys of the export, or map a version_at that differs between them"
    )


def add_key(project: Project, entity: str, *columns: str) -> None:
    """Declare a primary key in the landing contract."""
    file = "params/contracts/landing/keyed.yaml"
    head, mark, rest = (project.root / file).read_text(encoding="utf-8").partition(f"- name: {entity}\n")
    for position, column in enumerate(columns, start=1):
        key = f"primaryKey: true, primaryKeyPosition: {position}"
        rest = rest.replace(f"{{name: {column}, ", f"{{name: {column}, {key}, ", 1)
    project.write(file, head + mark + rest)


@pytest.mark.smoke
def test_colliding_keys_are_a_warning(keyed: Shop) -> None:
    keyed.land_files(DAY, *(FAULTS / "key_collision").glob("*.csv"))
    ran = keyed.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("transform")
    assert {collision_warning("orders", "1.23E+12"), collision_warning("order_items", "1.23E+12 / 1")} <= set(warnings)


@pytest.mark.parametrize(("entity", "columns"), [("orders", ["order_id"]), ("lines", ["order_id", "line"])])
def test_colliding_primary_keys_reject_the_date(keyed: Shop, entity: str, columns: list[str]) -> None:
    add_key(keyed.project, entity, *columns)
    keyed.land_files(DAY, *(FAULTS / "key_collision").glob("*.csv"))
    assert keyed.run(DAY).outcome == "REJECTED"
    assert keyed.rows("SELECT * FROM silver.orders") == []


def test_versions_of_an_order_do_not_collide(keyed: Shop) -> None:
    add_key(keyed.project, "orders", "order_id")
    placed = "2025-11-11 10:00:00"
    keyed.land_rows(
        f"{DAY}/orders.csv", f"o,1,{placed},created,{placed}", f"o,1,{placed},paid,2025-11-11 11:00:00", header=ORDERS
    )
    keyed.land_rows(f"{DAY}/lines.csv", "o,1,A,1,1.00", "o,1,A,1,1.00", header=LINES)
    ran = keyed.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    warnings = ran.warnings_of("transform")
    assert not [each for each in warnings if "one key" in each]
    assert keyed.rows("SELECT status FROM silver.orders") == [("paid",)]


def test_rejected_rows_do_not_collide(keyed: Shop) -> None:
    add_key(keyed.project, "lines", "order_id", "line")
    keyed.land_rows(f"{DAY}/orders.csv", "o,1,2025-11-11 10:00:00,paid,2025-11-11 10:00:00", header=ORDERS)
    keyed.land_rows(f"{DAY}/lines.csv", "o,1,A,1,1.00", "o,1,A,one,1.00", header=LINES)
    assert keyed.run(DAY).outcome == "SUCCEEDED"
    assert keyed.gross() == 1
