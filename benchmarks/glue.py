"""Part ``glue``: run one stage from the bundle on a bare Python 3.9, as a Glue Python shell job does.

The bootstrap script reads and unpacks the bundle and starts the job, which runs one stage. The table shows the script's steps
and the phases that the job records (``daybook.records.timings``), on all processors and on one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_megabytes, format_seconds
from benchmarks.measuring import run_command, summarize_repeats
from benchmarks.shop import LAST_DAY, Workspace
from daybook.deploy.bytecode import find_python
from daybook.settings import project_root

RUN = f"daily-{LAST_DAY}-1"
_SCRIPT = """
import json, os, sys, tempfile, time
from pathlib import Path
if sys.argv[1] == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def read():
    spent = os.times()
    return time.perf_counter(), spent.user + spent.system + spent.children_user + spent.children_system
start = read()
sys.path.insert(0, sys.argv[2])
import glue_bootstrap
folder = Path(tempfile.mkdtemp(prefix="daybook-"))
archive = glue_bootstrap.fetch(sys.argv[3], folder); read_and_checked = read()
root = glue_bootstrap.unpack(archive, folder / "bundle"); unpacked = read()
command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *sys.argv[4:]]
env = glue_bootstrap.environment(root, folder)
code, output = glue_bootstrap.run(command, env, folder / "work"); ended = read()
times = [start, read_and_checked, unpacked, ended]
steps = {name: [b - a for a, b in zip(*both)] for name, *both in zip(["read and check", "unpack", "job"], times, times[1:])}
print(json.dumps({"code": code, "output": output, "steps": steps, "folder": str(folder)}))
"""
_OTHER_STEPS = "archive and end"
"""The rest of a job's time, after its last phase: write the record, the notebook and the page, and exit."""
_STEP_NAMES = {
    "start": "imports, for the kernel too",
    "claim": "claim",
    "kernel": "kernel ready",
    "opening": "opening",
    "cells": "cells",
    "kernel's end": "kernel's end",
    "search": "search",
    "page": "page",
    _OTHER_STEPS: _OTHER_STEPS,
}


def run(bench: Bench) -> Result:
    """Measure each step of a job that ingests the demo's last day: elapsed and CPU seconds, on all processors and on one."""
    python = find_python()
    if python is None:
        raise SystemExit("The part glue needs Python 3.9; install it with `uv python install 3.9`.")
    empty = Workspace(bench.scratch / "glue" / "empty", bench.demo).make()
    bundles = bench.scratch / "glue" / "bundle"
    if not list(bundles.glob("daybook-*.zip")):
        run_command([*systems.DAYBOOK, "bundle", "--out", str(bundles)], env=empty.environment(), cwd=project_root())
    (bundle,) = bundles.glob("daybook-*.zip")
    found: dict[str, list[dict[str, Any]]] = {"all": [], "one": []}
    for number in range(1, bench.repeats + 1):
        for processors, measured in found.items():
            workspace = empty.copy(bench.scratch / "glue" / "home")
            # Flush earlier writes, so that the measurement does not include them.
            os.sync()
            measured.append(_run_job(python, processors, bundle, workspace))
            bench.log(f"{number}/{bench.repeats} {processors}: {measured[-1]['seconds']:.2f} s")
    # Deleted after all measurements: file systems create files five times slower after a deletion of thousands.
    for measured in found.values():
        for each in measured:
            each["steps"]["remove"] = _delete_folder(Path(each.pop("folder")))
            each["seconds"] += each["steps"]["remove"][0]
    ingest = {}
    for processors, measured in found.items():
        middle = sorted(measured, key=lambda each: each["seconds"])[len(measured) // 2]
        ingest[processors] = {**summarize_repeats(measured), "steps": middle["steps"], "phases": middle["phases"]}
    return {"repeats": bench.repeats, "bundle_bytes": bundle.stat().st_size, "ingest": ingest}


def _run_job(python: str, processors: str, bundle: Path, workspace: Workspace) -> dict[str, Any]:
    """Run one job from its bundle; return its steps in elapsed and CPU seconds, and its phases in seconds."""
    options = ["--stage", "ingest", "--env", "local", "--run_date", LAST_DAY.isoformat(), "--run_id", RUN]
    options += ["--overrides", json.dumps({"landing": str(workspace.landing)})]
    arguments = [python, "-c", _SCRIPT, processors, str(project_root() / "orchestration"), str(bundle), *options]
    # Without PYTHONPATH, the job sees none of the packages of this checkout.
    env = {**os.environ, "DAYBOOK_HOME": str(workspace.root), "PYTHONPATH": ""}
    done = subprocess.run(arguments, env=env, cwd="/", capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result = json.loads(done.stdout.splitlines()[-1])
    if result["code"]:
        raise RuntimeError(f"the job exited with {result['code']}: {result['output']}")
    phases = json.loads(_find_record(workspace).read_text())["phases"]
    phases[_OTHER_STEPS] = result["steps"]["job"][0] - sum(phases.values())
    total = sum(elapsed for elapsed, _ in result["steps"].values())
    return {"seconds": total, "steps": result["steps"], "phases": phases, "folder": result["folder"]}


def _delete_folder(folder: Path) -> list[float]:
    start, spent = time.perf_counter(), os.times()
    shutil.rmtree(folder)
    ended = os.times()
    return [time.perf_counter() - start, ended.user + ended.system - spent.user - spent.system]


def _find_record(workspace: Workspace) -> Path:
    return workspace.root / "archive" / f"run_date={LAST_DAY}" / RUN / "1_ingest.attempt-1.json"


def tables(result: Result) -> list[Table]:
    every, one = result["ingest"]["all"], result["ingest"]["one"]
    rows = []
    for name, (elapsed, cpu) in every["steps"].items():
        rows.append([name, format_seconds(elapsed), format_seconds(one["steps"][name][0]), format_seconds(cpu)])
        if name == "job":
            for phase, shown in _STEP_NAMES.items():
                rows.append([f"… {shown}", format_seconds(every["phases"][phase]), format_seconds(one["phases"][phase]), ""])
    cpu = sum(each[1] for each in every["steps"].values())
    rows.append(["all", format_seconds(every["seconds"]), format_seconds(one["seconds"]), format_seconds(cpu)])
    remark = (
        f"The bundle has {format_megabytes(result['bundle_bytes'])} and is a local file, so the download from S3 is not "
        f"included. `all` is the median of {result['repeats']} repeats; the steps are those of the median repeat."
    )
    columns = ["ingest of the demo's last day", "all processors", "one processor", "CPU seconds (all)"]
    return [Table("A job on a bare Python 3.9", columns, rows, remark)]
