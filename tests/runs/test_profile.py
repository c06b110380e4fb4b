"""Test the seconds of each phase that a run records and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from daybook.records.names import STAGES
from daybook.records.timings import END_PHASE, PHASES, WAIT_PHASE
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.shop import DaybookHome

# For a quick suite, this file is the one whole run of all six stages: command, state machine, jobs, kernels and archive.
pytestmark = [pytest.mark.slow, pytest.mark.smoke]


def daybook(*arguments: str) -> str:
    command = [sys.executable, "-c", "from daybook.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_profile_option_prints_the_phases_of_each_stage(module_home: DaybookHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    generate(Path(load_settings("local").landing), days=1, last_day=date(2025, 11, 30), orders_per_day=40)
    printed = daybook("run", "--profile")
    header = next(line for line in printed.splitlines() if line.startswith("seconds "))
    for name in (WAIT_PHASE, *PHASES, END_PHASE, "(commits)", "(opening tables)"):
        assert name in header
    shown = daybook("show", "daily-2025-11-30-1", "--profile")
    assert header in shown
    record = json.loads(daybook("show", "daily-2025-11-30-1", "--json"))
    assert [each["stage"] for each in record["stages"]] == list(STAGES)
    for each in record["stages"]:
        assert list(each["phases"]) == list(PHASES)
        # The seconds of an attempt are those from its claim to the end of its kernel.
        assert sum(each["phases"][name] for name in PHASES[2:6]) == pytest.approx(
            each["seconds"], abs=0.15 * each["seconds"] + 0.1
        )
    assert record["stages"][2]["table_seconds"]["commits"] > 0
