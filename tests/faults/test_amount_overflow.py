"""Test numbers out of range: the row is quarantined or the date rejected, with table, row and column in the message."""

from __future__ import annotations

import pytest

from tests.faults.instants_support import shop, write_order_files

DAY = "2025-11-11"
ORDER = "order_id,customer,ordered_at,status,shipped_at,updated_at\nO1,1,2025-11-11 12:00:00,paid,,2025-11-11 12:00:00\n"


def test_product_out_of_range_rejects_the_date(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        write_order_files(odd, DAY, "amount_overflow")
        assert odd.run(DAY) == "REJECTED"
        assert odd.ended.name == "transform"
        found = {each["about"] for each in odd.ended.details["refused"]}
        assert "silver.order_items: quantity is at most 1,000,000" in found
        assert "silver.order_items: line_amount can be converted to DECIMAL(18,4)" in found
        assert any("for example O1 / 1" in str(each) for each in odd.ended.details["rules"])


@pytest.mark.parametrize(("qty", "price"), [("99999999999999999999", "1.00"), ("1", "999999999999999.00")])
def test_number_beyond_its_type_is_quarantined(project, tmp_path, monkeypatch, qty, price):
    with shop(project, tmp_path, monkeypatch) as odd:
        odd.land(f"o/{DAY}/orders.csv", ORDER)
        odd.land(f"o/{DAY}/lines.csv", f"order_id,line,sku,qty,price\nO1,1,A,1,1.00\nO1,2,A,{qty},{price}\n")
        assert odd.run(DAY) == "SUCCEEDED"
        ((reasons, row),) = odd.rows("SELECT _reasons, _row_number FROM quarantine.lines")
        assert "digits" in reasons and row == 2


def test_overflow_error_names_column_and_row(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        odd.project.replace("params/sources/odd.yaml", "quantity: qty,", "quantity: qty * qty,")
        odd.land(f"o/{DAY}/orders.csv", ORDER)
        odd.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nO1,1,A,1,1.00\nO1,2,A,9999999999999,1.00\nO1,3,A,1,1.00\n")
        assert odd.run(DAY) == "REJECTED"
        (reason,) = odd.ended.details["refused"]
        assert reason["about"].startswith("silver.order_items: quantity can be computed (Out of Range Error: Overflow")
        assert any("lines.csv / 2" in str(each["samples"]) for each in odd.ended.details["rules"])


def test_rule_that_raises_rejects_the_date(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        odd.project.replace(
            "params/contracts/landing/odd.yaml", "WHERE updated_at < ordered_at", "WHERE CAST(status AS INTEGER) > 5"
        )
        odd.land(f"o/{DAY}/orders.csv", ORDER)
        odd.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nO1,1,A,1,1.00\n")
        assert odd.run(DAY) == "REJECTED"
        assert odd.ended.name == "validate"
        (rule,) = odd.ended.details["rules"]
        assert rule["rule"] == "an order is not changed before it is placed"
        assert "it cannot be computed (Conversion Error" in rule["measured"] and "paid" not in rule["measured"]
