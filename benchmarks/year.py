"""Part ``year``: process 365 dates of the demo shop on an empty lake, in ranges of a calendar month.

Papermill executes one notebook per stage and date for the first dates only: a year would take hours, and its time per date does
not fall. Two processes share these dates, each with a lake of its own, since the work by hand does not support concurrent
merges. The other systems process all dates: the functions written by hand in one warm process, the same functions as notebooks
of papermill, and ``daybook backfill`` with two ranges at a time. All gold tables are compared to the cent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_megabytes, format_ratio, format_seconds
from benchmarks.measuring import MemoryWatch, measure_interleaved
from benchmarks.shop import LAST_DAY, Workspace, list_days, read_gold, require_same_gold
from demo_shop import generate

DATE_COUNT = 365
_SAMPLED_DATES = 14
"""Dates of papermill with one notebook per stage and date."""
_AT_ONCE = 2
"""Processes of papermill by date, and ranges of the backfill."""


def run(bench: Bench) -> Result:
    """Measure a year (or the last ``--days``) on an empty lake, in seconds."""
    root, dates = bench.scratch / "year", list_days(min(bench.days or DATE_COUNT, DATE_COUNT))
    landing = _make_landing(root / "landing", len(dates))
    ranges = [f"{days[0]}..{days[-1]}" for days in _list_months(dates)]
    empty = Workspace(root / "empty", landing).make()
    reference = empty.copy(root / "limit")
    sampled = dates[:_SAMPLED_DATES]

    def by_hand(system: str) -> Result:
        workspace = empty.copy(root / system)
        with MemoryWatch() as memory, systems.start_workers(workspace, system) as workers:
            seconds = sum(workers[system].day(workspace, each)["seconds"] for each in ranges)
        if system != "limit":
            require_same_gold(system, workspace.lake, read_gold(reference.lake, dates[0]), dates[0])
        return {"seconds": seconds, "dates": len(dates), "peak_bytes": memory.peak}

    def papermill_by_date() -> Result:
        halves = [sampled[number::_AT_ONCE] for number in range(_AT_ONCE)]
        workspaces = [empty.copy(root / f"papermill-{number}") for number in range(_AT_ONCE)]
        with MemoryWatch() as memory:
            started = time.perf_counter()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(_process_dates, workspaces, halves))
            seconds = time.perf_counter() - started
        return {"seconds": seconds, "dates": len(sampled), "peak_bytes": memory.peak}

    def daybook() -> Result:
        workspace = empty.copy(root / "daybook")
        with MemoryWatch() as memory:
            result = systems.run_backfill(workspace, dates[0], dates[-1], _AT_ONCE)
        require_same_gold("daybook", workspace.lake, read_gold(reference.lake, dates[0]), dates[0])
        return {**result, "dates": len(dates), "peak_bytes": memory.peak}

    measures = {
        "limit": lambda: by_hand("limit"),
        "papermill by date, 2 at once": papermill_by_date,
        "papermill by month": lambda: by_hand("papermill"),
        "daybook backfill": daybook,
    }
    return {"repeats": 1, "systems": measure_interleaved(measures, 1, bench.log)}


def _process_dates(workspace: Workspace, dates: Sequence[str]) -> None:
    with systems.start_workers(workspace, "papermill") as workers:
        for day in dates:
            workers["papermill"].day(workspace, day)


def _make_landing(landing: Path, days: int) -> Path:
    marked = landing.parent / f"landing-{days}"
    if not marked.exists():
        generate(landing, last_day=LAST_DAY, days=days, force=True)
        for file in sorted(landing.glob("order_items/*/order_items.csv")):
            _drop_differing_lines(file)
        landing.rename(marked)
    return marked


def _drop_differing_lines(file: Path) -> None:
    """Keep the first of several lines of one order and number. A year of the shop has two that differ, which reject a date."""
    kept: dict[bytes, bytes] = {}
    lines = []
    for line in file.read_bytes().splitlines(keepends=True):
        if kept.setdefault(b",".join(line.split(b",", 2)[:2]), line) == line:
            lines.append(line)
    file.write_bytes(b"".join(lines))


def _list_months(dates: Sequence[str]) -> list[list[str]]:
    return [list(days) for _, days in groupby(dates, key=lambda day: day[:7])]


def dates_per_minute(system: Result) -> float:
    """Return the rate of a system."""
    return 60 * float(system["dates"]) / float(system["seconds"])


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    limit, base = dates_per_minute(found["limit"]), dates_per_minute(found["papermill by date, 2 at once"])
    rows = [
        [
            name, f"{each['dates']}", format_seconds(each["seconds"]), f"{dates_per_minute(each):,.0f}",
            format_ratio(limit, dates_per_minute(each)), format_ratio(dates_per_minute(each), base),
            format_megabytes(each["peak_bytes"]),
        ]
        for name, each in found.items()
    ]  # fmt: skip
    columns = ["a year", "dates", "time", "dates per minute", "time ÷ limit", "rate ÷ papermill by date", "largest process"]
    return [Table("A year in ranges of a month", columns, rows, "One repeat of each, on an empty lake.")]
