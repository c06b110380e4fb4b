"""What the warm host does once so that no job has to."""

from __future__ import annotations

import os
import subprocess
import sys

from daybook.warm.client import ONE_THREAD

SCRIPT = """
import importlib, os, sys
from daybook.warm.host import PRELOADED, count_threads
for name in PRELOADED:
    importlib.import_module(name)
from daybook import personal
from daybook.report import notebook_page, pages
from daybook.warm.rehearsal import rehearse
touched = []
sys.addaudithook(lambda event, of: touched.append(str(of[0])) if event == "open" else None)
rehearse()
print(count_threads(), personal.own_words.cache_info().currsize, notebook_page._highlighter.cache_info().currsize)
print([each for each in touched if each.endswith((".yaml", ".ipynb")) or "params" in each.split(os.sep)])
"""


def test_rehearsing_starts_no_thread_warms_what_jobs_use_and_reads_nothing_of_a_deployment() -> None:
    env = {**os.environ, **ONE_THREAD}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == ["1 1 1", "[]"]
