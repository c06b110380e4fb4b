"""Run parts of the benchmark: ``python -m benchmarks [PART ...]`` or `make bench ARGS="small start"`.

Results are added to a JSON file, one entry per part, and printed as Markdown with a table of targets. ``--write`` writes all
results of the file to ``docs/benchmarks.md``. Each part is a module.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import machine, publishing, targets
from benchmarks.bench import Bench
from daybook.settings import daybook_home

PARTS = ("small", "start", "backfill", "year", "volume", "limited", "growth", "glue", "validation", "comparison")
SHORT = ("small", "start", "validation", "comparison")
BOUNDED = ("validation", "comparison")
"""Parts that fail above a bound."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare Daybook with work by hand and with papermill."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)}, all (default: {', '.join(SHORT)})"
    )
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each system (default: 5)")
    parser.add_argument(
        "--scratch", type=Path, default=daybook_home() / "bench", help="folder of landings, workspaces and results"
    )
    parser.add_argument("--out", type=Path, help="file of the results (default: SCRATCH/results.json)")
    parser.add_argument("--orders", type=int, help="orders of the large day in volume and limited")
    parser.add_argument("--days", type=int, help="maximum number of earlier days in growth, and of dates in year")
    parser.add_argument("--write", action="store_true", help="write the results to docs/benchmarks.md")
    arguments = parser.parse_args()
    parts = list(PARTS) if "all" in arguments.parts else arguments.parts or ([] if arguments.write else list(SHORT))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; the parts are: {', '.join(PARTS)}, all")
    scratch = arguments.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    out = arguments.out or scratch / "results.json"
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    failures: list[str] = []
    for part in parts:
        module = import_module(f"benchmarks.{part}")
        sys.stderr.write(f"{part}\n")
        facts = machine.read_machine_facts()
        result = module.run(Bench(scratch, arguments.repeats, arguments.orders, arguments.days))
        results = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps({**results, part: {"machine": facts, **result}}, indent=2) + "\n")
        sys.stdout.write("\n".join(table.markdown() for table in module.tables(result)) + "\n")
        sys.stdout.flush()
        if part in BOUNDED and (failure := module.find_failure(result)):
            failures.append(failure)
    results = json.loads(out.read_text()) if out.exists() else {}
    if results:
        sys.stdout.write(targets.build_target_table(results).markdown())
    if arguments.write:
        publishing.write_results(results, PARTS)
    if failures:
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main()
