"""Write the stage functions of a module (``byhand``, ``bypandas``) as notebooks for papermill, one per stage."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import nbformat
from nbformat import v4

PARAMETERS = ("landing", "lake", "run_date", "until", "key", "texts")


def write_notebooks(folder: Path, module: ModuleType) -> list[Path]:
    """Write one notebook per stage: parameters, the module's source without the other stages, and a call of the stage."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, stage in enumerate(module.STAGES, start=1):
        others = [inspect.getsource(each) for each in module.STAGES if each is not stage]
        source = inspect.getsource(module)
        for other in others:
            source = source.replace(other, "")
        names = ", ".join(each.__name__ for each in module.STAGES)
        # The tuple of all stages would refer to removed functions.
        source = source.replace(f"STAGES = ({names})\n", "")
        parameters = v4.new_code_cell("\n".join(f'{name} = ""' for name in PARAMETERS), metadata={"tags": ["parameters"]})
        call = v4.new_code_cell(f"{stage.__name__}({', '.join(PARAMETERS)})")
        cells = [v4.new_markdown_cell(f"# {stage.__name__}"), parameters, v4.new_code_cell(source), call]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = folder / f"{number}_{stage.__name__}.ipynb"
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        written.append(path)
    return written
