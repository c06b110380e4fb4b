"""Part ``volume``: process a generated day of 200,000 orders and 450,000 lines on an empty lake with every system.

Each measurement runs in a new process that has processed a day of the demo shop before, so that imports do not count. Memory
is the peak of the largest process (``measuring.MemoryWatch``). All gold tables are compared; of the pandas notebooks,
which lack some tables, only the daily sales are.
"""

from __future__ import annotations

from functools import partial

import duckdb
from deltalake import DeltaTable

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_megabytes, format_ratio, format_seconds
from benchmarks.measuring import MemoryWatch, measure_interleaved
from benchmarks.shop import LAST_DAY, Workspace, make_large_day, read_gold, require_same_gold

ORDERS = 200_000
LINES_PER_ORDER = 2.25
SYSTEM_NAMES = {
    "limit": "by hand, DuckDB, no notebook",
    "papermill": "the same as notebooks under papermill",
    "papermill-pandas": "pandas notebooks under papermill",
    "daybook": "Daybook, six stages",
}


def run(bench: Bench) -> Result:
    """Measure seconds and bytes, each in a new process."""
    orders = bench.orders or ORDERS
    lines = int(orders * LINES_PER_ORDER)
    landing, root, day = bench.scratch / f"day-{orders}", bench.scratch / "volume", LAST_DAY.isoformat()
    make_large_day(landing, orders=orders, lines=lines)
    empty = Workspace(root / "empty", landing).make()
    small = Workspace(root / "small", bench.demo).make()
    reference = empty.copy(root / "reference")
    systems.run_cold_limit(reference, day)
    expected = read_gold(reference.lake, day)

    def measure(name: str) -> Result:
        workspace = empty.copy(root / name)
        with MemoryWatch() as memory, systems.start_workers(workspace, name) as warm:
            warm[name].day(small.copy(root / f"{name}-before"), day)
            result = warm[name].day(workspace, day)
        if name == "papermill-pandas":
            _require_same_sales(workspace, expected["daily_sales"])
        else:
            require_same_gold(name, workspace.lake, expected, day)
        return {**result, "peak_bytes": memory.peak, "largest": memory.largest}

    measures = {name: partial(measure, name) for name in SYSTEM_NAMES}
    return {
        "orders": orders,
        "lines": lines,
        "repeats": bench.repeats,
        "systems": measure_interleaved(measures, bench.repeats, bench.log),
    }


def _require_same_sales(workspace: Workspace, expected: list[tuple]) -> None:
    rows = DeltaTable(str(workspace.lake / "gold" / "daily_sales")).to_pyarrow_table()
    columns = "order_date, orders, units, gross / 100.0, returns / 100.0, new_customers, returning_customers"
    sql = f"SELECT {columns} FROM rows ORDER BY 1"
    found = [tuple(float(each) if at else each for at, each in enumerate(row)) for row in duckdb.sql(sql).fetchall()]
    reference = [(each[0], *(float(each[at]) for at in (1, 3, 4, 5, 8, 9))) for each in expected]
    if len(rows) != len(expected) or found != reference:
        raise AssertionError(f"pandas: daily sales are {found}, expected {reference}")


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    limit, pandas = found["limit"], found["papermill-pandas"]
    rows = [
        [
            SYSTEM_NAMES[name], format_seconds(each["seconds"]), format_ratio(each["seconds"], limit["seconds"]),
            format_ratio(each["seconds"], pandas["seconds"]), format_megabytes(each["peak_bytes"]),
            format_ratio(each["peak_bytes"], limit["peak_bytes"]),
        ]
        for name, each in found.items()
    ]  # fmt: skip
    title = f"A day of {result['orders']:,} orders and {result['lines']:,} lines"
    columns = ["on an empty lake", "median", "÷ limit", "÷ pandas", "largest process", "÷ limit"]
    return [Table(title, columns, rows, f"Medians of {result['repeats']} in turn; memory is the largest of them.")]
