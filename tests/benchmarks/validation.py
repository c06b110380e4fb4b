"""What it costs to hold a million order lines against their contract, as a multiple of one SELECT that reads the same columns.

    python -m tests.benchmarks.validation

All read the same Delta tables through the same engine, in turn, several times; ratios are those of the medians. Ends with exit
code 1 where the ratio to ``SELECT columns FROM table`` is above the bound. The ratio to a SELECT that hands out nothing but one
maximum a column is printed, too: that is the least that reading them can cost, and no validator could use it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import duckdb
from deltalake import write_deltalake

from daybook.contracts import load_table
from daybook.engines import DuckDBEngine
from daybook.lake import Lake
from daybook.quality import counting_sql, table_rules

LINES = 1_000_000
ROUNDS = 9
BOUND = 3.0
CONTRACT = load_table("silver.order_items")


def fill(lake: Path) -> None:
    """A million lines of a third as many orders, as a shop has them: prices, quantities and products are mixed."""
    source = duckdb.connect()
    lines = f"""
        SELECT 'DB-' || lpad(CAST(n // 3 AS VARCHAR), 7, '0') AS order_id, n % 3 + 1 AS line_number,
               'P-' || CAST(hash(n) % 5000 AS VARCHAR) AS product_id, 'S-' || CAST(n % 50 AS VARCHAR) AS seller_id,
               n % 4 + 1 AS quantity, CAST(hash(7 * n) % 10000 / 100.0 AS DECIMAL(18, 4)) AS unit_price,
               CAST(4.95 AS DECIMAL(18, 4)) AS freight, FALSE AS is_return,
               TIMESTAMPTZ '2025-11-30 12:00:00+00' AS version_at, DATE '2025-11-30' AS landed_on
        FROM range({LINES}) AS numbers(n)
    """
    columns = ", ".join(CONTRACT.columns)
    tables = {
        "order_items": f"SELECT {columns} FROM (SELECT *, quantity * unit_price AS line_amount FROM ({lines}) AS l) AS t",
        "orders": f"SELECT DISTINCT order_id FROM ({lines}) AS l",
        "products": f"SELECT DISTINCT product_id FROM ({lines}) AS l",
    }
    for name, sql in tables.items():
        rows = source.execute(sql).arrow()
        write_deltalake(str(lake / "silver" / name), rows.cast(CONTRACT.arrow_schema) if name == "order_items" else rows)


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    rules = table_rules(CONTRACT)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        fill(Path(place) / "lake")
        engine = DuckDBEngine(Lake(str(Path(place) / "lake")), "UTC")
        columns = ", ".join(CONTRACT.columns)
        maxima = ", ".join(f"max({column})" for column in CONTRACT.columns)
        actions: dict[str, Callable[[], object]] = {
            "SELECT": lambda: engine.arrow(f"SELECT {columns} FROM silver.order_items"),
            "maxima": lambda: engine.one(f"SELECT {maxima} FROM silver.order_items"),
            "rules": lambda: engine.one(counting_sql("silver.order_items", rules)),
        }
        taken: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(ROUNDS):
            for name, action in actions.items():
                taken[name].append(seconds(action))
        os.chdir("/")
    median = {name: statistics.median(times) for name, times in taken.items()}
    ratio = median["rules"] / median["SELECT"]
    sys.stdout.write(
        f"{LINES:,} order lines, median seconds of {ROUNDS}: {len(rules)} rules {median['rules']:.3f}, "
        f"SELECT of the columns {median['SELECT']:.3f}, maxima of the columns {median['maxima']:.3f}\n"
        f"rules / SELECT {ratio:.2f} (bound {BOUND:.2f}), rules / maxima {median['rules'] / median['maxima']:.2f}\n"
    )
    sys.exit(ratio > BOUND)


if __name__ == "__main__":
    main()
