"""The benchmark's command line: ``python -m benchmarks [PART ...]``; `make bench ARGS="small start"` is the same.

Each part can run alone. Results go as JSON to a file, a part an entry, and as Markdown to stdout, where last comes what is
wanted and what is, of all that the file has; ``--write`` puts that into ``docs/benchmarks.md``. Here: that. Not here: the
parts, a module each.
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

PARTS = ("small", "start", "backfill", "volume", "limited", "growth", "glue", "validation")
SHORT = ("small", "start", "validation")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Daybook against the usual ways.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}, all; {', '.join(SHORT)} if not given"
    )
    parser.add_argument("--repeats", type=int, default=5, help="of each system, in turn (5)")
    parser.add_argument("--scratch", type=Path, default=daybook_home() / "bench", help="landings, homes and results")
    parser.add_argument("--out", type=Path, help="the results' file; SCRATCH/results.json if not given")
    parser.add_argument("--orders", type=int, help="of the large day, instead of what the part has")
    parser.add_argument("--days", type=int, help="at most so many days before, in growth")
    parser.add_argument("--write", action="store_true", help="write the results to docs/benchmarks.md")
    given = parser.parse_args()
    parts = list(PARTS) if "all" in given.parts else given.parts or ([] if given.write else list(SHORT))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; the parts are: {', '.join(PARTS)}, all")
    scratch = given.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    out = given.out or scratch / "results.json"
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    failed: list[str] = []
    for part in parts:
        module = import_module(f"benchmarks.{part}")
        sys.stderr.write(f"{part}\n")
        facts = machine.read_machine_facts()
        result = module.run(Bench(scratch, given.repeats, given.orders, given.days))
        results = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps({**results, part: {"machine": facts, **result}}, indent=2) + "\n")
        sys.stdout.write("\n".join(table.markdown() for table in module.tables(result)) + "\n")
        sys.stdout.flush()
        failed += [said for said in [getattr(module, "broken", lambda _: "")(result)] if said]
    results = json.loads(out.read_text()) if out.exists() else {}
    if results:
        sys.stdout.write(targets.build_target_table(results).markdown())
    if given.write:
        publishing.write_results(results, PARTS)
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
