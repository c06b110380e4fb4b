"""Part ``small``: process one day of the demo shop (about 300 orders, 3,400 landed rows) with every system.

Each measurement starts from a copy of a workspace in which the system has processed the two earlier days. Systems are measured
in turn, and each system's gold must equal that of the work by hand.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any, Callable

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_ratio, format_seconds
from benchmarks.measuring import measure_interleaved
from benchmarks.shop import EARLIER_DAYS, Workspace, list_days, read_gold, require_same_gold
from daybook.records.timings import PHASES

SYSTEM_NAMES = {
    "limit": "by hand, warm process (the limit)",
    "limit cold": "by hand, from the shell",
    "papermill": "papermill in a loop, warm process",
    "papermill command": "papermill command, one per stage",
    "daybook": "Daybook, a date within a command",
    "daybook cold": "`daybook run` from the shell",
}


def run(bench: Bench) -> Result:
    """Measure a day with each system, in seconds, and each stage of Daybook."""
    *before, day = list_days(EARLIER_DAYS + 1)
    root = bench.scratch / "small"
    by_hand = systems.prepare_workspace(root / "base-hand", bench.demo, "limit", before)
    with systems.start_workers(by_hand, "limit", "papermill", "daybook") as warm:
        daybook = systems.prepare_workspace(root / "base-daybook", bench.demo, "daybook", before, warm["daybook"])
        calls: dict[str, tuple[Workspace, Callable[[Workspace, str], Result]]] = {
            "limit": (by_hand, warm["limit"].day),
            "limit cold": (by_hand, systems.run_cold_limit),
            "papermill": (by_hand, warm["papermill"].day),
            "papermill command": (by_hand, systems.run_papermill_command),
            "daybook": (daybook, warm["daybook"].day),
            "daybook cold": (daybook, systems.run_cold_daybook),
        }
        # Not measured: warms up the workers and computes the expected gold.
        for name, (base, call) in calls.items():
            if name in warm:
                call(base.copy(root / name), day)
        expected = read_gold(root / "limit" / "lake", before[0])

        def measure(name: str, base: Workspace, call: Callable[[Workspace, str], Result]) -> Result:
            workspace = base.copy(root / name.replace(" ", "-"))
            result = call(workspace, day)
            require_same_gold(name, workspace.lake, expected, before[0])
            return result

        measures = {name: partial(measure, name, base, call) for name, (base, call) in calls.items()}
        found = measure_interleaved(measures, bench.repeats, bench.log)
    return {"repeats": bench.repeats, "systems": found}


def tables(result: Result) -> list[Table]:
    """Return a table of the systems and a table of Daybook's stages."""
    found: dict[str, Any] = result["systems"]
    limit, loop, command = (found[name]["seconds"] for name in ("limit", "papermill", "papermill command"))
    rows = [
        [
            SYSTEM_NAMES[name], format_seconds(each["seconds"]),
            format_seconds(min(each["all_seconds"])), format_seconds(max(each["all_seconds"])),
            format_ratio(each["seconds"], limit), format_ratio(each["seconds"], loop), format_ratio(each["seconds"], command),
        ]
        for name, each in found.items()
    ]  # fmt: skip
    columns = ["one day of the demo shop", "median", "min", "max", "÷ limit", "÷ papermill loop", "÷ papermill command"]
    remark = f"Medians of {result['repeats']} in turn. Every system's seven gold tables are the same, to the cent."
    return [Table("A small day", columns, rows, remark), _build_stage_table(found["daybook"]["stages"])]


def _build_stage_table(stages: list[dict[str, Any]]) -> Table:
    """Return the seconds of each phase of the last repeat's stages, and the overhead of their notebooks."""
    phases = [each["phases"] for each in stages]
    rows = [
        [
            each["stage"],
            *(format_seconds(each["phases"].get(name, 0.0)) for name in PHASES),
            format_seconds(notebook_overhead(each["phases"])),
        ]
        for each in stages
    ]
    sums = [format_seconds(sum(each.get(name, 0.0) for each in phases)) for name in PHASES]
    rows.append(["all", *sums, format_seconds(sum(map(notebook_overhead, phases)))])
    remark = (
        f"From the last repeat. The overhead is the time from papermill's start until the notebook is in the archive, without "
        "its cells (the first of which opens the stage): start and end of the kernel, and the search for personal data. "
        f"Its median is {format_seconds(median(map(notebook_overhead, phases)))}."
    )
    return Table("Daybook's stages", ["stage", *PHASES, "overhead"], rows, remark)


def notebook_overhead(phases: dict[str, float]) -> float:
    """Return the seconds of a stage's notebook without its cells."""
    return sum(phases.get(name, 0.0) for name in ("kernel", "kernel's end", "search"))
