"""Provide a function that runs a case from its YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from daybook.testing.case import read_cases
from daybook.testing.runner import CaseResult, CaseRunner

RunCase = Callable[[str], CaseResult]


@pytest.fixture(scope="session")
def runner() -> CaseRunner:
    """Return the runner that all tests share, so that each opens an engine only once."""
    return CaseRunner()


@pytest.fixture
def run_case(runner: CaseRunner, tmp_path: Path) -> RunCase:
    """Return a function that runs the only case of a text, by default of ``gold.daily_sales`` on 2025-11-30."""

    def run(case: str, table: str = "gold.daily_sales", notebook: str = "4_aggregate") -> CaseResult:
        path = tmp_path / "case.yaml"
        lines = "".join(f"    {line}\n" for line in case.strip().splitlines())
        path.write_text(
            f"notebook: {notebook}\ntable: {table}\nparameters: {{run_date: 2025-11-30}}\ncases:\n  - name: case\n{lines}",
            encoding="utf-8",
        )
        (only,) = read_cases(path)
        return runner.run(only)

    return run
