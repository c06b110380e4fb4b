"""Test the lineage of gold: against a table written by hand, and against changes of random silver rows."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from daybook.contracts import load_table, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.lineage.graph import is_direct
from daybook.lake.lineage.sql import LineageReader
from tests.cells import load_sql_cells
from tests.lake.lineage.conftest import contracts, keys

pytestmark = pytest.mark.slow

ORDER_DATE, STATUS, ORDER_ID = "orders.order_date", "orders.status", "orders.order_id"
DAY = [ORDER_DATE, "touched.order_date"]
LINES = ["order_items.order_id", ORDER_ID, *DAY]
SOLD = ["order_items.quantity", "order_items.unit_price", STATUS]
RETURNED = ["order_items.is_return", STATUS]

# Written by hand: column -> (sources of its values, sources of conditions, windows, joins, filters and groups).
EXPECTED: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "gold.daily_sales": {
        "order_date": ([ORDER_DATE], LINES),
        "orders": ([], [STATUS, *LINES]),
        "cancelled_orders": ([], [STATUS, *LINES]),
        "units": (["order_items.quantity"], [*SOLD, *LINES]),
        "gross_revenue": (["order_items.line_amount"], [*SOLD, *LINES]),
        "returns_amount": (["order_items.line_amount"], [*RETURNED, *LINES]),
        "net_revenue": (["order_items.line_amount"], [*SOLD, *RETURNED, *LINES]),
        "average_order_value": (["order_items.line_amount"], [*SOLD, *LINES]),
        "adjustments_amount": (["order_items.line_amount"], [STATUS, *LINES]),
        "new_customers": (["orders.customer_key"], [STATUS, "orders.customer_key", *LINES]),
        "returning_customers": (["orders.customer_key"], [STATUS, "orders.customer_key", *LINES]),
    },
    "gold.payment_mix": {
        "order_date": ([ORDER_DATE], PAID := [*DAY, STATUS, ORDER_ID, "payments.order_id", "payments.method"]),
        "method": (["payments.method"], PAID),
        "payments": ([], PAID),
        "orders": (["payments.order_id"], PAID),
        "amount": (["payments.amount"], PAID),
        "share": (["payments.amount"], PAID),
    },
    "gold.delivery_performance": {
        "order_date": ([ORDER_DATE], SENT := [*DAY, STATUS, "orders.country", "orders.state", "orders.delivered_at"]),
        "country": (["orders.country"], SENT),
        "state": (["orders.state"], SENT),
        "delivered_orders": ([], SENT),
        "late_orders": ([], [*SENT, "orders.estimated_delivery_at"]),
        "on_time_share": ([], [*SENT, "orders.estimated_delivery_at"]),
        "average_days": (["orders.delivered_at", ORDER_DATE], SENT),
    },
    "gold.customer_rfm": {
        "customer_key": (["orders.customer_key"], KNOWN := ["orders.customer_key", STATUS, ORDER_DATE, "landed.order_date"]),
        "as_of": (["landed.order_date"], KNOWN),
        "last_order_date": ([ORDER_DATE], KNOWN),
        "recency_days": ([ORDER_DATE, "landed.order_date"], KNOWN),
        "frequency": ([], KNOWN),
        "monetary": (["order_items.line_amount"], SPENT := [*KNOWN, *SOLD, ORDER_ID, "order_items.order_id"]),
        "recency_score": ([], KNOWN),
        "frequency_score": ([], KNOWN),
        "monetary_score": ([], [*SPENT, "order_items.line_amount"]),
        "segment": ([], [*SPENT, "order_items.line_amount"]),
    },
    "gold.cohort_retention": {
        "cohort_month": ([ORDER_DATE], COHORT := ["orders.customer_key", ORDER_DATE, "landed.order_date"]),
        "months_since": ([ORDER_DATE], COHORT),
        "cohort_customers": ([], COHORT),
        "active_customers": ([], COHORT),
        "retention": ([], COHORT),
    },
}
PRODUCT = ["order_items.product_id", "products.product_id"]
for _table, _rows in (
    ("category_sales", [*LINES, *PRODUCT, "products.category"]),
    ("product_sales", [*LINES, "order_items.product_id"]),
):
    EXPECTED[f"gold.{_table}"] = {
        "order_date": ([ORDER_DATE], _rows),
        "category": (["products.category"], [*_rows, *PRODUCT]),
        "orders": ([ORDER_ID], [*SOLD, *_rows]),
        "units": (["order_items.quantity"], [*SOLD, *_rows]),
        "gross_revenue": (["order_items.line_amount"], [*SOLD, *_rows]),
        "returns_amount": (["order_items.line_amount"], [*RETURNED, *_rows]),
        "net_revenue": (["order_items.line_amount"], [*SOLD, *RETURNED, *_rows]),
    }
EXPECTED["gold.product_sales"]["product_id"] = (["order_items.product_id"], EXPECTED["gold.product_sales"]["order_date"][1])


def lineage_of_gold(returns_count_on: str) -> dict[str, Any]:
    """Return the lineage of every gold table under a value of the setting."""
    tables = {**contracts(), "touched": ["order_date"], "landed": ["order_date"]}
    queries = load_sql_cells("aggregate", returns_count_on=returns_count_on)
    reader = LineageReader(queries, tables.__getitem__, stored_names=contracts(), keys=keys())
    return {name: reader.entry(name) for name in load_tables("gold")}


@pytest.fixture(scope="module")
def lineage() -> dict[str, Any]:
    """Return the lineage of every gold table, with returns on the date of their order."""
    return lineage_of_gold("order_date")


def split_kinds(entry: dict[str, Any], column: str) -> tuple[set[str], set[str]]:
    """Return a column's direct and indirect sources; some are both."""
    values, decides = set(), set()
    for sources in (entry["columns"][column], entry["rows"]):
        for source, kinds in sources.items():
            short = source.replace("silver.", "")
            if is_direct(kinds):
                values.add(short)
            if not all(is_direct([kind]) for kind in kinds):
                decides.add(short)
    return values, decides


