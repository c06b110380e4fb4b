"""Build a small notebook like those of stages: a title, a parameters cell and a code cell."""

from __future__ import annotations

from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def build_notebook(parameters: str = 'env = "local"\nrows = 1', **metadata: Any) -> nbformat.NotebookNode:
    cell = new_code_cell(parameters, metadata={"tags": ["parameters"], **metadata})
    return new_notebook(cells=[new_markdown_cell("# Title"), cell, new_code_cell("print(env)")])
