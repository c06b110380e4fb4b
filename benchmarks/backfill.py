"""Part ``backfill``: seven dates, some at a time.

By hand a date merges into tables that no other date may write to meanwhile, so the ``papermill`` command gets a home for each
date when several run at once, which flatters it; Daybook's dates share one lake, as they always do.
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
    """Seconds of seven dates, on an empty lake."""
    dates, place = list_days(DATE_COUNT), bench.scratch / "backfill"
    empty = Workspace(place / "empty", bench.demo).make()
    with systems.start_workers(empty, "limit") as warm:
        reference = empty.copy(place / "reference")
        for day in dates:
            warm["limit"].day(reference, day)
        wanted = read_gold(reference.lake, dates[0])

        def limit() -> Result:
            home = empty.copy(place / "limit")
            return {"seconds": sum(warm["limit"].day(home, day)["seconds"] for day in dates)}

        def daybook(parallel: int) -> Result:
            home = empty.copy(place / f"daybook-{parallel}")
            told = systems.run_backfill(home, dates[0], dates[-1], parallel)
            require_same_gold(f"daybook --parallel {parallel}", home.lake, wanted, dates[0])
            return told

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
            "systems": measure_interleaved(measures, bench.repeats, bench.say),
        }


def _papermill(empty: Workspace, dates: Sequence[str], at_once: int) -> Result:
    homes = [empty.copy(empty.place.parent / f"papermill-{day}") for day in dates]
    return {"seconds": systems.run_papermill_dates(homes, dates, at_once)}


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
    columns = [f"{result['dates']} dates", "median", "dates a minute", "÷ limit", "÷ papermill, 2 at once"]
    return [Table("A backfill", columns, rows, f"Medians of {result['repeats']} in turn, on an empty lake.")]
