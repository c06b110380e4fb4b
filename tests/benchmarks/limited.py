"""Part ``limited``: a day of a million orders and five million lines, with as much memory as there is and with 1 GiB a process.

The limit is RLIMIT_DATA of `daybook run`, which all it starts inherits: it counts what a process has asked for, used or not,
so it is stricter than a control group's. Files mapped into memory do not count. A run that fails is a result too.
"""

from __future__ import annotations

import resource
import subprocess
import time
from functools import partial
from typing import Optional

from daybook.archive import Archive
from daybook.params import project_root
from tests.benchmarks import systems
from tests.benchmarks.bench import Bench, Result, Table, megabytes, seconds
from tests.benchmarks.measuring import MemoryWatch
from tests.benchmarks.shop import LAST, Home, make_large_day

ORDERS = 1_000_000
LINES_PER_ORDER = 5
LIMITS = {"as much as there is": None, "1 GiB a process": 1 << 30}
_TIMEOUT = 3600


def run(bench: Bench) -> Result:
    """How a run ends, in seconds and bytes; once each, since it is about whether it ends."""
    orders = bench.orders or ORDERS
    landing = bench.scratch / f"day-{orders}-long"
    make_large_day(landing, orders=orders, lines=LINES_PER_ORDER * orders)
    empty = Home(bench.scratch / "limited" / "empty", landing).make()
    found = {}
    for name, limit in LIMITS.items():
        found[name] = _one(empty.copy(bench.scratch / "limited" / "home"), limit)
        bench.say(f"{name}: {found[name]['outcome']} after {found[name]['seconds']:.0f} s")
    return {"orders": orders, "lines": LINES_PER_ORDER * orders, "systems": found}


def _one(home: Home, limit: Optional[int]) -> Result:
    arguments = [*systems.DAYBOOK, "run", "--date", LAST.isoformat(), "--set", f"landing={home.landing}"]
    set_limit = None if limit is None else partial(resource.setrlimit, resource.RLIMIT_DATA, (limit, limit))
    began = time.perf_counter()
    with MemoryWatch() as memory:
        subprocess.run(
            arguments, env=home.environment(), cwd=project_root(), preexec_fn=set_limit,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT,
        )  # fmt: skip
    taken = time.perf_counter() - began
    record = Archive(str(home.place / "archive")).run(f"daily-{LAST}-1")
    return {
        "seconds": taken,
        "peak_bytes": memory.peak,
        "outcome": record["outcome"],
        "reasons": record["reasons"],
        "stages": {each["stage"]: each["peak_memory_bytes"] for each in record["stages"]},
    }


def tables(result: Result) -> list[Table]:
    rows = [
        [name, each["outcome"], seconds(each["seconds"]), megabytes(each["peak_bytes"]), "; ".join(each["reasons"])]
        for name, each in result["systems"].items()
    ]
    title = f"A day of {result['orders']:,} orders and {result['lines']:,} lines"
    return [Table(title, ["memory", "outcome", "time", "largest process", "why"], rows, "Once each.")]
