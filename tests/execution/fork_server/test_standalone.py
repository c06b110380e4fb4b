"""Test that a job without fork server imports once and forks its kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.fork_server.provisioner import ForkProvisioner
from tests.execution.fork_server.test_kernels import EXECUTE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only"),
]
BEGIN = """
from daybook.execution.fork_server.standalone import prepare_imports, start_standby_kernel
prepare_imports()
import gc, os, psutil, threading
def children():
    return [each.pid for each in psutil.Process().children()]
"""


def run_json(folder: Path, script: str, **environment: str) -> Any:
    """Run a script as a new process; return the last line of its output, parsed as JSON."""
    given = {name: value for name, value in os.environ.items() if name != "JUPYTER_DEFAULT_PROVISIONER_NAME"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script)],
        cwd=folder,
        env={**given, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_notebook_uses_standby_kernel_of_standalone_job(tmp_path: Path) -> None:
    script = """
        planted = start_standby_kernel("ingest")
        ready = children()
        look = "import json, os, sys; print(json.dumps([os.getpid(), 'daybook.notebook.ingest' in sys.modules]))"
        pid, imported = said(execute(look)[0])
        print(json.dumps([planted, [pid] == ready, imported, gc.isenabled()]))
    """
    assert run_json(tmp_path, EXECUTE + textwrap.dedent(script)) == [True, True, True, True]


@pytest.mark.parametrize("stage", ["ingest", "validate", "transform", "aggregate", "quality", "notify"])
def test_imports_of_stages_start_no_thread(tmp_path: Path, stage: str) -> None:
    script = f"""
        import json
        print(json.dumps([start_standby_kernel({stage!r}), len(os.listdir("/proc/self/task")), len(children())]))
    """
    assert run_json(tmp_path, script) == [True, 1, 1]


def test_conditions_without_standby_kernel(tmp_path: Path) -> None:
    nothing = "import json; print(json.dumps([start_standby_kernel({stage}), children(), gc.isenabled()]))"
    assert run_json(tmp_path, nothing.format(stage=None)) == [False, [], True]
    warm = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "daybook-fork"}
    assert run_json(tmp_path, nothing.format(stage="'ingest'"), **warm) == [False, [], True]
    threaded = """
        import json
        over = threading.Event()
        threading.Thread(target=over.wait).start()
        print(json.dumps([start_standby_kernel("ingest"), children(), gc.isenabled()]))
        over.set()
    """
    assert run_json(tmp_path, threaded) == [False, [], True]


def test_unused_standby_kernel_ends_with_job(tmp_path: Path) -> None:
    (pid,) = run_json(tmp_path, 'import json; start_standby_kernel("ingest"); print(json.dumps(children()))')
    # The process has been killed and reaped.
    assert not Path(f"/proc/{pid}").exists()


def test_bundle_has_entry_point_of_provisioner() -> None:
    from daybook.deploy.bundle import _DIST_INFO_FILES

    name, _, target = _DIST_INFO_FILES["entry_points.txt"].splitlines()[1].partition(" = ")
    assert target == f"{ForkProvisioner.__module__}:{ForkProvisioner.__qualname__}"
    pyproject = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    assert f'{name} = "{target}"' in pyproject
