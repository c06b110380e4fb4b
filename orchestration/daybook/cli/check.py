"""Find errors in the files of the project before a run: ``daybook check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

import nbformat

from asl_local import lint_file
from daybook.contracts import LAYERS, read_contract
from daybook.contracts.canonical import affected_dates
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, DaybookError, UsageError
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


def check_project(only: Sequence[Path] = ()) -> Iterator[FileCheck]:
    """Check every file that a run depends on, or some of these files, one after the other.

    Raises
    ------
    UsageError
        A run depends on no file of that path.
    """
    checks = {path: partial(check, path) for path, check in _list_checks()}
    # A folder of the project may be a link, so paths are compared where they lead.
    listed = {path.resolve(): path for path in checks}
    for path in only:
        if path.resolve() not in listed:
            raise UsageError(f"No run depends on a file {path}; name a file of params/, notebooks/ or orchestration/.")
    for path in [listed[each.resolve()] for each in only] or checks:
        yield FileCheck(_relative_path(path), checks[path]())


def _list_checks() -> Iterator[tuple[Path, Callable[[Path], list[str]]]]:
    """Yield each file with the function that returns its problems."""
    root = project_root()
    params = root / "params"
    for layer in LAYERS:
        yield from ((path, _problems_of(_check_contract)) for path in list_files(params / "contracts" / layer, "*.yaml"))
    yield from ((path, _problems_of(_check_landing)) for path in list_files(params / "contracts" / "landing", "*.yaml"))
    yield from ((params / "sources" / f"{name}.yaml", _problems_of(_check_source)) for name in list_sources())
    yield from ((params / "prices" / f"{name}.yaml", _problems_of(_check_prices)) for name in list_price_tables())
    yield from ((params / f"{env}.yaml", _problems_of(_check_env)) for env in list_environments())
    yield from ((notebook_path(stage), _notebook_problems) for stage in STAGES)
    yield from ((path, _state_machine_problems) for path in list_files(root / "orchestration", "*.asl.json"))


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


def _check_env(path: Path) -> None:
    settings = load_settings(path.stem)
    load_source(settings.source)
    if settings.prices:
        load_prices(settings.prices)
    require_own_lake(settings)


def _check_source(path: Path) -> None:
    dry_run_mapping(load_source(path.stem), _create_engine())


def _check_prices(path: Path) -> None:
    load_prices(path.stem)


def _notebook_problems(path: Path) -> list[str]:
    try:
        notebook = load_notebook(path)
        nbformat.validate(notebook)
        declared = read_declared_parameters(notebook, path.name)
    except DaybookError as error:
        return [str(error)]
    except nbformat.ValidationError as error:
        return [f"is not a valid notebook ({str(error).splitlines()[0]})"]
    known = {"env": "local", "run_date": "2025-11-30", "until": "", "run_id": "", "overrides": {}}
    if path == notebook_path(STAGES[-1]):
        known.update(failure="null", execution="")
    problems = _problems_of(check_parameters)(notebook, path.name, known)
    problems += [
        f"declares the parameter {name!r}, which no run passes; remove it, or pass it in daybook.execution.stage"
        for name in declared
        if name not in known
    ]
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        problems.append("contains outputs; clear them (Kernel > Restart & Clear) before you commit")
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        problems.append("does not begin with a title; make the first cell markdown that begins with '# '")
    return problems


def _state_machine_problems(path: Path) -> list[str]:
    return [f"state {each.state}: {each.message}" if each.state else each.message for each in lint_file(path)]


def _problems_of(check: Callable[..., object]) -> Callable[..., list[str]]:
    """Return a function that calls ``check`` and returns the error that it raises, if it raises one."""

    def call(*arguments: Any) -> list[str]:
        try:
            check(*arguments)
        except DaybookError as error:
            return [str(error)]
        return []

    return call


def _relative_path(path: Path) -> str:
    return str(path.relative_to(project_root()))
