"""Test the skeleton of the stage notebooks, and that other engines can read their SQL."""

from __future__ import annotations

import re

import nbformat
import pytest
import sqlglot
from nbformat import NotebookNode

from daybook.contracts import load_tables
from daybook.notebook.parameters import notebook_path, read_declared_parameters
from daybook.records.names import STAGES


def load(stage: str) -> NotebookNode:
    return nbformat.read(notebook_path(stage), as_version=4)


def sql_cells() -> list[tuple[str, str, str]]:
    """Return stage, name or an empty text, and SQL of every %%sql cell."""
    found = []
    for stage in STAGES:
        for cell in load(stage).cells:
            if cell.source.startswith("%%sql"):
                line, _, sql = cell.source.partition("\n")
                words = [word for word in line.split()[1:] if not word.startswith("--") and not word.isdigit()]
                found.append((stage, words[0] if words else "", sql))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_notebooks_follow_the_skeleton(stage: str) -> None:
    cells = load(stage).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith(f"# {STAGES.index(stage) + 1} · {stage.capitalize()}\n")
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert "parameters" in code[0].metadata.tags
    assert code[1].source.startswith("%load_ext daybook\n")
    assert (
        f'stage = begin("{stage}", env=env, run_date=run_date, until=until, run_id=run_id, overrides=overrides)'
        in code[1].source
    )
    assert cells[-1].cell_type == "code"
    assert cells[-2].cell_type == "markdown"


@pytest.mark.parametrize("stage", STAGES)
def test_notebooks_are_committed_without_outputs(stage: str) -> None:
    for cell in load(stage).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("stage", STAGES)
def test_defaults_run_the_demo_shop_into_a_development_copy(stage: str) -> None:
    defaults = read_declared_parameters(load(stage), stage)
    assert defaults["env"] == "local"
    assert defaults["run_date"] == "2025-11-30"
    assert defaults["run_id"] == ""
    assert defaults["overrides"] == {}


@pytest.mark.parametrize("layer", ["silver", "gold"])
def test_every_contract_table_has_one_cell(layer: str) -> None:
    defined = [name for _, name, _ in sql_cells() if name.startswith(f"{layer}.")]
    assert sorted(defined) == sorted(load_tables(layer))


@pytest.mark.parametrize(("stage", "name", "sql"), sql_cells())
def test_sql_cells_translate_to_spark(stage: str, name: str, sql: str) -> None:
    plain = re.sub(r"\{\{.*?\}\}", "'x'", sql)
    (translated,) = sqlglot.transpile(plain, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    assert sqlglot.parse_one(translated, read="spark")
