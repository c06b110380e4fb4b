"""Part ``start``: measure commands that do almost nothing."""

from __future__ import annotations

import sys
from functools import partial

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_ratio
from benchmarks.measuring import measure_interleaved, run_command
from benchmarks.shop import list_days
from daybook.settings import project_root

_MIN_REPEATS = 15


def run(bench: Bench) -> Result:
    """Measure Python and two commands of Daybook, in seconds; ``daybook runs`` lists two runs."""
    workspace = systems.prepare_workspace(bench.scratch / "small" / "base-daybook", bench.demo, "daybook", list_days(3)[:-1])
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "daybook --help": [*systems.DAYBOOK, "--help"],
        "daybook runs": [*systems.DAYBOOK, "runs"],
    }

    def measure(arguments: list[str]) -> Result:
        return {"seconds": run_command(arguments, env=workspace.environment(), cwd=project_root())}

    repeats = max(bench.repeats, _MIN_REPEATS)
    measures = {name: partial(measure, arguments) for name, arguments in commands.items()}
    measure_interleaved(measures, 1, lambda _: None)  # fills the file cache and compiles bytecode
    return {"repeats": repeats, "systems": measure_interleaved(measures, repeats, lambda _: None)}


def tables(result: Result) -> list[Table]:
    found = result["systems"]
    base = found["python -c pass"]["seconds"]
    rows = [
        [
            f"`{name}`",
            f"{each['seconds'] * 1000:.0f} ms",
            f"{min(each['all_seconds']) * 1000:.0f} ms",
            format_ratio(each["seconds"], base),
        ]
        for name, each in found.items()
    ]
    return [
        Table(
            "Start of a command",
            ["from the shell", "median", "min", "÷ python"],
            rows,
            f"Medians of {result['repeats']} in turn.",
        )
    ]
