"""Test the profile of a run from its record."""

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

pytestmark = pytest.mark.slow


def daybook(*arguments: str) -> str:
    command = [sys.executable, "-c", "from daybook.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_profile_shows_the_time_of_a_run(module_home: DaybookHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    generate(Path(load_settings("local").landing), days=1, last_day=date(2025, 11, 30), orders_per_day=40)
    printed = daybook("run", "--profile")
    head = next(line for line in printed.splitlines() if line.startswith("seconds "))
    for name in (WAIT_PHASE, *PHASES, END_PHASE, "(commits)", "(opening tables)"):
        assert name in head
    shown = daybook("show", "daily-2025-11-30-1", "--profile")
    assert head in shown
    record = json.loads(daybook("show", "daily-2025-11-30-1", "--json"))
    assert [each["stage"] for each in record["stages"]] == list(STAGES)
    for each in record["stages"]:
        assert list(each["phases"]) == list(PHASES)
        # The seconds of an attempt are from its claim to its kernel's end.
        assert sum(each["phases"][name] for name in PHASES[2:6]) == pytest.approx(
            each["seconds"], abs=0.15 * each["seconds"] + 0.1
        )
    assert record["stages"][2]["table_seconds"]["commits"] > 0
