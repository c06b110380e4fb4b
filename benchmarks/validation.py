"""Part ``validation``: check a million order lines by their contract, compared with a SELECT of the same columns.

All queries read the same Delta tables through the same engine, in turn. The command exits with 1 if the ratio of the medians
to ``SELECT columns FROM table`` is above the bound. A SELECT of one maximum per column shows the minimum cost of reading.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Callable

import duckdb
from deltalake import write_deltalake

from benchmarks.bench import Bench, Result, Table, format_ratio
from benchmarks.measuring import measure_interleaved
from daybook.contracts import load_table
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.quality.checks import counting_sql
from daybook.quality.rules import table_rules

LINE_COUNT = 1_000_000
ROUNDS = 9
BOUND = 3.0
CONTRACT = load_table("silver.order_items")


def write_lines(lake: Path) -> None:
    """Write a million order lines, three per order, with varying prices, quantities and products."""
    source = duckdb.connect()
    lines = f"""
        SELECT 'DB-' || lpad(CAST(n // 3 AS VARCHAR), 7, '0') AS order_id, n % 3 + 1 AS line_number,
               'P-' || CAST(hash(n) % 5000 AS VARCHAR) AS product_id, 'S-' || CAST(n % 50 AS VARCHAR) AS seller_id,
               n % 4 + 1 AS quantity, CAST(hash(7 * n) % 10000 / 100.0 AS DECIMAL(18, 4)) AS unit_price,
               CAST(4.95 AS DECIMAL(18, 4)) AS freight, FALSE AS is_return, CAST(NULL AS TIMESTAMPTZ) AS returned_at,
               TIMESTAMPTZ '2025-11-30 12:00:00+00' AS version_at, DATE '2025-11-30' AS landed_on
        FROM range({LINE_COUNT}) AS numbers(n)
    """
    columns = ", ".join(CONTRACT.columns)
    tables = {
        "order_items": f"SELECT {columns} FROM (SELECT *, quantity * unit_price AS line_amount FROM ({lines}) AS l) AS t",
        "orders": f"SELECT DISTINCT order_id FROM ({lines}) AS l",
        "products": f"SELECT DISTINCT product_id FROM ({lines}) AS l",
    }
    for name, sql in tables.items():
        rows = source.sql(sql).to_arrow_table()
        write_deltalake(str(lake / "silver" / name), rows.cast(CONTRACT.arrow_schema) if name == "order_items" else rows)


def run(bench: Bench) -> Result:
    """Measure the rules and the reading of the same columns, in seconds."""
    rules = table_rules(CONTRACT)
    root = bench.scratch / "validation"
    if not (root / "lake").exists():
        write_lines(root / "lake")
    engine = DuckDBEngine(Lake(str(root / "lake")), "UTC", spill=root)
    columns = ", ".join(CONTRACT.columns)
    maxima = ", ".join(f"max({column})" for column in CONTRACT.columns)
    actions: dict[str, Callable[[], object]] = {
        "SELECT": lambda: engine.arrow(f"SELECT {columns} FROM silver.order_items"),
        "maxima": lambda: engine.fetch_row(f"SELECT {maxima} FROM silver.order_items"),
        "rules": lambda: engine.fetch_row(counting_sql("silver.order_items", rules)),
    }
    measures = {name: partial(_measure, action) for name, action in actions.items()}
    repeats = max(bench.repeats, ROUNDS)
    return {"repeats": repeats, "rules": len(rules), "systems": measure_interleaved(measures, repeats, lambda _: None)}


def _measure(action: Callable[[], object]) -> Result:
    start = time.perf_counter()
    action()
    return {"seconds": time.perf_counter() - start}


def find_failure(result: Result) -> str:
    """Return a message if the ratio exceeds the bound, otherwise an empty text."""
    found = result["systems"]["rules"]["seconds"] / result["systems"]["SELECT"]["seconds"]
    return f"rules cost {found:.2f} times the SELECT of their columns, above the bound of {BOUND:.2f}" if found > BOUND else ""


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    base = found["SELECT"]["seconds"]
    names = {
        "SELECT": "SELECT of the columns",
        "maxima": "one maximum per column",
        "rules": f"{result['rules']} rules (bound {BOUND:.2f})",
    }
    rows = [[names[name], f"{each['seconds']:.3f} s", format_ratio(each["seconds"], base)] for name, each in found.items()]
    title = f"Contracts: {LINE_COUNT:,} order lines"
    return [Table(title, ["in one engine", "median", "÷ SELECT"], rows, f"Medians of {result['repeats']} in turn.")]
