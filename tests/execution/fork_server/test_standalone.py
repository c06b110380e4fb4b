"""A job that nobody has warmed imports once, for itself and its kernel, which is forked off it."""

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
from daybook.execution.fork_server.standalone import after_imports, before_imports
before_imports()
import gc, os, psutil, threading
def children():
    return [each.pid for each in psutil.Process().children()]
"""


def told(folder: Path, script: str, **environment: str) -> Any:
    """What a script, as a process from nothing, prints as its last line."""
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


def test_the_kernel_is_the_process_that_was_forked_with_all_imported(tmp_path: Path) -> None:
    script = """
        planted = after_imports("ingest")
        ready = children()
        look = "import json, os, sys; print(json.dumps([os.getpid(), 'daybook.notebook.ingest' in sys.modules]))"
        pid, imported = said(execute(look)[0])
        print(json.dumps([planted, [pid] == ready, imported, gc.isenabled()]))
    """
    assert told(tmp_path, EXECUTE + textwrap.dedent(script)) == [True, True, True, True]


@pytest.mark.parametrize("stage", ["ingest", "validate", "transform", "aggregate", "quality", "notify"])
def test_what_any_stage_imports_starts_no_thread(tmp_path: Path, stage: str) -> None:
    script = f"""
        import json
        print(json.dumps([after_imports({stage!r}), len(os.listdir("/proc/self/task")), len(children())]))
    """
    assert told(tmp_path, script) == [True, 1, 1]


def test_without_a_stage_or_with_a_kernel_kept_ready_or_with_a_thread_nothing_is_forked(tmp_path: Path) -> None:
    nothing = "import json; print(json.dumps([after_imports({stage}), children(), gc.isenabled()]))"
    assert told(tmp_path, nothing.format(stage=None)) == [False, [], True]
    warm = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "daybook-fork"}
    assert told(tmp_path, nothing.format(stage="'ingest'"), **warm) == [False, [], True]
    threaded = """
        import json
        over = threading.Event()
        threading.Thread(target=over.wait).start()
        print(json.dumps([after_imports("ingest"), children(), gc.isenabled()]))
        over.set()
    """
    assert told(tmp_path, threaded) == [False, [], True]


def test_a_kernel_that_nobody_takes_ends_with_the_job(tmp_path: Path) -> None:
    (pid,) = told(tmp_path, 'import json; after_imports("ingest"); print(json.dumps(children()))')
    # The process is gone, not only without a parent: it is ended and waited for.
    assert not Path(f"/proc/{pid}").exists()


def test_the_bundle_names_the_way_to_the_kernel_that_the_package_has() -> None:
    from daybook.deploy.bundle import _DIST_INFO_FILES

    name, _, target = _DIST_INFO_FILES["entry_points.txt"].splitlines()[1].partition(" = ")
    assert target == f"{ForkProvisioner.__module__}:{ForkProvisioner.__qualname__}"
    pyproject = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    assert f'{name} = "{target}"' in pyproject
