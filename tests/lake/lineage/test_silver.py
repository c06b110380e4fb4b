"""Test the lineage of silver through each source's mapping, by hand-written cases and random landing rows."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.lineage.graph import is_direct
from daybook.lake.lineage.sql import LineageReader
from daybook.sources import Source, list_sources, load_source
from daybook.sources.mapping import mapped_sql
from tests.cells import load_sql_cells
from tests.lake.lineage.conftest import contracts, keys

pytestmark = pytest.mark.slow

TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "decimal": pa.decimal128(18, 4),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "boolean": pa.bool_(),
}
RUN_DATE = date(2025, 11, 30)


def mapping(source: Source) -> dict[str, str]:
    """Return the SQL of a source's mapping by the name in the notebook."""
    found = {}
    for name in load_tables("silver"):
        table = name.split(".")[1]
        found[f"mapped.{table}"] = f"SELECT *, DATE '2025-11-30' AS landed_on FROM ({mapped_sql(source, table, RUN_DATE)}) AS m"
    return found


def lineage_of(source: Source) -> dict[str, Any]:
    entities = {name: [*entity.columns, "_source_file", "_row_number"] for name, entity in source.entities.items()}
    reader = LineageReader(
        {**mapping(source), **load_sql_cells("transform")},
        {**contracts(), **entities}.__getitem__,
        stored_names=contracts(),
        keys=keys(),
    )
    return {name: reader.entry(name) for name in load_tables("silver")}


@pytest.mark.parametrize(
    ("source", "column", "values", "decides"),
    [
        ("demo", "orders.customer_key", ["orders.customer_id"], []),
        ("demo", "orders.order_date", ["orders.ordered_at"], []),
        (
            "demo",
            "order_items.line_amount",
            ["order_items.quantity", "order_items.unit_price", "returns.quantity", "returns.unit_price"],
            [],
        ),
        ("demo", "products.category", ["categories.category_name"], []),
        ("olist", "orders.customer_key", ["customers.customer_unique_id"], []),
        ("olist", "orders.country", [], []),
        ("olist", "orders.status", ["orders.order_status"], []),
        (
            "olist",
            "products.category",
            ["categories.product_category_name_english", "products.product_category_name"],
            [],
        ),
        ("online_retail", "orders.ordered_at", ["invoices.InvoiceDate"], []),
        ("online_retail", "orders.status", [], ["invoices.InvoiceNo", "invoices.Quantity", "invoices.UnitPrice"]),
        ("online_retail", "products.name", ["invoices.Description"], ["invoices.UnitPrice"]),
        ("online_retail", "payments.amount", [], []),
    ],
)
def test_silver_lineage_follows_the_mapping(source: str, column: str, values: list[str], decides: list[str]) -> None:
    table, name = column.split(".")
    sources = lineage_of(load_source(source))[f"silver.{table}"]["columns"][name]
    assert sorted(each for each, kinds in sources.items() if is_direct(kinds)) == values
    assert sorted(each for each, kinds in sources.items() if not is_direct(kinds)) == decides


def a_value(chance: random.Random, kind: str, column: str) -> Any:
    """Return a random value of a landing column, of few, so that joins find rows."""
    if kind == "integer":
        return chance.randrange(-1, 4)
    if kind == "decimal":
        return Decimal(chance.randrange(0, 500)) / 100
    if kind == "date":
        return RUN_DATE - timedelta(days=chance.randrange(5))
    if kind == "timestamp":
        return datetime(2025, 11, 1) + timedelta(hours=chance.randrange(300))
    if kind == "boolean":
        return chance.random() < 0.5
    if column == "return_id":
        return f"R-{chance.randrange(5)}"
    if column == "InvoiceNo":
        return chance.choice(["C5361", "5362", "5363", "A5364", "5365"])
    if column == "StockCode":
        return chance.choice(["85123A", "84406b", "POST", "GIFT_1", "22752"])
    if "status" in column:
        return chance.choice(["approved", "canceled", "delivered", "shipped"])
    if column.lower().endswith("id"):
        return chance.choice("abcdefghijkl")
    return chance.choice(["a", "b", "c", "d", None])


def land(engine: DuckDBEngine, source: Source, entity: str, rows: list[dict[str, Any]]) -> None:
    fields = [(name, TYPES[column.type]) for name, column in source.entities[entity].columns.items()]
    schema = pa.schema([*fields, ("_source_file", pa.string()), ("_row_number", pa.int64())])
    engine.register(entity, pa.Table.from_pylist(rows, schema=schema))


def silver_of(engine: DuckDBEngine, source: Source) -> dict[str, dict[str, list[str]]]:
    """Return the values of every silver column by key."""
    for name, sql in mapping(source).items():
        engine.register(name, engine.arrow(sql))
    found = {}
    for name, table in load_tables("silver").items():
        result = engine.arrow(f"SELECT * FROM {name}")
        found[name] = {
            column: sorted(repr([*(row[part] for part in table.key), row[column]]) for row in result.to_pylist())
            for column in result.column_names
        }
    return found


@pytest.mark.parametrize("name", list_sources())
def test_silver_changes_with_listed_columns_only(engine: DuckDBEngine, name: str) -> None:
    source = load_source(name)
    lineage = lineage_of(source)
    for entity in source.entities:
        land(engine, source, entity, [])
    for defined, sql in mapping(source).items():
        engine.register(defined, engine.arrow(sql))
    for defined, sql in load_sql_cells("transform").items():
        engine.define(defined, sql)
    seen: set[tuple[str, str]] = set()
    for seed in range(2):
        chance = random.Random(seed)  # noqa: S311 (test data)
        landed = {
            entity: [
                {
                    **{column: a_value(chance, spec.type, column) for column, spec in source.entities[entity].columns.items()},
                    "_source_file": "file.csv",
                    "_row_number": number,
                }
                for number in range(1, 16)
            ]
            for entity in source.entities
        }
        for entity, rows in landed.items():
            land(engine, source, entity, rows)
        before = silver_of(engine, source)
        for entity, rows in landed.items():
            for column, spec in source.entities[entity].columns.items():
                changed = [
                    {**row, column: a_value(chance, spec.type, column)} if chance.random() < 0.5 else row for row in rows
                ]
                land(engine, source, entity, changed)
                for table, columns in silver_of(engine, source).items():
                    for each in columns:
                        if columns[each] != before[table][each]:
                            seen.add((f"{entity}.{column}", f"{table}.{each}"))
            land(engine, source, entity, rows)
    listed, direct = set(), set()
    for table, entry in lineage.items():
        for each, sources in entry["columns"].items():
            listed |= {(one, f"{table}.{each}") for one in [*sources, *entry["rows"]]}
            direct |= {(one, f"{table}.{each}") for one, kinds in sources.items() if is_direct(kinds) and "._" not in one}
    assert seen - listed == set()
    assert direct - seen == set()
