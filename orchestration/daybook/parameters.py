"""The notebooks of the stages and their parameters: declared in one cell, held to it before a kernel starts.

Here: where a stage's notebook is, what its ``parameters`` cell says, what may be given. Not here: executing it
(``daybook.execution``), checking the whole project (``daybook.check``).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from daybook.errors import NotebookError, UsageError
from daybook.params import looks_secret, project_root
from daybook.stages import STAGES, notebook_name


def notebook_path(stage: str) -> Path:
    """The stage's notebook in the project."""
    if stage not in STAGES:
        raise UsageError(f"There is no stage {stage!r}; the stages are: {', '.join(STAGES)}.")
    return project_root() / "notebooks" / f"{notebook_name(stage)}.ipynb"


def declared_parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """The parameters and defaults of a notebook's one ``parameters`` cell, which is its first code cell."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        raise NotebookError(f"{name} has {len(tagged)} cells tagged 'parameters'; it needs one, the first code cell.")
    try:
        assigned = [each for each in ast.parse(tagged[0].source).body if isinstance(each, ast.Assign)]
        declared = {str(each.targets[0].id): ast.literal_eval(each.value) for each in assigned}  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        raise NotebookError(f"{name}: the parameters cell may only hold lines such as name = 'text'; mend it.") from None
    _refuse_secrets(declared, name)
    return declared


def check_parameters(notebook: NotebookNode, name: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown or mistyped parameter before a kernel starts (papermill itself only warns)."""
    declared = declared_parameters(notebook, name)
    _refuse_secrets(given, name)
    for key, value in given.items():
        if key not in declared:
            raise NotebookError(f"{name} has no parameter {key!r}; its parameters are: {', '.join(declared)}.")
        if type(value) is not type(declared[key]):
            wanted, found = type(declared[key]).__name__, type(value).__name__
            raise NotebookError(f"{name}: parameter {key} is {value!r}, a {found}, where a {wanted} is wanted.")


def _refuse_secrets(parameters: Mapping[str, Any], name: str) -> None:
    """Parameters end up in records and notebooks, so a secret must not be one. Nor is its value said here."""
    for key in parameters:
        if looks_secret(key):
            raise NotebookError(
                f"{name}: parameter {key!r} looks like a secret, and only names of secrets pass; keep it in a secret store and "
                "give its name, as a parameter that ends in _secret_name."
            )
