"""Part ``limited``: run a day of a million orders and five million lines without and with memory limits.

The limit for all processes of `daybook run` together is a control group, as in a container. The group is created in the folder
of a memory controller (version 1 or 2) that ``DAYBOOK_BENCH_GROUP`` names, such as ``/sys/fs/cgroup/memory``; without the
variable this limit is not measured. The limit per process is RLIMIT_DATA, which child processes inherit. It counts allocated
memory even if it is unused, but no mapped files. A failed run is a result, not an error.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_megabytes, format_seconds
from benchmarks.measuring import MemoryWatch
from benchmarks.shop import LAST_DAY, Workspace, make_large_day
from daybook.records.archive import Archive
from daybook.settings import project_root

ORDERS = 1_000_000
LINES_PER_ORDER = 5
GROUP_VARIABLE = "DAYBOOK_BENCH_GROUP"
_MEMORY_LIMIT = 1 << 30
_TIMEOUT = 3600
Begin = Optional[Callable[[], None]]
"""A function that the child process calls before it executes the command."""


def run(bench: Bench) -> Result:
    """Run the day once per limit; return outcome, seconds and bytes."""
    orders = bench.orders or ORDERS
    landing = bench.scratch / f"day-{orders}-long"
    make_large_day(landing, orders=orders, lines=LINES_PER_ORDER * orders)
    empty = Workspace(bench.scratch / "limited" / "empty", landing).make()
    found = {}

    def one(name: str, begin: Begin) -> None:
        found[name] = _run_once(empty.copy(bench.scratch / "limited" / "home"), begin)
        bench.log(f"{name}: {found[name]['outcome']} after {found[name]['seconds']:.0f} s")

    one("no limit", None)
    parent = os.environ.get(GROUP_VARIABLE, "")
    name = "1 GiB in total (control group)"
    if parent:
        with control_group(Path(parent), _MEMORY_LIMIT) as enter:
            one(name, enter)
    else:
        found[name] = {
            "outcome": "not measured",
            "seconds": 0.0,
            "peak_bytes": 0,
            "reasons": [f"{GROUP_VARIABLE} is not set"],
        }
    one("1 GiB per process (RLIMIT_DATA)", partial(resource.setrlimit, resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT)))
    return {"orders": orders, "lines": LINES_PER_ORDER * orders, "systems": found}


@contextmanager
def control_group(parent: Path, limit: int) -> Iterator[Callable[[], None]]:
    """Create a control group of ``limit`` bytes; yield a function that adds the calling process to it."""
    group = parent / f"daybook-bench-{os.getpid()}"
    group.mkdir()
    try:
        name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
        (group / name).write_text(f"{limit}\n")
        yield lambda: (group / "cgroup.procs").write_text(f"{os.getpid()}\n") and None
    finally:
        deadline = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)  # its last processes are exiting
        group.rmdir()


def _run_once(workspace: Workspace, begin: Begin) -> Result:
    arguments = [*systems.DAYBOOK, "run", "--date", LAST_DAY.isoformat(), "--set", f"landing={workspace.landing}"]
    start = time.perf_counter()
    with MemoryWatch() as memory:
        subprocess.run(
            arguments, env=workspace.environment(), cwd=project_root(), preexec_fn=begin,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    record = Archive(str(workspace.root / "archive")).run(f"daily-{LAST_DAY}-1")
    return {
        "seconds": seconds,
        "peak_bytes": memory.peak,
        "outcome": record.outcome,
        "reasons": record.reasons,
        "stages": {each.stage: each.peak_memory_bytes for each in record.stages},
    }


def tables(result: Result) -> list[Table]:
    rows = [
        [
            name,
            each["outcome"],
            format_seconds(each["seconds"]),
            format_megabytes(each["peak_bytes"]),
            "; ".join(each["reasons"]),
        ]
        for name, each in result["systems"].items()
    ]
    title = f"A day of {result['orders']:,} orders and {result['lines']:,} lines"
    return [Table(title, ["memory", "outcome", "time", "largest process", "reasons"], rows, "Measured once each.")]
