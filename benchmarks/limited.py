"""Part ``limited``: a day of a million orders and five million lines, with as much memory as there is, with 1 GiB for all
processes of `daybook run` together, and with 1 GiB a process.

For all together the limit is a control group's, as a container has it; the group is made below the folder that
``DAYBOOK_BENCH_GROUP`` names (of a memory controller, version 1 or 2, such as ``/sys/fs/cgroup/memory``) and removed again. No
folder, no group: the row says so. A process's limit is RLIMIT_DATA, which all that the command starts inherits: it counts what
a process has asked for, used or not, so of one process it is the stricter. Files mapped into memory do not count. A run that
fails is a result too.
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
"""What a command's process does before it is the command."""


def run(bench: Bench) -> Result:
    """How a run ends, in seconds and bytes; once each, since it is about whether it ends."""
    orders = bench.orders or ORDERS
    landing = bench.scratch / f"day-{orders}-long"
    make_large_day(landing, orders=orders, lines=LINES_PER_ORDER * orders)
    empty = Workspace(bench.scratch / "limited" / "empty", landing).make()
    found = {}

    def one(name: str, begin: Begin) -> None:
        found[name] = _run_once(empty.copy(bench.scratch / "limited" / "home"), begin)
        bench.say(f"{name}: {found[name]['outcome']} after {found[name]['seconds']:.0f} s")

    one("as much as there is", None)
    parent = os.environ.get(GROUP_VARIABLE, "")
    name = "1 GiB in all (control group)"
    if parent:
        with control_group(Path(parent), _MEMORY_LIMIT) as enter:
            one(name, enter)
    else:
        found[name] = {
            "outcome": "not taken",
            "seconds": 0.0,
            "peak_bytes": 0,
            "reasons": [f"{GROUP_VARIABLE} names no folder"],
        }
    one("1 GiB a process (RLIMIT_DATA)", partial(resource.setrlimit, resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT)))
    return {"orders": orders, "lines": LINES_PER_ORDER * orders, "systems": found}


@contextmanager
def control_group(parent: Path, limit: int) -> Iterator[Callable[[], None]]:
    """A new group of processes that may have so many bytes together; what is given puts the process that calls it there."""
    group = parent / f"daybook-bench-{os.getpid()}"
    group.mkdir()
    try:
        name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
        (group / name).write_text(f"{limit}\n")
        yield lambda: (group / "cgroup.procs").write_text(f"{os.getpid()}\n") and None
    finally:
        until = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < until:
            pass  # The last of them is about to end.
        group.rmdir()


def _run_once(home: Workspace, begin: Begin) -> Result:
    arguments = [*systems.DAYBOOK, "run", "--date", LAST_DAY.isoformat(), "--set", f"landing={home.landing}"]
    began = time.perf_counter()
    with MemoryWatch() as memory:
        subprocess.run(
            arguments, env=home.environment(), cwd=project_root(), preexec_fn=begin,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT,
        )  # fmt: skip
    taken = time.perf_counter() - began
    record = Archive(str(home.place / "archive")).run(f"daily-{LAST_DAY}-1")
    return {
        "seconds": taken,
        "peak_bytes": memory.peak,
        "outcome": record["outcome"],
        "reasons": record["reasons"],
        "stages": {each["stage"]: each["peak_memory_bytes"] for each in record["stages"]},
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
    return [Table(title, ["memory", "outcome", "time", "largest process", "why"], rows, "Measured once each.")]
