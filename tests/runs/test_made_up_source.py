"""Test a source that consists of YAML only, as in the README."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from daybook.cli.check import check_project
from tests.runs.shop import DaybookHome, copy_project, local_params

pytestmark = pytest.mark.slow

SOURCE = """
title: Bakery
encoding: windows-1252
delimiter: ";"
null_values: ["-"]
entities:
  bons:
    files: "kasse/bon_{run_date}.csv"
  zeilen:
    files: "kasse/zeile_{run_date}_*.csv"
mapping:
  orders:
    - from: bons
      columns:
        order_id: Bon
        customer_key: Kunde
        ordered_at: Zeit
        status: "'delivered'"
        city: Ort
  order_items:
    - from: zeilen
      columns:
        order_id: Bon
        line_number: Pos
        product_id: Artikel
        quantity: Menge
        unit_price: Preis
        is_return: Menge < 0
  products:
    - from: zeilen
      group_by: [Artikel]
      columns:
        product_id: Artikel
        category: "'Brot'"
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bakery.landing
version: 1.0.0
status: active
schema:
  - name: bons
    physicalType: file
    properties:
      - {name: Bon, logicalType: string, physicalType: VARCHAR, required: true}
      - name: Zeit
        logicalType: timestamp
        physicalType: VARCHAR
        required: true
        customProperties: [{property: strptime, value: "%d.%m.%Y %H:%M"}]
      - name: Kunde
        logicalType: string
        physicalType: VARCHAR
        classification: restricted
        customProperties: [{property: pii, value: id}]
      - {name: Ort, logicalType: string, physicalType: VARCHAR}
  - name: zeilen
    physicalType: file
    properties:
      - {name: Bon, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: Pos, logicalType: integer, physicalType: VARCHAR, required: true}
      - name: Artikel
        logicalType: string
        physicalType: VARCHAR
        required: true
        customProperties: [{property: pad, value: 4}]
      - {name: Menge, logicalType: integer, physicalType: VARCHAR, required: true}
      - name: Preis
        logicalType: number
        physicalType: VARCHAR
        required: true
        customProperties: [{property: decimalComma, value: true}]
"""


def test_new_source_needs_only_yaml(module_home: DaybookHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_project(tmp_path / "project")
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    (project / "params" / "sources" / "bakery.yaml").write_text(SOURCE)
    (project / "params" / "contracts" / "landing" / "bakery.yaml").write_text(CONTRACT)
    (project / "params" / "bakery.yaml").write_text(local_params("Bakery", "bakery", "Europe/Vienna"))
    assert [each for each in check_project() if each.problems] == []

    kasse = module_home.path / "landing" / "kasse"
    kasse.mkdir(parents=True)
    (kasse / "bon_2024-03-31.csv").write_bytes(
        "Bon;Zeit;Kunde;Ort\nB1;31.03.2024 08:05;K9;Mödling\nB2;31.03.2024 23:59;-;Wien\n".encode("windows-1252")
    )
    (kasse / "zeile_2024-03-31_a.csv").write_text("Bon;Pos;Artikel;Menge;Preis\nB1;1;17;2;1,20\nB1;2;0042;1;1.003,50\n")
    (kasse / "zeile_2024-03-31_b.csv").write_text("Bon;Pos;Artikel;Menge;Preis\nB2;1;17;3;1,20\nB2;2;17;-1;1,20\nB2;3;17;x;1\n")

    execution, record = module_home.run("bakery", "2024-03-31")

    assert execution.status == "SUCCEEDED", record.reasons
    engine = module_home.engine("bakery")
    assert engine.rows("SELECT orders, units, gross_revenue, returns_amount, net_revenue FROM gold.daily_sales") == [
        (2, 6, Decimal("1009.5"), Decimal("1.2"), Decimal("1008.3"))
    ]
    assert engine.rows("SELECT product_id FROM silver.products ORDER BY 1") == [("0017",), ("0042",)]
    assert engine.rows("SELECT city, customer_key IS NULL FROM silver.orders ORDER BY order_id") == [
        ("Mödling", False),
        ("Wien", True),
    ]
    assert engine.rows("SELECT _source_file, _row_number, _reasons FROM quarantine.zeilen") == [
        ("kasse/zeile_2024-03-31_b.csv", 3, "Menge is an integer")
    ]
