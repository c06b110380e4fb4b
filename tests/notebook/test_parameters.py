"""Test that parameters are declared in one cell, checked before a kernel starts, and are not secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from daybook.errors import NotebookError
from daybook.notebook.parameters import check_injected_parameters, check_parameters, load_notebook, read_declared_parameters
from tests.small_notebooks import build_notebook


def test_parameters_are_read_with_their_defaults() -> None:
    assert read_declared_parameters(build_notebook(), "n.ipynb") == {"env": "local", "rows": 1}


def test_notebook_without_a_parameters_cell_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has 0 cells tagged 'parameters'; it needs one, the first code cell\."):
        read_declared_parameters(new_notebook(cells=[new_code_cell("x = 1")]), "n.ipynb")


def test_parameters_must_be_the_first_code_cell() -> None:
    late = build_notebook()
    late.cells.insert(0, new_code_cell("import os"))
    with pytest.raises(NotebookError, match="the first code cell"):
        read_declared_parameters(late, "n.ipynb")


def test_parameters_cell_that_computes_is_refused() -> None:
    with pytest.raises(NotebookError, match="may only hold lines such as name = 'text'"):
        read_declared_parameters(build_notebook("env = open('x').read()"), "n.ipynb")


def test_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has no parameter 'evn'; its parameters are: env, rows\."):
        check_parameters(build_notebook(), "n.ipynb", {"evn": "local"})


def test_mistyped_parameter_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb: parameter rows is '1', a str; it must be a int\."):
        check_parameters(build_notebook(), "n.ipynb", {"rows": "1"})


@pytest.mark.parametrize("name", ["db_password", "apiKey", "token"])
def test_secret_in_a_parameter_is_refused_and_not_printed(name: str) -> None:
    with pytest.raises(NotebookError, match=rf"n\.ipynb: parameter '{name}' looks like a secret, and only names") as declared:
        read_declared_parameters(build_notebook(f'{name} = "hunter2"'), "n.ipynb")
    with pytest.raises(NotebookError, match="looks like a secret") as given:
        check_parameters(build_notebook(), "n.ipynb", {name: "hunter2"})
    assert "hunter2" not in f"{declared.value} {given.value}"


def test_name_of_a_secret_is_accepted() -> None:
    assert read_declared_parameters(build_notebook('db_secret_name = "shop/db"'), "n.ipynb") == {"db_secret_name": "shop/db"}


DECLARED = 'env = "local"  # a deployment\nrun_date: str = "2025-11-30"'


@pytest.mark.parametrize(
    "executed",
    [
        [],
        [DECLARED],
        [DECLARED, '# Parameters\nrun_date = "2025-11-29"\n', "%load_ext daybook\nx = 1"],
        # The injected cell was edited and executed again.
        [DECLARED, '# Parameters\nrun_dat = "2025-11-29"\n', '# Parameters\nrun_date = "2025-11-29"\n'],
        # A notebook in JupyterLab has no injected cell.
        ['run_dat = "2025-11-29"', "print(1)"],
    ],
)
def test_declared_parameters_are_accepted(executed: list[str]) -> None:
    check_injected_parameters(executed)


def test_injected_unknown_parameter_is_refused() -> None:
    with pytest.raises(NotebookError) as raised:
        check_injected_parameters(["", DECLARED, '# Parameters\nenv = "olist"\nrun_dat = "2025-11-29"\n', "begin()"])
    message = "This notebook has no parameter 'run_dat' (did you mean 'run_date'?); its parameters are: env, run_date."
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n<<<<<<< HEAD\n"cells": []}', "n.ipynb has a conflict marker of git in line 2; resolve the conflict."),
        ("no JSON", "n.ipynb is not a notebook (Expecting value: line 1 column 1 (char 0)); restore it."),
        ("[]", "n.ipynb is not a notebook ('list' object has no attribute 'get'); restore it."),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}', "n.ipynb is not a notebook"),
        (None, "n.ipynb is missing; every stage needs its notebook."),
    ],
)
def test_file_that_is_no_notebook_is_refused(tmp_path: Path, text: Optional[str], message: str) -> None:
    path = tmp_path / "n.ipynb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NotebookError) as raised:
        load_notebook(path)
    assert str(raised.value).startswith(message)
