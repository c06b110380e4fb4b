"""Test that a fork behaves like a new process, whichever descriptors its output files have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from daybook.execution.fork_server.process import run_and_exit, set_up_process

out, err, (output, error) = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
opened = {name: os.open(name, os.O_WRONLY | os.O_CREAT) for name in (out, err)}
spare = [os.dup2(opened[out], 60), os.dup2(opened[err], 61)]
for number in opened.values():
    os.close(number)
for number in (0, 1, 2):
    os.close(number)
os.dup2(60, output)
if error is not None:
    os.dup2(61, error)
for number in spare:
    os.close(number)

def main():
    os.write(1, b"to output")
    os.write(2, b"to error")
    left = [n for n in range(3, 100) if os.path.lexists(f"/proc/self/fd/{n}")]
    os.write(1, json.dumps([left, os.read(0, 1).decode()]).encode())

set_up_process({"env": {}, "cwd": "/", "command": ["x"]}, output, error)
run_and_exit(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("where", [(7, 8), (7, None), (1, 2), (2, 1), (1, None), (2, None), (0, 1), (0, None), (2, 0)])
def test_stdout_and_stderr_get_given_descriptors(tmp_path: Path, where: tuple[int, int]) -> None:
    files = [tmp_path / "out", tmp_path / "err"]
    command = [sys.executable, "-c", SCRIPT, *map(str, files), json.dumps(where)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    out, err = (file.read_text() for file in files)
    told = json.dumps([[], ""])
    assert (out, err) == (("to outputto error" + told, "") if where[1] is None else ("to output" + told, "to error"))


@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(258)", 2),
        ("raise SystemExit(-1)", 255),
        ("raise KeyboardInterrupt", 1),
        ("atexit.register(lambda: 1 / 0)", 0),
        ("sys.stdout = None", 0),
    ],
)
def test_exit_code_is_that_of_an_interpreter(main: str, code: int) -> None:
    script = (
        "import atexit, sys\nfrom daybook.execution.fork_server.process import run_and_exit\n"
        f"def main():\n    {main}\nrun_and_exit(main)\nsys.exit(99)"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False, capture_output=True)
    assert done.returncode == code, done.stderr