def test_every_gold_table_has_expected_lineage() -> None:
    assert {name: set(columns) for name, columns in EXPECTED.items()} == {
        name: set(table.columns) for name, table in load_tables("gold").items()
    }


@pytest.mark.parametrize("table", sorted(EXPECTED))
def test_gold_lineage_equals_the_expected(table: str, lineage: dict[str, Any]) -> None:
    found = {column: split_kinds(lineage[table], column) for column in EXPECTED[table]}
    assert found == {column: (set(values), set(decides)) for column, (values, decides) in EXPECTED[table].items()}


DAYS = [date(2025, 11, day) for day in range(1, 8)]
EARLIER = [date(2025, 9, 3), date(2025, 10, 20)]
STATUSES = ["paid", "shipped", "delivered", "cancelled", "unavailable", "adjustment"]
CUSTOMERS = [*(f"customer-{number}" for number in range(8)), None]
CATEGORIES = ["toys", "books", "tools", None]
VALUES = {"status": STATUSES, "customer_key": CUSTOMERS, "category": CATEGORIES, "method": ["card", "voucher", "invoice"]}


def a_value(chance: random.Random, table: str, column: str) -> Any:
    """Return a random value of a silver column."""
    kind = load_table(table).type_of(column)
    if column in VALUES:
        return chance.choice(VALUES[column])
    if column == "order_id":
        return f"order-{chance.randrange(18)}"
    if column == "product_id":
        return f"product-{chance.randrange(6)}"
    if column == "is_return":
        return chance.random() < 0.2
    if kind in ("BIGINT", "INTEGER"):
        return chance.randrange(-1, 5)
    if kind.startswith("DECIMAL"):
        return Decimal(chance.randrange(0, 4000)) / 100
    if kind == "DATE":
        return chance.choice([*DAYS, *DAYS, *EARLIER, date(2025, 8, 1)])
    if kind.startswith("TIMESTAMP"):
        moment = datetime(2025, 11, 1, 12, tzinfo=timezone.utc) + timedelta(days=chance.randrange(12))
        return None if chance.random() < 0.2 else moment
    return chance.choice(["a", "b", "c", None])


