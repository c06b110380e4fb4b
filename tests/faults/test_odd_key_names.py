"""Test that keys between entities can have any column names, also different ones on both sides."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import yaml

from tests.faults.conftest import Shop

pytestmark = pytest.mark.slow

DAY = "2025-10-26"
ORDERS, LINES = f"o/{DAY}/orders.csv", f"o/{DAY}/lines.csv"
NAMES = [
    ("Order No", "Order No"),
    ("Order No", "select"),
    ('the "real" one', "from"),
    ("it's -- x", "order.no"),
    ("group", "Bestell-Nr. (Größe)"),
]


def rename(shop: Shop, order_key: str, line_key: str, *, snapshot: bool = True) -> None:
    """Rename the key of orders and the key of lines. In a snapshot, lines follow orders."""
    contract = shop.project.root / "params/contracts/landing/odd.yaml"
    source = shop.project.root / "params/sources/odd.yaml"
    landing, spec = yaml.safe_load(contract.read_text()), yaml.safe_load(source.read_text())
    orders, lines = landing["schema"]
    orders["properties"][0]["name"] = order_key
    severity = [{"property": "severity", "value": "error"}]
    lines["properties"][0].update(name=line_key, relationships=[{"to": f"orders.{order_key}", "customProperties": severity}])
    if snapshot:
        spec["entities"]["orders"].update(date="ordered_at")
        spec["entities"]["lines"].update(follows={"entity": "orders", "by": line_key, "to": order_key})
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in (order_key, line_key)}
    spec["mapping"]["orders"][0]["columns"]["order_id"] = quoted[order_key]
    spec["mapping"]["order_items"][0]["columns"]["order_id"] = quoted[line_key]
    shop.project.write("params/contracts/landing/odd.yaml", yaml.safe_dump(landing, sort_keys=False, allow_unicode=True))
    shop.project.write("params/sources/odd.yaml", yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))


def table(*rows: tuple[Any, ...]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize(("order_key", "line_key"), NAMES)
def test_lines_follow_orders_by_any_column(shop: Shop, order_key: str, line_key: str) -> None:
    rename(shop, order_key, line_key)
    header = (order_key, "customer", "ordered_at", "status", "shipped_at", "updated_at")
    moment, other = f"{DAY} 10:00:00", "2025-10-20 10:00:00"
    shop.land(ORDERS, table(header, ("A1", "C1", moment, "paid", "", moment), ("A2", "C1", other, "paid", "", other)))
    header = (line_key, "line", "sku", "qty", "price")
    shop.land(LINES, table(header, ("A1", 1, "S1", 1, "10.00"), ("A2", 1, "S1", 1, "99.00")))
    ran = shop.run(DAY)
    assert (ran.outcome, ran.reasons) == ("SUCCEEDED", [])
    assert shop.rows("SELECT order_id, line_amount FROM silver.order_items") == [("A1", 10)]


@pytest.mark.parametrize(("order_key", "line_key"), NAMES)
def test_line_of_an_unknown_order_is_quarantined(shop: Shop, order_key: str, line_key: str) -> None:
    rename(shop, order_key, line_key, snapshot=False)
    moment = f"{DAY} 10:00:00"
    header = (order_key, "customer", "ordered_at", "status", "shipped_at", "updated_at")
    shop.land(ORDERS, table(header, ("A1", "C1", moment, "paid", "", moment)))
    shop.land(LINES, table((line_key, "line", "sku", "qty", "price"), ("A1", 1, "S1", 1, "10.00"), ("A2", 1, "S1", 1, "99.00")))
    ran = shop.run(DAY)
    assert (ran.outcome, ran.reasons) == ("SUCCEEDED", [])
    assert shop.rows("SELECT order_id, line_amount FROM silver.order_items") == [("A1", 10)]
    (broken,) = ran.stages["validate"].details["rules"]
    assert (broken["rule"], broken["failing"]) == (f"{line_key} is among orders", 1)


def test_unknown_column_raises(shop: Shop) -> None:
    rename(shop, "Order No", "Line Order")
    shop.project.replace("params/sources/odd.yaml", "to: Order No", "to: Order Number")
    header = "Order No,customer,ordered_at,status,shipped_at,updated_at\n"
    shop.land(ORDERS, header)
    with pytest.raises(Exception, match="entity 'lines' follows 'orders' to its column 'Order Number', which is not there"):
        shop.run(DAY)


def test_invalid_mapping_fails_the_run(shop: Shop) -> None:
    rename(shop, "Order No", "Order No")
    shop.project.replace("params/sources/odd.yaml", "order_id: '\"Order No\"'", "order_id: Order No")
    moment = f"{DAY} 10:00:00"
    header = ("Order No", "customer", "ordered_at", "status", "shipped_at", "updated_at")
    shop.land(ORDERS, table(header, ("A1", "C1", moment, "paid", "", moment)))
    shop.land(LINES, table(("Order No", "line", "sku", "qty", "price"), ("A1", 1, "S1", 1, "10.00")))
    with pytest.raises(Exception, match="mapping of 'orders' from 'orders', column 'order_id': 'Order No' is no SQL"):
        shop.run(DAY)
