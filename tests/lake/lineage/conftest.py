"""The columns of all tables, and a tiny lake in memory to run the stage notebooks' queries on."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook.contracts import LAYERS, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.privacy import pseudonym_function


def contracts() -> dict[str, list[str]]:
    """The columns of every silver and gold table."""
    return {name: table.columns for layer in LAYERS for name, table in load_tables(layer).items()}


def keys() -> dict[str, list[str]]:
    """The keys of every silver and gold table."""
    return {name: table.key for layer in LAYERS for name, table in load_tables(layer).items()}


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBEngine:
    """An engine over no lake: tables are what a test registers."""
    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "UTC")
    engine.add_text_function("pseudonym", pseudonym_function((b"a key of the test's own, long enough",)))
    return engine
