"""Test the measurement and reporting of the benchmark."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from benchmarks import byhand, bypandas, publishing, shop, targets
from benchmarks.bench import Table
from benchmarks.measuring import MemoryWatch, measure_interleaved, run_command
from benchmarks.notebooks import write_notebooks
from demo_shop import generate

FACTS = {
    "processor": "Made up", "cores": 2, "memory_gb": 8.0, "system": "Linux 6", "python": "3.11.7",
    "packages": {"duckdb": "1.2.2"}, "load_before": [0.1, 0.2, 0.3],
}  # fmt: skip


def test_systems_run_in_turn_and_report_medians() -> None:
    order: list[str] = []
    times = {"a": iter([5.0, 1.0, 2.0]), "b": iter([7.0, 9.0, 8.0])}

    def measure(name: str) -> dict[str, float]:
        order.append(name)
        seconds = next(times[name])
        return {"seconds": seconds, "peak_bytes": 10 * seconds}

    found = measure_interleaved({name: lambda name=name: measure(name) for name in times}, 3, lambda _: None)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert found["a"] == {"seconds": 2.0, "all_seconds": [5.0, 1.0, 2.0], "peak_bytes": 50.0}
    assert found["b"]["seconds"] == 8.0


def test_failed_command_raises() -> None:
    with pytest.raises(RuntimeError, match=r"exited with 3:\nwhy"):
        run_command([sys.executable, "-c", "print('why'); raise SystemExit(3)"], env={}, cwd=Path.cwd())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_watch_reports_largest_child_peak() -> None:
    # The process frees the memory and then waits for input, so that its peak is sampled.
    script = "taken = bytearray(200_000_000); del taken; print(flush=True); input()"
    with MemoryWatch() as memory:
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        before = memory.samples
        while memory.samples < before + 2:  # the second one starts after the allocation
            time.sleep(0.01)
        process.communicate(b"\n")
    assert 200_000_000 < memory.peak < 400_000_000


@pytest.mark.parametrize("module", [byhand, bypandas], ids=lambda module: module.__name__.rsplit(".", 1)[1])
def test_notebooks_hold_one_stage_function_each(tmp_path: Path, module) -> None:
    notebooks = write_notebooks(tmp_path, module)
    assert [path.stem for path in notebooks] == ["1_ingest", "2_validate", "3_transform", "4_aggregate", "5_quality"]
    for stage, path in zip(module.STAGES, notebooks):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        compile(cells[1].source, path.name, "exec")
        defined = [each.__name__ for each in module.STAGES if f"def {each.__name__}(" in cells[1].source]
        assert defined == [stage.__name__]
        assert "parameters" in cells[0].metadata["tags"]
        assert cells[2].source.startswith(f"{stage.__name__}(")


def test_work_by_hand_computes_the_expected_figures(tmp_path: Path) -> None:
    summary = generate(tmp_path / "landing", last_day=shop.LAST_DAY, days=2, orders_per_day=60)
    workspace = shop.Workspace(tmp_path / "home", tmp_path / "landing").make()
    for day in shop.list_days(2):
        for stage in byhand.STAGES:
            stage(**workspace.arguments(day))
    gold = shop.read_gold(workspace.lake, shop.list_days(1)[0])
    ((day, orders, cancelled, *figures),) = gold["daily_sales"]
    expected = summary.expected[shop.LAST_DAY]
    assert (day, orders + cancelled, cancelled) == (shop.LAST_DAY, expected.orders, expected.cancelled_orders)
    assert figures[:3] == [expected.units, expected.gross_revenue, expected.returns_amount]
    shop.require_same_gold("by hand", workspace.lake, gold, shop.list_days(1)[0])
    gold["daily_sales"] = [(day, orders + 1, *gold["daily_sales"][0][2:])]
    with pytest.raises(AssertionError, match=r"by hand: gold\.daily_sales has 1 rows, expected 1"):
        shop.require_same_gold("by hand", workspace.lake, gold, shop.list_days(1)[0])


def test_machine_description_names_all_facts() -> None:
    description = publishing.describe_machine(FACTS)
    for fact in ("Made up", "2 cores", "8 GB", "Python 3.11.7", "duckdb 1.2.2", "0.10 0.20 0.30"):
        assert fact in description


def test_table_markdown_aligns_figures_right() -> None:
    table = Table("T", ["what", "median"], [["a", "1.00 s"]], "Of 5.")
    assert table.markdown() == "### T\n\n| what | median |\n|---|---:|\n| a | 1.00 s |\n\nOf 5.\n"


def test_target_table_reports_bounds_and_goals() -> None:
    times = {"limit": 1.0, "papermill command": 10.0, "daybook cold": 5.5}
    stages = [{"phases": {"kernel": 0.1, "cells": 9.0, "search": each}} for each in (0.1, 0.2, 0.05)]
    systems = {name: {"seconds": each} for name, each in times.items()}
    rows = targets.build_target_table({"small": {"systems": {**systems, "daybook": {"seconds": 4.5, "stages": stages}}}}).rows
    assert [row[2:] for row in rows[:4]] == [
        ["≤ 6 (goal 4)", "4.50", "yes, not the goal"],
        ["≤ 0.5", "0.55", "no"],
        ["≤ 0.25 s", "0.20 s", "yes"],
        ["≤ 0.25 s", "not measured", ""],
    ]


def test_lower_bounds_are_supported() -> None:
    times = {"daybook backfill --parallel 1": 10.0, "daybook backfill --parallel 2": 5.0, "papermill command, 2 at once": 40.0}
    result = {"systems": {name: {"seconds": each} for name, each in times.items()}}
    rows = [row for row in targets.build_target_table({"backfill": result}).rows if row[1] == "backfill"]
    assert [row[2:] for row in rows] == [["≥ 1.7", "2.00", "yes"], ["≥ 5 (goal 10)", "8.00", "yes, not the goal"]]


def test_page_keeps_what_was_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "benchmarks.md"
    page.write_text(
        "# Benchmarks\n\n## targets\n\n| figure | part | target | result | reached |\n|---|---|---|---|---|\n"
        "| `daybook --help` | start | ≤ 0.25 s | 0.11 s | yes |\n\n"
        "## start\n\nEarlier commands.\n\n## growth\n\nEarlier days.\n"
    )
    monkeypatch.setattr(publishing, "project_root", lambda: tmp_path)
    monkeypatch.setattr(publishing, "describe_machine", lambda facts: "A machine.")
    monkeypatch.setattr(publishing, "draw_growth", lambda points, file: None)
    growth = {"repeats": 1, "points": [{"days": 10, "files": 3, "seconds": 1.0}], "reading": [], "machine": {}}
    publishing.write_results({"growth": growth}, ["start", "growth"])
    text = page.read_text()
    assert "| `daybook --help` | start | ≤ 0.25 s | 0.11 s | yes |" in text
    assert "## start\n\nEarlier commands.\n" in text
    assert "Earlier days." not in text
