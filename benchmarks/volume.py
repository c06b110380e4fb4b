"""Part ``volume``: a made-up day of 200,000 orders and 450,000 lines on an empty lake, by every system; seconds and memory.

Each measurement has a process of its own, which has done a day of the demo shop before, in another lake and uncounted: imports
count for no system. Memory is the peak of the largest process (``measuring.MemoryWatch``). What pandas comes to is in cents and
lacks some tables: its daily sales are compared; the others' gold is compared whole.
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
    """Seconds and bytes, each measurement with a process of its own."""
    orders = bench.orders or ORDERS
    lines = int(orders * LINES_PER_ORDER)
    landing, place, day = bench.scratch / f"day-{orders}", bench.scratch / "volume", LAST_DAY.isoformat()
    make_large_day(landing, orders=orders, lines=lines)
    empty = Workspace(place / "empty", landing).make()
    small = Workspace(place / "small", bench.demo).make()
    reference = empty.copy(place / "reference")
    systems.run_cold_limit(reference, day)
    wanted = read_gold(reference.lake, day)

    def measure(name: str) -> Result:
        home = empty.copy(place / name)
        with MemoryWatch() as memory, systems.start_workers(home, name) as warm:
            warm[name].day(small.copy(place / f"{name}-before"), day)
            told = warm[name].day(home, day)
        if name == "papermill-pandas":
            _require_same_sales(home, wanted["daily_sales"])
        else:
            require_same_gold(name, home.lake, wanted, day)
        return {**told, "peak_bytes": memory.peak, "largest": memory.largest}

    measures = {name: partial(measure, name) for name in SYSTEM_NAMES}
    return {
        "orders": orders,
        "lines": lines,
        "repeats": bench.repeats,
        "systems": measure_interleaved(measures, bench.repeats, bench.say),
    }


def _require_same_sales(home: Workspace, wanted: list[tuple]) -> None:
    rows = DeltaTable(str(home.lake / "gold" / "daily_sales")).to_pyarrow_table()
    columns = "order_date, orders, units, gross / 100.0, returns / 100.0, new_customers, returning_customers"
    sql = f"SELECT {columns} FROM rows ORDER BY 1"
    found = [tuple(float(each) if at else each for at, each in enumerate(row)) for row in duckdb.sql(sql).fetchall()]
    others = [(each[0], *(float(each[at]) for at in (1, 3, 4, 5, 8, 9))) for each in wanted]
    if len(rows) != len(wanted) or found != others:
        raise AssertionError(f"pandas: daily sales are {found} where {others} are wanted")


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
