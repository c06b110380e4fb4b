"""Part ``backfill``: process seven dates, several at a time.

The work by hand does not support concurrent merges into one table, so each date of the ``papermill`` command has a workspace
of its own, which is an advantage for it. Daybook's dates share one lake.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_ratio, format_seconds
from benchmarks.measuring import measure_interleaved
from benchmarks.shop import Workspace, list_days, read_gold, require_same_gold

DATE_COUNT = 7


def run(bench: Bench) -> Result:
    """Measure seven dates on an empty lake, in seconds."""
    dates, root = list_days(DATE_COUNT), bench.scratch / "backfill"
    empty = Workspace(root / "empty", bench.demo).make()
    with systems.start_workers(empty, "limit") as warm:
        reference = empty.copy(root / "reference")
        for day in dates:
            warm["limit"].day(reference, day)
        expected = read_gold(reference.lake, dates[0])

        def limit() -> Result:
            workspace = empty.copy(root / "limit")
            return {"seconds": sum(warm["limit"].day(workspace, day)["seconds"] for day in dates)}

        def daybook(parallel: int) -> Result:
            workspace = empty.copy(root / f"daybook-{parallel}")
            result = systems.run_backfill(workspace, dates[0], dates[-1], parallel)
            require_same_gold(f"daybook --parallel {parallel}", workspace.lake, expected, dates[0])
            return result

        measures = {
            "limit": limit,
            "papermill command, 2 at once": partial(_papermill, empty, dates, 2),
            "papermill command, 4 at once": partial(_papermill, empty, dates, 4),
            "daybook backfill --parallel 1": partial(daybook, 1),
            "daybook backfill --parallel 2": partial(daybook, 2),
        }
        return {
            "repeats": bench.repeats,
            "dates": DATE_COUNT,
            "systems": measure_interleaved(measures, bench.repeats, bench.log),
        }


def _papermill(empty: Workspace, dates: Sequence[str], at_once: int) -> Result:
    workspaces = [empty.copy(empty.root.parent / f"papermill-{day}") for day in dates]
    return {"seconds": systems.run_papermill_dates(workspaces, dates, at_once)}


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    limit, base = found["limit"]["seconds"], found["papermill command, 2 at once"]["seconds"]
    rows = [
        [
            name, format_seconds(each["seconds"]), f"{60 * result['dates'] / each['seconds']:.0f}",
            format_ratio(each["seconds"], limit), format_ratio(each["seconds"], base),
        ]
        for name, each in found.items()
    ]  # fmt: skip
    columns = [f"{result['dates']} dates", "median", "dates per minute", "÷ limit", "÷ papermill, 2 at once"]
    return [Table("A backfill", columns, rows, f"Medians of {result['repeats']} in turn, on an empty lake.")]
