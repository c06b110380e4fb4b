"""Read the notebooks of the stages, and check their parameters before a kernel starts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybook.errors import NotebookError, UsageError
from daybook.records.names import STAGES, notebook_name
from daybook.settings import looks_secret, project_root

if TYPE_CHECKING:  # Kernels import this module, and need not wait for nbformat.
    from nbformat import NotebookNode

_CONFLICT_MARKER = re.compile(r"(?m)^(<{7}|>{7})")
"""A conflict marker of git."""
_INJECTED_CELL_HEADER = "# Parameters\n"
"""The first line of the cell in which papermill assigns parameters."""


def notebook_path(stage: str) -> Path:
    """Return the path of a stage's notebook in the project."""
    if stage not in STAGES:
        raise UsageError(f"There is no stage {stage!r}; the stages are: {', '.join(STAGES)}.")
    return project_root() / "notebooks" / f"{notebook_name(stage)}.ipynb"


def load_notebook(path: Path) -> NotebookNode:
    """Read a stage's notebook; raise ``NotebookError`` if the file is missing or not a notebook."""
    import nbformat

    # With this argument nbformat collects what is invalid instead of printing it.
    invalid: dict[str, Any] = {}
    try:
        text = path.read_text(encoding="utf-8")
        conflict = _CONFLICT_MARKER.search(text)
        if conflict:
            line = text.count("\n", 0, conflict.start()) + 1
            raise NotebookError(f"{path.name} has a conflict marker of git in line {line}; resolve the conflict.")
        notebook: NotebookNode = nbformat.reads(text, as_version=4, capture_validation_error=invalid)
        for cell in notebook.cells:
            _ = (cell.cell_type, cell.source, cell.metadata)
    except FileNotFoundError:
        raise NotebookError(f"{path.name} is missing; every stage needs its notebook.") from None
    except (ValueError, AttributeError, TypeError, KeyError, nbformat.ValidationError) as error:
        # For JSON that is not a notebook, nbformat raises any of these.
        reason = str(error.__cause__ or error).splitlines()[0].rstrip(".")
        raise NotebookError(f"{path.name} is not a notebook ({reason}); restore it.") from None
    return notebook


def read_declared_parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """Return the parameters and defaults of a notebook's one ``parameters`` cell, which is its first code cell."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        raise NotebookError(f"{name} has {len(tagged)} cells tagged 'parameters'; it needs one, the first code cell.")
    try:
        assigned = [each for each in ast.parse(tagged[0].source).body if isinstance(each, ast.Assign)]
        declared = {str(each.targets[0].id): ast.literal_eval(each.value) for each in assigned}  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        raise NotebookError(f"{name}: the parameters cell may only hold lines such as name = 'text'; fix it.") from None
    _require_no_secrets(declared, name)
    return declared


def check_parameters(notebook: NotebookNode, name: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown or mistyped parameter before a kernel starts (papermill itself only warns)."""
    declared = read_declared_parameters(notebook, name)
    _require_no_secrets(given, name)
    for key, value in given.items():
        if key not in declared:
            raise NotebookError(_format_unknown_parameter(name, key, declared))
        if type(value) is not type(declared[key]):
            wanted, found = type(declared[key]).__name__, type(value).__name__
            raise NotebookError(f"{name}: parameter {key} is {value!r}, a {found}; it must be a {wanted}.")


def check_injected_parameters(executed: Iterable[str]) -> None:
    """Raise ``NotebookError`` if papermill has injected a parameter that the notebook does not declare.

    ``executed`` has the text of the cells that the kernel has executed so far. papermill itself only logs a warning: a
    misspelt name leaves the parameter at its default.
    """
    declared: dict[str, None] = {}
    injected: set[str] = set()
    for cell in executed:
        names = _find_assigned_names(cell)
        if cell.startswith(_INJECTED_CELL_HEADER):
            injected = names
        else:
            declared.update(dict.fromkeys(sorted(names)))
    unknown = sorted(injected - declared.keys())
    if unknown:
        raise NotebookError(_format_unknown_parameter("This notebook", unknown[0], declared))


def _find_assigned_names(cell: str) -> set[str]:
    """Return the names that a cell assigns, if it does nothing else."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # A magic, for instance.
        return set()
    targets = [each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None) for each in body]
    names = {each.id for each in targets if isinstance(each, ast.Name)}
    return names if len(names) == len(body) else set()


def _format_unknown_parameter(notebook: str, key: str, declared: Iterable[str]) -> str:
    declared = list(declared)
    close = get_close_matches(key, declared, n=1, cutoff=0.8)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{notebook} has no parameter {key!r}{meant}; its parameters are: {', '.join(declared)}."


def _require_no_secrets(parameters: Mapping[str, Any], name: str) -> None:
    """Refuse parameters that look like secrets: they are archived in records and notebooks. The message omits the value."""
    for key in parameters:
        if looks_secret(key):
            raise NotebookError(
                f"{name}: parameter {key!r} looks like a secret, and only names of secrets are allowed; keep it in a secret "
                "store and pass its name, as a parameter that ends in _secret_name."
            )
