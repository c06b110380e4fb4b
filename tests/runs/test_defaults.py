"""Test the notebooks with their default parameters on the demo shop, as *Run all* executes them."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from daybook.records.names import STAGES, notebook_name
from daybook.settings import load_settings, project_root
from demo_shop import generate
from tests.runs.shop import DaybookHome

pytestmark = [pytest.mark.slow, pytest.mark.smoke]


def test_notebooks_run_with_defaults_on_the_demo_shop(module_home: DaybookHome, tmp_path: Path) -> None:
    generate(Path(load_settings("local").landing), days=3, last_day=date(2025, 11, 30), orders_per_day=40)
    notebooks = [str(project_root() / "notebooks" / f"{notebook_name(stage)}.ipynb") for stage in STAGES]
    # nbval executes every cell of a notebook and fails if a cell fails.
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", *notebooks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
