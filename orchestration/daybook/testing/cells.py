"""Read the SQL cells of a notebook, and find those that a table needs."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

import sqlglot
from sqlglot import exp

from daybook.engines.duckdb import named_tables
from daybook.errors import CaseError, NotebookError
from daybook.notebook.magic import bind_values
from daybook.notebook.parameters import load_notebook
from daybook.notebook.sql_cells import read_definitions
from daybook.settings import list_files, project_root
from daybook.testing.case import suggest_names


class SqlCells:
    """The named ``%%sql`` cells of a notebook. Of several cells with one name the last counts.

    Parameters
    ----------
    notebook
        The name of a file in ``notebooks/``, without its suffix.
    """

    def __init__(self, notebook: str) -> None:
        folder = project_root() / "notebooks"
        known = [path.relative_to(folder).with_suffix("").as_posix() for path in list_files(folder, "**/*.ipynb")]
        if notebook not in known:
            raise CaseError(f"There is no notebook {notebook!r}; {suggest_names(notebook, known)}")
        self.notebook = notebook
        self.queries = read_definitions(load_notebook(folder / f"{notebook}.ipynb"))
        """The SQL of the cells by the name that they define. A test of the cases may replace one."""

    @property
    def names(self) -> list[str]:
        """The names that the cells define, in their order."""
        return list(self.queries)

    def bind(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the query of a cell with its parameters as literals.

        Raises
        ------
        NotebookError
            The cell needs a value that Python computes in the notebook.
        """

        def evaluate(expression: str) -> Any:
            if expression not in values:
                raise NotebookError(
                    f"The cell {name} of {self.notebook} needs Python for {{{{ {expression} }}}}; give its value in the "
                    f"parameters of the case: {expression!r}: VALUE."
                )
            return values[expression]

        return bind_values(self.queries[name], values, evaluate)

    def parameters_of(self, name: str) -> set[str]:
        """Return the names that a cell writes with ``$``."""
        return set(re.findall(r"(?<![\w$])\$([A-Za-z_]\w*)", self.queries[name]))

    def needed_for(self, name: str, values: Mapping[str, Any], given: Collection[str]) -> tuple[dict[str, str], set[str]]:
        """Return the queries that a name needs, and the tables that they read.

        Parameters
        ----------
        name
            A name that a cell defines.
        values
            The parameters of the case.
        given
            Names whose rows are given, so that their cells are not needed.

        Returns
        -------
        tuple
            Queries by name, each after those that it reads, and the names that they read from elsewhere.
        """
        queries: dict[str, str] = {}
        inputs: set[str] = set()

        def visit(each: str, path: tuple[str, ...]) -> None:
            if each in path:
                raise NotebookError(f"The cells {' and '.join(path)} of {self.notebook} read each other; change one of them.")
            if each in queries or each in inputs:
                return
            if each in given or each not in self.queries:
                inputs.add(each)
                return
            sql = self.bind(each, values)
            for read in _read_names(sql):
                visit(read, (*path, each))
            queries[each] = sql

        visit(name, ())
        return queries, inputs


@functools.lru_cache(maxsize=1024)
def _read_names(sql: str) -> list[str]:
    """Return the tables that a query names; none if it does not parse, which the engine reports."""
    try:
        statements = sqlglot.parse(sql, read="duckdb")
    except sqlglot.errors.SqlglotError:
        return []
    return sorted({name for each in statements if isinstance(each, exp.Expression) for name in named_tables(each)})
