"""Test that readers of gold see only complete, audited days while publishing processes are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.lake.tables import Lake
from tests.runs import publisher
from tests.runs.publisher import CATEGORIES, DAYS, TABLES
from tests.runs.shop import PROJECT

pytestmark = pytest.mark.slow
RUNS = 50


def generations(lake: Lake, table: str) -> dict[date, int]:
    """Return the generation of each visible date; fail if a date is incomplete or mixed."""
    dataset = lake.dataset(table)
    if dataset is None:
        return {}
    found: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in dataset.to_table().to_pylist():
        found[row["order_date"]].append(row)
    generation_of = {}
    for day, rows in found.items():
        sold = {row["gross_revenue"] for row in rows}
        expected = 1 if table == "gold.daily_sales" else len(CATEGORIES)
        assert len(rows) == expected, f"{table} shows {len(rows)} rows of {day}"
        assert len(sold) == 1, f"{table} shows two generations of {day}"
        generation_of[day] = int(sold.pop()) // (len(CATEGORIES) if table == "gold.daily_sales" else 1)
    return generation_of


def audited(lake: Lake) -> set[int]:
    """Return the generations that passed the gate."""
    dataset = lake.dataset(publisher.AUDIT_TABLE)
    return set() if dataset is None else set(dataset.to_table()["generation"].to_pylist())


def test_readers_never_see_partial_or_unaudited_days(tmp_path: Path) -> None:
    root = str(tmp_path / "lake")
    command = [sys.executable, "-m", publisher.__name__, root, str(RUNS), "20251101"]
    lake, polls, seen = Lake(root), 0, set()
    newest: dict[tuple[str, date], int] = {}
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as publishing:
        while publishing.poll() is None:
            for table in TABLES:
                for day, generation in generations(lake, table).items():
                    # The audit is read after gold: a visible generation was audited before.
                    seen.add(generation)
                    assert generation >= newest.get((table, day), 0), f"{table} went back to an older generation of {day}"
                    newest[table, day] = generation
            assert seen <= audited(lake)
            polls += 1
        out, errors = publishing.communicate()
    assert publishing.returncode == 0, errors[-2000:]
    attempts = [json.loads(line) for line in out.splitlines()]
    killed = [each for each in attempts if each["killed"]]
    assert len({each["run"] for each in attempts}) == RUNS
    assert {each["stage"] for each in killed} == {"aggregate", "gate_and_publish"}
    assert len(killed) >= RUNS / 2
    assert polls > RUNS / 5
    # Every killed publish was finished: all tables show the last successful run of each date.
    good = [number for number in range(1, RUNS + 1) if not publisher.is_rejected(number)]
    last = {day: max(number for number in good if day in publisher.restated_dates(number)) for day in DAYS}
    assert {table: generations(lake, table) for table in TABLES} == dict.fromkeys(TABLES, last)
    assert len(seen) > 5