def some_silver(chance: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Return rows of every silver table with unique keys, most of whose references exist."""
    counts = {"orders": 18, "order_items": 60, "products": 5, "payments": 30, "customers": 8, "reviews": 6}
    silver = {}
    for name, table in load_tables("silver").items():
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for number in range(counts[table.name]):
            row = {column: a_value(chance, name, column) for column in table.columns}
            if name == "silver.orders":
                row["order_id"] = f"order-{number}"
            if name == "silver.order_items":
                row["is_return"] = row["quantity"] < 0
            row.update({column: f"{column}-{number}" for column in table.key if row[column] is None})
            rows[tuple(row[column] for column in table.key)] = row
        silver[name] = list(rows.values())
    return silver


def with_other_values(chance: random.Random, table: str, column: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with another value of one column in about half of them; keys stay unique."""
    changed = []
    for number, row in enumerate(rows):
        new = row[column]
        if chance.random() < 0.5:
            new = a_value(chance, table, column)
            if column in load_table(table).key:
                new = 100 + number if isinstance(row[column], int) else f"another-{number}"
        changed.append({**row, column: new})
    return changed


def register(engine: DuckDBEngine, table: str, rows: list[dict[str, Any]]) -> None:
    schema = load_table(table).arrow_schema
    engine.register(table, pa.Table.from_pylist(rows, schema=schema))


def gold_of(engine: DuckDBEngine) -> dict[str, dict[str, list[str]]]:
    """Return the values of every gold column by key."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, table in load_tables("gold").items():
        rows = engine.arrow(f"SELECT * FROM {name}").to_pylist()
        found[name] = {
            column: sorted(repr([*(row[part] for part in table.key), row[column]]) for row in rows) for column in table.columns
        }
    return found


def changes(engine: DuckDBEngine, chance: random.Random) -> set[tuple[str, str]]:
    """Return which gold columns change with which silver columns, for random silver rows."""
    silver = some_silver(chance)
    for name, rows in silver.items():
        register(engine, name, rows)
    before = gold_of(engine)
    assert all(before[name][column] for name in before for column in before[name]), "a gold table has no rows to change"
    seen = set()
    for table, rows in silver.items():
        for column in load_table(table).columns:
            register(engine, table, with_other_values(chance, table, column, rows))
            for gold, columns in gold_of(engine).items():
                seen |= {(f"{table}.{column}", f"{gold}.{name}") for name in columns if columns[name] != before[gold][name]}
        register(engine, table, rows)
    return seen


def test_return_date_is_a_source_if_returns_count_on_it() -> None:
    values, decides = split_kinds(lineage_of_gold("return_date")["gold.category_sales"], "order_date")
    assert values == {ORDER_DATE, "order_items.returned_at"}
    assert decides > {"order_items.returned_at", *RETURNED}


@pytest.mark.parametrize("returns_count_on", ["order_date", "return_date"])
def test_values_change_with_listed_source_columns_only(engine: DuckDBEngine, returns_count_on: str) -> None:
    lineage = lineage_of_gold(returns_count_on)
    for name in load_tables("silver"):
        register(engine, name, [])
    # A touched day with few orders, and one with returns only.
    touched = [EARLIER[0], *DAYS[:5], date(2025, 11, 10)]
    for name, days in (("touched", touched), ("landed", [*EARLIER, *DAYS])):
        engine.register(name, pa.table({"order_date": pa.array(days, pa.date32())}))
    for name, sql in load_sql_cells("aggregate", returns_count_on=returns_count_on).items():
        engine.define(name, sql)
    seen: set[tuple[str, str]] = set()
    for seed in range(3):
        seen |= changes(engine, random.Random(seed))  # noqa: S311 (test data)
    listed, direct = set(), set()
    for gold, entry in lineage.items():
        for name, sources in entry["columns"].items():
            listed |= {(source, f"{gold}.{name}") for source in [*sources, *entry["rows"]]}
            direct |= {(source, f"{gold}.{name}") for source, kinds in sources.items() if is_direct(kinds)}
    assert seen - listed == set()
    # Every direct source changes the column's values in some case.
    assert {pair for pair in direct if pair[0].startswith("silver.")} - seen == set()
