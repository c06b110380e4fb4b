"""Collect what a change does to notebooks, contracts, params and code, and which columns it affects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from daybook.contracts import LAYERS, read_contract
from daybook.errors import DaybookError
from daybook.notebook.parameters import load_notebook
from daybook.notebook.sql_cells import read_definitions
from daybook.records.names import STAGES, notebook_name
from daybook.review.affected import Effect, trace_effect
from daybook.review.notebook_diff import CellChange, diff_notebooks
from daybook.review.revisions import FileChange, Revisions
from daybook.review.yaml_diff import ABSENT, KeyChange, diff_values
from daybook.settings import list_files, read_yaml

if TYPE_CHECKING:
    from nbformat import NotebookNode

_TRACED_KEYS = ("physicalType", "primaryKey")
"""Keys of a column in a contract that decide its values. Other keys describe or check them."""


@dataclass
class Changes:
    """What differs between two states of the project. Keys are paths of files."""

    revisions: Revisions
    notebooks: dict[str, list[CellChange]] = field(default_factory=dict)
    params: dict[str, list[KeyChange]] = field(default_factory=dict)
    """Changed keys of YAML files in params/."""
    files: list[FileChange] = field(default_factory=list)
    """Other changed files, also notebooks and YAML files that differ in outputs or comments only."""
    effect: Effect = field(default_factory=Effect)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why a file cannot be read, in a sentence; it is not compared."""


def collect_changes(revisions: Revisions) -> Changes:
    """Return what differs between two states of the project, and which columns of silver and gold that affects."""
    changes = Changes(revisions)
    with revisions.folders() as (before, after):
        old, new = (_load_files(changes, folder, "notebooks", "ipynb", load_notebook) for folder in (before, after))
        changes.notebooks = _compare(changes, old, new, diff_notebooks)
        old_params, new_params = (_load_files(changes, folder, "params", "yaml", read_yaml) for folder in (before, after))
        changes.params = _compare(changes, old_params, new_params, _diff_files)
        contracts = [
            table
            for layer in LAYERS
            for tables in _load_files(changes, after, f"params/contracts/{layer}", "yaml", read_contract).values()
            for table in tables
        ]
        changes.effect = trace_effect(
            _list_definitions(old),
            _list_definitions(new),
            {table.full_name: table for table in contracts},
            settings=set(_changed_settings(changes.params)),
            columns=set(_changed_columns(changes.params)),
        )
    changes.files = [each for each in revisions.changed_files() if each.path not in {*changes.notebooks, *changes.params}]
    return changes


def _load_files(changes: Changes, root: Path, folder: str, suffix: str, read: Callable[[Path], Any]) -> dict[str, Any]:
    """Return the content of a folder's files by path in the project."""
    found = {}
    for path in list_files(root / folder, f"**/*.{suffix}"):
        name = path.relative_to(root).as_posix()
        try:
            found[name] = read(path)
        except DaybookError as error:
            changes.unreadable[name] = str(error).replace(f"{root}/", "")
    return found


def _compare(
    changes: Changes, old: Mapping[str, Any], new: Mapping[str, Any], diff: Callable[[Any, Any], list[Any]]
) -> dict[str, list[Any]]:
    """Return the differences of files by path, without files that do not differ."""
    paths = sorted({*old, *new} - changes.unreadable.keys())
    return {path: found for path in paths for found in [diff(old.get(path), new.get(path))] if found}


def _diff_files(before: Optional[dict[str, Any]], after: Optional[dict[str, Any]]) -> list[KeyChange]:
    return list(diff_values(ABSENT if before is None else before, ABSENT if after is None else after))


def _list_definitions(notebooks: Mapping[str, NotebookNode]) -> dict[str, dict[str, str]]:
    """Return the SQL of the named cells of the stages' notebooks, by path and name."""
    paths = (f"notebooks/{notebook_name(stage)}.ipynb" for stage in STAGES)
    return {path: read_definitions(notebooks[path]) if path in notebooks else {} for path in paths}


def _changed_settings(params: Mapping[str, list[KeyChange]]) -> Iterator[str]:
    """Yield the names of changed settings of any deployment."""
    for path, differences in params.items():
        if path.count("/") == 1:
            yield from (str(each.path[0]) for each in differences if each.path)


def _changed_columns(params: Mapping[str, list[KeyChange]]) -> Iterator[str]:
    """Yield the columns whose contract or mapping changed, as ``trace_effect`` takes them."""
    for path, differences in params.items():
        layer = Path(path).parent.name
        for each in differences:
            keys = each.path
            if layer in LAYERS and keys[2:3] == ("properties",) and (len(keys) == 4 or keys[4] in _TRACED_KEYS):
                yield f"{layer}.{keys[1]}.{keys[3]}"
            elif layer == "sources" and keys[:1] == ("mapping",) and len(keys) > 1:
                yield f"mapped.{keys[1]}.{keys[4] if keys[3:4] == ('columns',) and len(keys) > 4 else '*'}"
