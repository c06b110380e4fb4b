"""Fixtures: a small lake and each engine over it; every test in this folder runs for each engine."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Callable

import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from tests.lake.writing import replace_date

Make = Callable[[Lake, str], DuckDBEngine]

ENGINES: dict[str, Make] = {"duckdb": DuckDBEngine}
DAY = date(2025, 11, 1)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Return a lake with two rows in ``bronze.orders``, ``a`` and ``b``."""
    monkeypatch.chdir(tmp_path)
    lake = Lake(str(tmp_path / "lake"), run_id="daily-2025-11-01-1")
    replace_date(lake, "bronze.orders", pa.table({"order_id": ["a", "b"]}), DAY)
    return Lake(lake.root, run_id=lake.run_id)


@pytest.fixture(params=sorted(ENGINES))
def make(request: pytest.FixtureRequest) -> Make:
    """Return an engine's class."""
    return ENGINES[request.param]


@pytest.fixture
def engine(make: Make, lake: Lake) -> DuckDBEngine:
    """Return an engine over the lake in the time zone of São Paulo."""
    return make(lake, "America/Sao_Paulo")
