"""Find errors in the files of the project before a run: ``daybook check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import nbformat

from asl_local import lint_file
from daybook.contracts import LAYERS, read_contract
from daybook.contracts.canonical import affected_dates
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, DaybookError
from daybook.lake.tables import Lake
from daybook.notebook.parameters import check_parameters, load_notebook, notebook_path, read_declared_parameters
from daybook.quality.dry_run import dry_run_landing, dry_run_table
from daybook.records.cost import list_price_tables, load_prices
from daybook.records.names import STAGES
from daybook.settings import list_environments, list_files, load_settings, project_root, require_own_lake
from daybook.sources import list_sources, load_source
from daybook.sources.dry_run import dry_run_mapping


@dataclass(frozen=True)
class FileCheck:
    """A checked file and its problems; ``problems`` is empty if the file is valid."""

    file: str
    problems: list[str]


def check_project() -> Iterator[FileCheck]:
    """Check every file that a run depends on, one after the other."""
    root = project_root()
    for layer in LAYERS:
        for path in list_files(root / "params" / "contracts" / layer, "*.yaml"):
            yield _check_file(_relative_path(path), _check_contract, path)
    for path in list_files(root / "params" / "contracts" / "landing", "*.yaml"):
        yield _check_file(_relative_path(path), _check_landing, path)
    for name in list_sources():
        yield _check_file(f"params/sources/{name}.yaml", _check_source, name)
    for name in list_price_tables():
        yield _check_file(f"params/prices/{name}.yaml", load_prices, name)
    for env in list_environments():
        yield _check_file(f"params/{env}.yaml", _check_env, env)
    for stage in STAGES:
        yield FileCheck(_relative_path(notebook_path(stage)), list(_notebook_problems(stage)))
    for path in list_files(root / "orchestration", "*.asl.json"):
        problems = [f"state {each.state}: {each.message}" if each.state else each.message for each in lint_file(path)]
        yield FileCheck(_relative_path(path), problems)


def _check_contract(path: Path) -> None:
    for table in read_contract(path):
        if table.layer == "silver":
            affected_dates(table)
        dry_run_table(table, _create_engine(), _relative_path(path))


def _check_landing(path: Path) -> None:
    read_contract(path)
    if path.stem not in list_sources():
        raise ContractError(
            f"{_relative_path(path)}: no params/sources/{path.stem}.yaml exists; give the contract the name of its source."
        )
    dry_run_landing(load_source(path.stem), _create_engine(), _relative_path(path))


def _create_engine() -> DuckDBEngine:
    return DuckDBEngine(Lake("memory:///check"), "UTC")


def _check_env(env: str) -> None:
    settings = load_settings(env)
    load_source(settings.source)
    if settings.prices:
        load_prices(settings.prices)
    require_own_lake(settings)


def _check_source(name: str) -> None:
    dry_run_mapping(load_source(name), _create_engine())


def _notebook_problems(stage: str) -> Iterator[str]:
    path = notebook_path(stage)
    try:
        notebook = load_notebook(path)
        nbformat.validate(notebook)
        declared = read_declared_parameters(notebook, path.name)
    except DaybookError as error:
        yield str(error)
        return
    except nbformat.ValidationError as error:
        yield f"is not a valid notebook ({str(error).splitlines()[0]})"
        return
    known = {"env": "local", "run_date": "2025-11-30", "run_id": "", "overrides": {}}
    if stage == STAGES[-1]:
        known.update(failure="null", execution="")
    yield from _check_file(path.name, check_parameters, notebook, path.name, known).problems
    for name in declared:
        if name not in known:
            yield f"declares the parameter {name!r}, which no run passes; remove it, or pass it in daybook.execution.stage"
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        yield "contains outputs; clear them (Kernel > Restart & Clear) before you commit"
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        yield "does not begin with a title; make the first cell markdown that begins with '# '"


def _check_file(file: str, check: Callable[..., object], *arguments: Any) -> FileCheck:
    """Return a file with the error that ``check`` raises, if it raises one."""
    try:
        check(*arguments)
    except DaybookError as error:
        return FileCheck(file, [str(error)])
    return FileCheck(file, [])


def _relative_path(path: Path) -> str:
    return str(path.relative_to(project_root()))
