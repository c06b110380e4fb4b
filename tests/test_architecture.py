"""Dependencies between rooms point one way: a module imports only what stands before its own room in ``ORDER``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import daybook

PACKAGE = Path(daybook.__file__).parent
ORDER = [
    "errors",
    "columns",
    "stages",
    "figures",
    "buckets",
    "storage",
    "elapsed",
    "params",
    "parameters",
    "contracts",
    "sources",
    "due",
    "locks",
    "archive",
    "cost",
    "messages",
    "phases",
    "freshness",
    "provenance",
    "lineage",
    "openlineage",
    "report",
    "pii",
    "demo",
    "states",
    "delta",
    "properties",
    "evolution",
    "lake",
    "versions",
    "publication",
    "purge",
    "vacuum",
    "rekeying",
    "engines",
    "raw_values",
    "quality",
    "calendars",
    "erasure",
    "notebook",
    "personal",
    "outputs",
    "kernel",
    "saving",
    "searching",
    "endings",
    "attempts",
    "run_records",
    "execution",
    "closing",
    "stewardship",
    "gaps",
    "backfills",
    "errands",
    "warm",
    "aws",
    "laptop",
    "homes",
    "progress",
    "check",
    "cli",
]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(name: str) -> str:
    """``sources`` for ``daybook.sources.files``."""
    return name.split(".")[1]


def imported(path: Path) -> Iterator[str]:
    """The modules of Daybook that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("daybook."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("daybook."):
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module == "daybook":
            yield from (f"daybook.{each.name}" for each in node.names if each.name != "__version__")


def name_of(path: Path) -> str:
    return "daybook." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(name_of(path)) for path in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_rooms_before_its_own(path: Path) -> None:
    own = ORDER.index(room(name_of(path)))
    upwards = [name for name in imported(path) if room(name) != ORDER[own] and ORDER.index(room(name)) > own]
    assert upwards == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_belongs_in_it_and_what_does_not(path: Path) -> None:
    opening = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
    if path.name == "__init__.py":
        assert opening
    else:
        assert "Here:" in opening
        assert "Not here:" in opening
