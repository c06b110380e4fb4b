"""Part ``glue``: from an empty machine with Python 3.9 to a stage's end, as a Glue Python shell job begins.

The bundle is built, then fetched and unpacked by the bootstrap script, whose job runs one stage. What the job notes itself
(``daybook.phases``) is beside what the script takes.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from daybook.aws.bytecode import find_python
from daybook.params import project_root
from tests.benchmarks import systems
from tests.benchmarks.bench import Bench, Result, Table, megabytes, seconds
from tests.benchmarks.measuring import command, summed
from tests.benchmarks.shop import LAST, Home

RUN = f"daily-{LAST}-1"
_SCRIPT = """
import json, sys, tempfile, time
from pathlib import Path
began = time.perf_counter()
sys.path.insert(0, sys.argv[1])
import glue_bootstrap
place = Path(tempfile.mkdtemp(prefix="daybook-"))
times = [time.perf_counter()]
archive = glue_bootstrap.fetch(sys.argv[2], place); times.append(time.perf_counter())
root = glue_bootstrap.unpack(archive, place / "bundle"); times.append(time.perf_counter())
command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *sys.argv[3:]]
env = glue_bootstrap.environment(root, place)
code, said = glue_bootstrap.run(command, env, place / "work"); times.append(time.perf_counter())
import shutil
shutil.rmtree(place); times.append(time.perf_counter())
names = ["read and check the bundle", "unpack", "job", "remove"]
print(json.dumps({"code": code, "said": said, "steps": dict(zip(names, (b - a for a, b in zip(times, times[1:]))))}))
"""


def run(bench: Bench) -> Result:
    """Seconds of each step, of a job that ingests the demo's last day."""
    python = find_python()
    if python is None:
        raise SystemExit("The part glue needs a Python 3.9 on this machine; `uv python install 3.9` gets one.")
    empty = Home(bench.scratch / "glue" / "empty", bench.demo).make()
    folder = bench.scratch / "glue" / "bundle"
    if not list(folder.glob("daybook-*.zip")):
        command([*systems.DAYBOOK, "bundle", "--out", str(folder)], env=empty.environment(), cwd=project_root())
    (bundle,) = folder.glob("daybook-*.zip")
    found = []
    for _ in range(bench.repeats):
        home = empty.copy(bench.scratch / "glue" / "home")
        given = ["--stage", "ingest", "--env", "local", "--run_date", LAST.isoformat(), "--run_id", RUN]
        given += ["--overrides", json.dumps({"landing": str(home.landing)})]
        arguments = [python, "-c", _SCRIPT, str(project_root() / "orchestration"), str(bundle), *given]
        # Bare: none of this checkout's packages.
        env = {**os.environ, "DAYBOOK_HOME": str(home.place), "PYTHONPATH": ""}
        done = subprocess.run(arguments, env=env, cwd="/", capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        told = json.loads(done.stdout.splitlines()[-1])
        if told["code"]:
            raise RuntimeError(f"the job ended with {told['code']}: {told['said']}")
        record = json.loads(_record(home).read_text())
        found.append({"seconds": sum(told["steps"].values()), "steps": told["steps"], "phases": record["phases"]})
        bench.say(f"{found[-1]['seconds']:.2f} s")
    middle = sorted(found, key=lambda each: each["seconds"])[len(found) // 2]
    whole = {**summed(found), "steps": middle["steps"], "phases": middle["phases"]}
    return {"repeats": bench.repeats, "bundle_bytes": bundle.stat().st_size, "ingest": whole}


def _record(home: Home) -> Path:
    return home.place / "archive" / f"run_date={LAST}" / RUN / "1_ingest.attempt-1.json"


def tables(result: Result) -> list[Table]:
    whole = result["ingest"]
    rows = [[name, seconds(each)] for name, each in whole["steps"].items()]
    rows += [[f"… of the job: {name}", seconds(each)] for name, each in whole["phases"].items()]
    remark = f"The bundle has {megabytes(result['bundle_bytes'])}. Median of {result['repeats']}: {seconds(whole['seconds'])}."
    return [Table("A job on a bare Python 3.9", ["ingest of the demo's last day", "seconds"], rows, remark)]
