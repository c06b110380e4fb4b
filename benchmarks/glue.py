"""Part ``glue``: from an empty machine with Python 3.9 to a stage's end, as a Glue Python shell job begins.

The bundle is built, then fetched and unpacked by the bootstrap script, whose job runs one stage. What the job notes itself
(``daybook.records.timings``) is below what the script takes. On one processor too, as the smallest job has it.
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
began = read()
sys.path.insert(0, sys.argv[2])
import glue_bootstrap
place = Path(tempfile.mkdtemp(prefix="daybook-"))
archive = glue_bootstrap.fetch(sys.argv[3], place); read_and_checked = read()
root = glue_bootstrap.unpack(archive, place / "bundle"); unpacked = read()
command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *sys.argv[4:]]
env = glue_bootstrap.environment(root, place)
code, said = glue_bootstrap.run(command, env, place / "work"); ended = read()
times = [began, read_and_checked, unpacked, ended]
steps = {name: [b - a for a, b in zip(*both)] for name, *both in zip(["read and check", "unpack", "job"], times, times[1:])}
print(json.dumps({"code": code, "said": said, "steps": steps, "place": str(place)}))
"""
_OTHER_STEPS = "archive and end"
"""What a job cannot note: it writes its record, its notebook and its page, and its process ends."""
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
    """Seconds of each step, and of the processors', of a job that ingests the demo's last day, on all processors and on one."""
    python = find_python()
    if python is None:
        raise SystemExit("The part glue needs a Python 3.9 on this machine; `uv python install 3.9` gets one.")
    empty = Workspace(bench.scratch / "glue" / "empty", bench.demo).make()
    folder = bench.scratch / "glue" / "bundle"
    if not list(folder.glob("daybook-*.zip")):
        run_command([*systems.DAYBOOK, "bundle", "--out", str(folder)], env=empty.environment(), cwd=project_root())
    (bundle,) = folder.glob("daybook-*.zip")
    found: dict[str, list[dict[str, Any]]] = {"all": [], "one": []}
    for number in range(1, bench.repeats + 1):
        for processors, measured in found.items():
            home = empty.copy(bench.scratch / "glue" / "home")
            # What was written before is no part of it.
            os.sync()
            measured.append(_run_job(python, processors, bundle, home))
            bench.say(f"{number}/{bench.repeats} {processors}: {measured[-1]['seconds']:.2f} s")
    # Only now: a file system that was just told to forget thousands of files makes new ones at a fifth of the speed.
    for measured in found.values():
        for each in measured:
            each["steps"]["remove"] = _delete_folder(Path(each.pop("place")))
            each["seconds"] += each["steps"]["remove"][0]
    whole = {}
    for processors, measured in found.items():
        middle = sorted(measured, key=lambda each: each["seconds"])[len(measured) // 2]
        whole[processors] = {**summarize_repeats(measured), "steps": middle["steps"], "phases": middle["phases"]}
    return {"repeats": bench.repeats, "bundle_bytes": bundle.stat().st_size, "ingest": whole}


def _run_job(python: str, processors: str, bundle: Path, home: Workspace) -> dict[str, Any]:
    """One job from its bundle on: seconds by the clock and of processors by step, and its phases."""
    given = ["--stage", "ingest", "--env", "local", "--run_date", LAST_DAY.isoformat(), "--run_id", RUN]
    given += ["--overrides", json.dumps({"landing": str(home.landing)})]
    arguments = [python, "-c", _SCRIPT, processors, str(project_root() / "orchestration"), str(bundle), *given]
    # Bare: none of this checkout's packages.
    env = {**os.environ, "DAYBOOK_HOME": str(home.place), "PYTHONPATH": ""}
    done = subprocess.run(arguments, env=env, cwd="/", capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told = json.loads(done.stdout.splitlines()[-1])
    if told["code"]:
        raise RuntimeError(f"the job ended with {told['code']}: {told['said']}")
    phases = json.loads(_find_record(home).read_text())["phases"]
    phases[_OTHER_STEPS] = told["steps"]["job"][0] - sum(phases.values())
    seconds_of_all = sum(clock for clock, _ in told["steps"].values())
    return {"seconds": seconds_of_all, "steps": told["steps"], "phases": phases, "place": told["place"]}


def _delete_folder(place: Path) -> list[float]:
    began, spent = time.perf_counter(), os.times()
    shutil.rmtree(place)
    ended = os.times()
    return [time.perf_counter() - began, ended.user + ended.system - spent.user - spent.system]


def _find_record(home: Workspace) -> Path:
    return home.place / "archive" / f"run_date={LAST_DAY}" / RUN / "1_ingest.attempt-1.json"


def tables(result: Result) -> list[Table]:
    every, one = result["ingest"]["all"], result["ingest"]["one"]
    rows = []
    for name, (clock, spent) in every["steps"].items():
        rows.append([name, format_seconds(clock), format_seconds(one["steps"][name][0]), format_seconds(spent)])
        if name == "job":
            for phase, shown in _STEP_NAMES.items():
                rows.append([f"… {shown}", format_seconds(every["phases"][phase]), format_seconds(one["phases"][phase]), ""])
    spent = sum(each[1] for each in every["steps"].values())
    rows.append(["all", format_seconds(every["seconds"]), format_seconds(one["seconds"]), format_seconds(spent)])
    remark = (
        f"The bundle has {format_megabytes(result['bundle_bytes'])} and is a local file, so the download from S3 is not included. "
        f"`all` is the median of {result['repeats']} repeats; the steps are those of the median repeat."
    )
    columns = ["ingest of the demo's last day", "all processors", "one processor", "processors' seconds (all)"]
    return [Table("A job on a bare Python 3.9", columns, rows, remark)]
