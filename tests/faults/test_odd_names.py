"""Test that names of tables and columns are quoted in SQL."""

from __future__ import annotations

import csv
import io

import duckdb
import pytest
import yaml

from daybook.contracts import load_tables
from daybook.contracts.columns import is_plain_name
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, SourceError, SqlError
from daybook.lake.tables import Lake
from daybook.sources import load_source
from tests.conftest import Project
from tests.faults.conftest import Shop

DAY = "2025-01-02"
ODD = ['order"s', "select", "a b", "a;b", "it's", "x) FROM orders; DROP TABLE orders; --", "größe", "a.b", "{row}", "%s", "$1"]
KINDS = ("integer", "timestamp", "number", "string", "date", "boolean")
VALUES = {"integer": "7", "timestamp": f"{DAY} 10:00:00", "number": "1.50", "string": "text", "date": DAY, "boolean": "true"}


def test_plain_names_are_not_duckdb_keywords() -> None:
    listed = "SELECT DISTINCT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
    words = [word for (word,) in duckdb.connect().execute(listed).fetchall()]
    assert words
    assert not any(map(is_plain_name, [*words, *ODD[:6], *ODD[7:], "", "1a", "SELECT"]))
    assert all(map(is_plain_name, ["orders", "größe", "_x", "order_items", "orders2", "status", "name", "date"]))


@pytest.mark.parametrize("turn", [0, 1, 3])
@pytest.mark.slow
def test_odd_landing_columns_pass_all_stages(shop: Shop, turn: int) -> None:
    path = shop.project.root / "params/contracts/landing/odd.yaml"
    contract = yaml.safe_load(path.read_text())
    # A rule's name has no semicolon, which separates reasons, so such a column has no rule.
    kinds = {name: "string" if ";" in name else KINDS[(position + turn) % len(KINDS)] for position, name in enumerate(ODD)}
    for name, kind in kinds.items():
        item = {"name": name, "logicalType": kind, "physicalType": "VARCHAR"}
        item["required"] = ";" not in name
        if kind == "string":
            item.update(classification="restricted", customProperties=[{"property": "pii", "value": "text"}])
        contract["schema"][0]["properties"].append(item)
    path.write_text(yaml.safe_dump(contract, allow_unicode=True))
    lines = io.StringIO()
    rows = csv.writer(lines)
    rows.writerow(["order_id", "customer", "ordered_at", "status", "shipped_at", "updated_at", *ODD])
    first = ["A1", "C1", f"{DAY} 10:00:00", "paid", "", f"{DAY} 10:00:00"]
    rows.writerow([*first, *(VALUES[kind] for kind in kinds.values())])
    rows.writerow([*first, *(VALUES[kind] for kind in kinds.values())])
    rows.writerow(["B1", *first[1:], *("" for _ in kinds)])
    shop.land(f"o/{DAY}/orders.csv", lines.getvalue())
    shop.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nA1,1,S1,1,10.00\n")
    ran = shop.run(DAY)
    assert (ran.outcome, ran.reasons) == ("SUCCEEDED", [])
    assert ran.stages["validate"].details["accounting"]["orders"] == {
        "landed": 3,
        "accepted": 1,
        "quarantined": 1,
        "duplicates": 1,
    }
    (reasons,) = shop.rows("SELECT _reasons FROM quarantine.orders")[0]
    assert all(name in reasons for name in ODD if ";" not in name)
    assert set(ODD) < set(shop.engine().query("SELECT * FROM bronze.orders").columns)


@pytest.mark.parametrize("odd", [name for name in ODD if name != "größe"])
def test_model_tables_and_columns_have_plain_names(project: Project, odd: str) -> None:
    path = project.root / "params/contracts/gold/payment_mix.yaml"
    contract = yaml.safe_load(path.read_text())
    contract["schema"][0]["properties"].append({"name": odd, "logicalType": "string", "physicalType": "VARCHAR"})
    path.write_text(yaml.safe_dump(contract))
    with pytest.raises(ContractError) as caught:
        load_tables("gold")
    assert f"name {odd!r} must be a plain name of letters, digits and _, and no keyword of SQL; rename it." in str(caught.value)


@pytest.mark.parametrize("odd", ["select", "a b", "a;b", 'order"s', "order"])
def test_entities_have_plain_names(shop: Shop, odd: str) -> None:
    for file in ("sources/odd.yaml", "contracts/landing/odd.yaml"):
        path = shop.project.root / "params" / file
        text = path.read_text().replace("\n  lines:", f"\n  {odd!r}:").replace("name: lines", f"name: {odd!r}")
        path.write_text(text.replace("from: lines", f"from: {odd!r}"))
    with pytest.raises(SourceError, match="must be a plain name of letters, digits and _, and no keyword of SQL"):
        load_source("odd")


@pytest.mark.parametrize("odd", [*ODD[:6], *ODD[8:], "a.b.c", ""])
def test_query_has_a_plain_name(shop: Shop, odd: str) -> None:
    engine = DuckDBEngine(Lake(shop.settings().lake), "UTC")
    with pytest.raises(SqlError, match="cannot name a query"):
        engine.define(odd, "SELECT 1 AS x")
    engine.define("landed.my_rows", "SELECT 1 AS x")
    assert engine.rows("SELECT * FROM landed.my_rows") == [(1,)]
