"""Parameters of notebooks: declared in one cell, checked before a kernel starts, and no secret among them."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from daybook.errors import NotebookError
from daybook.parameters import check_parameters, declared_parameters

from .small_notebooks import notebook


def test_parameters_are_read_with_their_defaults() -> None:
    assert declared_parameters(notebook(), "n.ipynb") == {"env": "local", "rows": 1}


def test_a_notebook_without_a_parameters_cell_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has 0 cells tagged 'parameters'; it needs one, the first code cell\."):
        declared_parameters(new_notebook(cells=[new_code_cell("x = 1")]), "n.ipynb")


def test_a_parameters_cell_that_is_not_the_first_code_cell_is_refused() -> None:
    late = notebook()
    late.cells.insert(0, new_code_cell("import os"))
    with pytest.raises(NotebookError, match="the first code cell"):
        declared_parameters(late, "n.ipynb")


def test_a_parameters_cell_that_computes_is_refused() -> None:
    with pytest.raises(NotebookError, match="may only hold lines such as name = 'text'"):
        declared_parameters(notebook("env = open('x').read()"), "n.ipynb")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has no parameter 'evn'; its parameters are: env, rows\."):
        check_parameters(notebook(), "n.ipynb", {"evn": "local"})


def test_a_mistyped_parameter_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb: parameter rows is '1', a str, where a int is wanted\."):
        check_parameters(notebook(), "n.ipynb", {"rows": "1"})


@pytest.mark.parametrize("name", ["db_password", "apiKey", "token"])
def test_a_parameter_that_looks_like_a_secret_is_refused_and_its_value_is_not_said(name: str) -> None:
    with pytest.raises(NotebookError, match=rf"n\.ipynb: parameter '{name}' looks like a secret, and only names") as declared:
        declared_parameters(notebook(f'{name} = "hunter2"'), "n.ipynb")
    with pytest.raises(NotebookError, match="looks like a secret") as given:
        check_parameters(notebook(), "n.ipynb", {name: "hunter2"})
    assert "hunter2" not in f"{declared.value} {given.value}"


def test_a_name_of_a_secret_is_a_parameter_like_any_other() -> None:
    assert declared_parameters(notebook('db_secret_name = "shop/db"'), "n.ipynb") == {"db_secret_name": "shop/db"}
