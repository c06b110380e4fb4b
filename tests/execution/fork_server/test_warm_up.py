"""Test the warm-up of the fork server."""

from __future__ import annotations

import os
import subprocess
import sys

from daybook.execution.fork_server.client import SINGLE_THREAD_ENV
from daybook.settings import project_root

SCRIPT = """
import importlib, os, sys
from daybook.execution.fork_server.server import PRELOADED_MODULES
from daybook.execution.fork_server.process import count_threads
for name in PRELOADED_MODULES:
    importlib.import_module(name)
from daybook.privacy import run_values
from daybook.report import notebook_page, pages
from daybook.execution.fork_server.warm_up import run_warm_up
from daybook.execution.fork_server.warm_up import read_project_files
touched = []
sys.addaudithook(lambda event, of: touched.append(str(of[0])) if event == "open" else None)
run_warm_up()
print(count_threads(), run_values.load_common_words.cache_info().currsize, notebook_page._highlighter.cache_info().currsize)
print([each for each in touched if each.endswith((".yaml", ".ipynb")) or "params" in each.split(os.sep)])
touched.clear()
read_project_files()
print({os.path.relpath(each, "params").split(os.sep)[0] for each in touched if each.endswith(".yaml")}, count_threads())
"""


def test_warm_up_starts_no_thread_and_reads_no_deployment() -> None:
    env = {**os.environ, **SINGLE_THREAD_ENV}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=project_root())
    first, second, third = done.stdout.splitlines()
    assert (first, second) == ("1 1 1", "[]")
    # Only files of all deployments are read, no settings of one deployment.
    assert third in ("{'contracts', 'sources'} 1", "{'sources', 'contracts'} 1")
