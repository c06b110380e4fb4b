"""``daybook check``: everything that can be wrong in the project's own files, found before a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import nbformat

from asl_local import lint
from daybook.contracts import LAYERS, read_contract
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, DaybookError
from daybook.lake.tables import Lake
from daybook.notebook.parameters import check_parameters, declared_parameters, load_notebook, notebook_path
from daybook.quality.dry_run import try_landing, try_table
from daybook.records.cost import load_prices, price_tables
from daybook.records.names import STAGES
from daybook.settings import environments, files_in, load_settings, project_root, require_own_lake
from daybook.sources import load_source, source_names
from daybook.sources.dry_run import dry_run


@dataclass(frozen=True)
class Checked:
    """One file and what is wrong with it: nothing, where ``problems`` is empty."""

    file: str
    problems: list[str]


def check_project() -> Iterator[Checked]:
    """Every file that a run depends on, one after the other."""
    root = project_root()
    for layer in LAYERS:
        for path in files_in(root / "params" / "contracts" / layer, "*.yaml"):
            yield Checked(_name(path), _problems(lambda path=path: _check_contract(path)))  # type: ignore[misc]
    for path in files_in(root / "params" / "contracts" / "landing", "*.yaml"):
        yield Checked(_name(path), _problems(lambda path=path: _check_landing(path)))  # type: ignore[misc]
    for name in source_names():
        yield Checked(f"params/sources/{name}.yaml", _problems(lambda name=name: _check_source(name)))  # type: ignore[misc]
    for name in price_tables():
        yield Checked(f"params/prices/{name}.yaml", _problems(lambda name=name: load_prices(name)))  # type: ignore[misc]
    for env in environments():
        yield Checked(f"params/{env}.yaml", _problems(lambda env=env: _check_env(env)))  # type: ignore[misc]
    for stage in STAGES:
        yield Checked(_name(notebook_path(stage)), list(_notebook_problems(stage)))
    for path in files_in(root / "orchestration", "*.asl.json"):
        found = lint(path)
        yield Checked(_name(path), [f"state {each.state}: {each.message}" if each.state else each.message for each in found])


def _check_contract(path: Path) -> None:
    for table in read_contract(path):
        try_table(table, _engine(), _name(path))


def _check_landing(path: Path) -> None:
    read_contract(path)
    if path.stem not in source_names():
        raise ContractError(f"{_name(path)}: there is no params/sources/{path.stem}.yaml; a landing contract is a source's.")
    try_landing(load_source(path.stem), _engine(), _name(path))


def _engine() -> DuckDBEngine:
    return DuckDBEngine(Lake("memory:///check"), "UTC")


def _check_env(env: str) -> None:
    settings = load_settings(env)
    load_source(settings.source)
    if settings.prices:
        load_prices(settings.prices)
    require_own_lake(settings)


def _check_source(name: str) -> None:
    dry_run(load_source(name), _engine())


def _notebook_problems(stage: str) -> Iterator[str]:
    path = notebook_path(stage)
    try:
        notebook = load_notebook(path)
        nbformat.validate(notebook)
        declared = declared_parameters(notebook, path.name)
    except DaybookError as error:
        yield str(error)
        return
    except nbformat.ValidationError as error:
        yield f"is not a valid notebook ({str(error).splitlines()[0]})"
        return
    known = {"env": "local", "run_date": "2025-11-30", "run_id": "", "overrides": {}}
    if stage == STAGES[-1]:
        known.update(failure="null", execution="")
    yield from _problems(lambda: check_parameters(notebook, path.name, known))
    for name in declared:
        if name not in known:
            yield f"declares a parameter {name!r} that no run gives; remove it, or hand it on in daybook.execution.stage"
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        yield "holds outputs; clear them (Kernel > Restart & Clear) before you commit"
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        yield "does not begin with a title; make the first cell markdown that begins with '# '"


def _problems(action: Callable[[], object]) -> list[str]:
    try:
        action()
    except DaybookError as error:
        return [str(error)]
    return []


def _name(path: Path) -> str:
    return str(path.relative_to(project_root()))
