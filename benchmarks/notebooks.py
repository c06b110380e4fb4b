"""The functions written by hand, as five notebooks: what papermill users have.

Here: notebooks made of those functions' very source, a stage each, with one parameters cell. Not here: the functions
(``byhand``, ``bypandas``), executing notebooks (``worker``).
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import nbformat
from nbformat import v4

PARAMETERS = ("landing", "lake", "run_date", "key", "texts")


def write_notebooks(folder: Path, module: ModuleType) -> list[Path]:
    """A notebook for each stage of ``module``: its source without the other stages, and a cell that calls the stage."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, stage in enumerate(module.STAGES, start=1):
        others = [inspect.getsource(each) for each in module.STAGES if each is not stage]
        source = inspect.getsource(module)
        for other in others:
            source = source.replace(other, "")
        names = ", ".join(each.__name__ for each in module.STAGES)
        # Only this stage is left of the row of them.
        source = source.replace(f"STAGES = ({names})\n", "")
        parameters = v4.new_code_cell("\n".join(f'{name} = ""' for name in PARAMETERS), metadata={"tags": ["parameters"]})
        call = v4.new_code_cell(f"{stage.__name__}({', '.join(PARAMETERS)})")
        cells = [v4.new_markdown_cell(f"# {stage.__name__}"), parameters, v4.new_code_cell(source), call]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = folder / f"{number}_{stage.__name__}.ipynb"
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        written.append(path)
    return written
