"""Part ``comparison``: compare two versions of a million order lines, with a SELECT of the columns of both.

A twentieth of the lines has another price, or all have. Both read the same Delta tables, in turn. The command exits with 1 if
the ratio of the medians, for a twentieth, is above the bound. The part leaves out the start of the command.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Callable

from deltalake import DeltaTable

from benchmarks.bench import Bench, Result, Table, format_ratio, format_seconds
from benchmarks.measuring import measure_interleaved
from benchmarks.validation import CONTRACT, LINE_COUNT, write_lines
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.review.comparison import compare_versions
from daybook.settings import Settings, load_settings

ROUNDS = 5
BOUND = 6.0
CHANGED = LINE_COUNT // 20
_TABLE = CONTRACT.full_name


def run(bench: Bench) -> Result:
    """Measure both comparisons and the reading of the same columns, in seconds."""
    root = bench.scratch / "comparison"
    settings = load_settings("local", {"lake": str(root / "lake")})
    if not root.exists():
        write_lines(root / "lake")
        table = DeltaTable(Lake(settings.lake).uri(_TABLE))
        price = {"unit_price": "unit_price + 1"}
        table.update(price)
        table.update(price, predicate=f"order_id < 'DB-{CHANGED // 3:07d}'")
    actions: dict[str, Callable[[], object]] = {
        "SELECT": partial(_read_both, settings),
        "a twentieth": partial(compare_versions, settings, "1", tables=[_TABLE]),
        "all": partial(compare_versions, settings, "0", tables=[_TABLE]),
    }
    measures = {name: partial(_measure, action) for name, action in actions.items()}
    repeats = max(bench.repeats, ROUNDS)
    return {"repeats": repeats, "systems": measure_interleaved(measures, repeats, lambda _: None)}


def _read_both(settings: Settings) -> None:
    for version in (1, 2):
        lake = Lake(settings.lake)
        lake.pin({_TABLE: version})
        DuckDBEngine(lake, "UTC").arrow(f"SELECT {', '.join(CONTRACT.columns)} FROM {_TABLE}")


def _measure(action: Callable[[], object]) -> Result:
    start = time.perf_counter()
    action()
    return {"seconds": time.perf_counter() - start}


def find_failure(result: Result) -> str:
    """Return a message if the ratio exceeds the bound, otherwise an empty text."""
    found = result["systems"]["a twentieth"]["seconds"] / result["systems"]["SELECT"]["seconds"]
    return (
        f"a comparison costs {found:.2f} times a SELECT of both versions, above the bound of {BOUND:.2f}"
        if found > BOUND
        else ""
    )


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    base = found["SELECT"]["seconds"]
    names = {
        "SELECT": "SELECT of the columns of both versions",
        "a twentieth": f"comparison, a twentieth of the lines changed (bound {BOUND:.2f})",
        "all": "comparison, all lines changed",
    }
    rows = [[names[name], format_seconds(each["seconds"]), format_ratio(each["seconds"], base)] for name, each in found.items()]
    title = f"Comparison: two versions of {LINE_COUNT:,} order lines"
    return [Table(title, ["within a process", "median", "÷ SELECT"], rows, f"Medians of {result['repeats']} in turn.")]
