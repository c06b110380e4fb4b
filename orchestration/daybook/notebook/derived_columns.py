"""Set columns of silver tables that a cell derives from merged tables, such as the first date of an order."""

from __future__ import annotations

from typing import NoReturn

import pyarrow as pa

from daybook.contracts import Table, load_tables
from daybook.contracts.columns import find_column
from daybook.errors import NotebookError
from daybook.notebook.context import Stage
from daybook.notebook.lineage import derivation_name
from daybook.notebook.magic import bind_values, named_values
from daybook.notebook.parameters import load_notebook, notebook_path
from daybook.notebook.sql_cells import read_definitions


def add_derived_columns(stage: Stage, contract: Table) -> str:
    """Return the name of a table's new rows, with the derived columns as merged silver now has them.

    New keys get their values with the merge, so that few rows are changed afterwards.
    """
    rows = f"new.{contract.name}"
    if not contract.derived:
        return rows
    _read_merged_tables(stage, contract)
    key = ", ".join(contract.key)
    values = ", ".join(f"d.{name} AS {name}" for name in contract.derived)
    stage.engine.create_table(
        f"new.derived_{contract.name}",
        f"SELECT n.* REPLACE ({values}) FROM {rows} AS n LEFT JOIN {derivation_name(contract)} AS d USING ({key})",
    )
    return f"new.derived_{contract.name}"


def update_derived_columns(stage: Stage, contract: Table) -> None:
    """Update the derived columns until all rows of a table have the values that its cell gives; null for keys it lacks.

    The cell is evaluated before each attempt to commit. All rows are compared: a run that was killed before this step leaves
    no list of them.
    """
    key = ", ".join(contract.key)
    for column in contract.derived:

        def find_differing(column: str = column) -> pa.Table:
            _read_merged_tables(stage, contract)
            stage.engine.refresh(contract.full_name)
            return stage.engine.arrow(
                f"SELECT {key}, d.{column} FROM {contract.full_name} AS c "
                f"LEFT JOIN {derivation_name(contract)} AS d USING ({key}) "
                f"WHERE c.{column} IS DISTINCT FROM d.{column} ORDER BY {key}"
            )

        while stage.lake.update_column(contract, find_differing, column):
            pass


def _read_merged_tables(stage: Stage, contract: Table) -> None:
    """Let the cell of the derived columns read silver as it is merged now, instead of what cells define."""
    name = derivation_name(contract)
    if not stage.engine.is_defined(name):
        raise NotebookError(f"No cell defines {name}; add a cell that begins with %%sql {name}.")
    found = stage.engine.query(f"SELECT * FROM {name} LIMIT 0").columns
    absent = [each for each in [*contract.key, *contract.derived] if find_column(found, each) is None]
    if absent:
        raise NotebookError(f"The cell that defines {name} lacks {', '.join(absent)}; add it.")
    for table in stage.engine.referenced_tables(f"SELECT * FROM {name}"):
        if table in load_tables("silver"):
            stage.engine.refresh(table)


def define_derivations(stage: Stage) -> None:
    """Define the derived columns as the cells of the transform notebook do, for a stage without that notebook."""
    derivations = {derivation_name(contract) for contract in load_tables("silver").values() if contract.derived}
    values = named_values(stage.settings, stage.run_date, stage.until, {})
    for name, sql in read_definitions(load_notebook(notebook_path("transform"))).items():
        if name in derivations:
            stage.define(name, bind_values(sql, values, _refuse_expression))


def _refuse_expression(text: str) -> NoReturn:
    raise NotebookError(f"A cell that defines derived columns has the expression {text!r}; write it as SQL.")
