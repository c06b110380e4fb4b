"""Fixtures: the columns and keys of all tables, and an engine for the queries of the stage notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook.contracts import LAYERS, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.privacy import pseudonym_function


def contracts() -> dict[str, list[str]]:
    """Return the columns of every silver and gold table."""
    return {name: table.columns for layer in LAYERS for name, table in load_tables(layer).items()}


def keys() -> dict[str, list[str]]:
    """Return the keys of every silver and gold table."""
    return {name: table.key for layer in LAYERS for name, table in load_tables(layer).items()}


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBEngine:
    """Return an engine over an empty lake; tests register their tables."""
    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "UTC")
    engine.add_text_function("pseudonym", pseudonym_function((b"a key of the test's own, long enough",)))
    return engine
