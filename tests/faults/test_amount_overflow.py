"""Test numbers out of range: the row is quarantined or the date rejected, with table, row and column."""

from __future__ import annotations

import pytest

from tests.faults.conftest import FAULTS

DAY = "2025-11-11"
ORDER = "order_id,customer,ordered_at,status,shipped_at,updated_at\nO1,1,2025-11-11 12:00:00,paid,,2025-11-11 12:00:00\n"


def test_product_out_of_range_rejects_the_date(shop):
    shop.land_files(f"o/{DAY}", *(FAULTS / "amount_overflow").glob("*.csv"))
    ran = shop.run(DAY)
    assert (ran.outcome, ran.last.name) == ("REJECTED", "transform")
    found = {each["about"] for each in ran.last.details["refused"]}
    assert "silver.order_items: quantity is at most 1,000,000" in found
    assert "silver.order_items: line_amount can be converted to DECIMAL(18,4)" in found
    assert any("for example O1 / 1" in str(each) for each in ran.last.details["rules"])


@pytest.mark.parametrize(("qty", "price"), [("99999999999999999999", "1.00"), ("1", "999999999999999.00")])
def test_number_out_of_range_is_quarantined(shop, qty, price):
    shop.land(f"o/{DAY}/orders.csv", ORDER)
    shop.land(f"o/{DAY}/lines.csv", f"order_id,line,sku,qty,price\nO1,1,A,1,1.00\nO1,2,A,{qty},{price}\n")
    assert shop.run(DAY).outcome == "SUCCEEDED"
    ((reasons, row),) = shop.rows("SELECT _reasons, _row_number FROM quarantine.lines")
    assert "digits" in reasons and row == 2


def test_expression_that_overflows_names_column_and_row(shop):
    shop.project.replace("params/sources/odd.yaml", "quantity: qty,", "quantity: qty * qty,")
    shop.land(f"o/{DAY}/orders.csv", ORDER)
    shop.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nO1,1,A,1,1.00\nO1,2,A,9999999999999,1.00\nO1,3,A,1,1.00\n")
    ran = shop.run(DAY)
    assert ran.outcome == "REJECTED"
    (reason,) = ran.last.details["refused"]
    assert reason["about"].startswith("silver.order_items: quantity can be computed (Out of Range Error: Overflow")
    assert any("lines.csv / 2" in str(each["samples"]) for each in ran.last.details["rules"])


def test_rule_that_fails_rejects_the_date_with_its_name(shop):
    shop.project.replace(
        "params/contracts/landing/odd.yaml", "WHERE updated_at < ordered_at", "WHERE CAST(status AS INTEGER) > 5"
    )
    shop.land(f"o/{DAY}/orders.csv", ORDER)
    shop.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nO1,1,A,1,1.00\n")
    ran = shop.run(DAY)
    assert (ran.outcome, ran.last.name) == ("REJECTED", "validate")
    (rule,) = ran.last.details["rules"]
    assert rule["rule"] == "an order is not changed before it is placed"
    assert "it cannot be computed (Conversion Error" in rule["measured"] and "paid" not in rule["measured"]
