"""The queries of the stage notebooks, and a tiny lake in memory to run them on."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from daybook.contracts import LAYERS, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake import Lake
from daybook.parameters import notebook_path


def queries_of(stage: str) -> dict[str, str]:
    """What the cells of a stage's notebook define, by name."""
    found = {}
    for cell in nbformat.read(notebook_path(stage), as_version=4).cells:
        matched = re.match(r"%%sql +([a-z][a-z_.]*)[^\n]*\n(.*)", cell.source, re.DOTALL)
        if matched:
            found[matched[1]] = matched[2]
    return found


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
    engine.add_pseudonyms(b"a key of the test's own, long enough")
    return engine
