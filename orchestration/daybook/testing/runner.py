"""Run the test cases of SQL cells: without a kernel, on one DuckDB engine for all cases of a notebook."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Optional, Union
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.canonical import business_date_column, business_date_table
from daybook.contracts.model import LANDED_ON
from daybook.engines import DuckDBEngine
from daybook.errors import CaseError, DaybookError
from daybook.lake.schema_evolution import find_contract
from daybook.lake.tables import Lake
from daybook.notebook.aggregate import LANDED, TOUCHED
from daybook.notebook.conversions import ADDRESS_COLUMNS, contract_rows_sql
from daybook.notebook.display import Listing
from daybook.notebook.lineage import derivation_name
from daybook.notebook.magic import named_values
from daybook.notebook.stale_dates import dates_table
from daybook.records.names import notebook_name
from daybook.settings import Settings, load_settings, parse_run_date
from daybook.testing.case import Case, suggest_names
from daybook.testing.cells import SqlCells
from daybook.testing.landing import LandingEngine
from daybook.testing.matching import Values, differing_columns, match_rows
from daybook.testing.values import build_table, format_value, infer_value, normalize_value, parse_row

_MAX_ROW_TEXT = 80
"""Length at which the text of a missing or an unexpected row is cut."""


class CellDifference(BaseModel):
    """A value that differs, or, without a column, a row that is missing or unexpected."""

    model_config = ConfigDict(frozen=True)

    row: str = Field(description="The key of the row: column=value.")
    column: str
    expected: str
    actual: str


class CaseResult(BaseModel):
    """What a case found."""

    model_config = ConfigDict(frozen=True)

    file: str
    name: str
    notebook: str
    table: str
    reason: Optional[str] = Field(default=None, description="Why the rows could not be compared.")
    differences: list[CellDifference] = Field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the result has exactly the expected rows."""
        return self.reason is None and not self.differences

    def __str__(self) -> str:
        """Return the reason, or the differences as a small table."""
        if self.reason is not None or not self.differences:
            return self.reason or "passed"
        return repr(Listing(list(CellDifference.model_fields), [list(vars(each).values()) for each in self.differences]))


class CaseRunner:
    """Runs cases one after the other. Cases of one notebook and time zone share an engine."""

    def __init__(self) -> None:
        self._cells: dict[str, SqlCells] = {}
        self._engines: dict[tuple[str, str, str], Union[NotebookEngine, LandingEngine]] = {}
        self._parameters: dict[tuple[Any, ...], tuple[Settings, date, dict[str, Any]]] = {}

    def cells(self, notebook: str) -> SqlCells:
        """Return the cells of a notebook that the cases run."""
        if notebook not in self._cells:
            self._cells[notebook] = SqlCells(notebook)
        return self._cells[notebook]

    def run(self, case: Case) -> CaseResult:
        """Return the result of a case. An error, such as one of the SQL, is the reason of a failure."""
        result = CaseResult(file=case.file, name=case.name, notebook=case.notebook, table=case.table)
        try:
            return result.model_copy(update={"differences": self._find_differences(case)})
        except DaybookError as error:
            return result.model_copy(update={"reason": str(error)})

    def _find_differences(self, case: Case) -> list[CellDifference]:
        given = (case.env, *sorted(case.parameters.items()))
        if given not in self._parameters:
            self._parameters[given] = read_parameters(case)
        settings, run_date, values = self._parameters[given]
        engine = self._open_engine(case.notebook, settings)
        result = engine.compute(case.table, engine.read_given(case, run_date, values), values)
        return _compare(case, result, key_of(case.table), engine.zone)

    def _open_engine(self, notebook: str, settings: Settings) -> Union[NotebookEngine, LandingEngine]:
        key = notebook, settings.source, settings.timezone
        if key not in self._engines:
            self._engines[key] = (
                LandingEngine(settings)
                if notebook == notebook_name("validate")
                else NotebookEngine(self.cells(notebook), settings.timezone)
            )
        return self._engines[key]


def read_parameters(case: Case) -> tuple[Settings, date, dict[str, Any]]:
    """Return the settings and the run date of a case, and what ``$name`` and ``{{ name }}`` stand for in its cells."""
    given = dict(case.parameters)
    run_date = given.pop("run_date", None)
    overrides = {name: text for name, text in given.items() if name in Settings.model_fields and text is not None}
    settings = load_settings(case.env, overrides)
    day = settings.default_run_date if run_date is None else parse_run_date(run_date)
    if day is None:
        raise CaseError(f"There is no run_date in the parameters of the case or in params/{case.env}.yaml; add it to the case.")
    variables = {name: infer_value(text) for name, text in given.items() if name not in overrides}
    return settings, day, named_values(settings, day, day, variables)


class NotebookEngine:
    """Computes tables by the cells of a notebook from given rows.

    It is an engine over an empty lake, with the macros, the time zone and the types of a stage's engine.
    """

    def __init__(self, cells: SqlCells, timezone: str) -> None:
        self.cells = cells
        self.zone = ZoneInfo(timezone)
        # More threads make queries of a few rows slower.
        self._engine = DuckDBEngine(Lake("memory:///cases"), timezone, threads=1)
        self._queries: dict[str, str] = {}
        """The queries that are defined, by name. The next case defines only what differs."""
        self._inputs: dict[str, bool] = {}
        """The registered inputs, and whether they have rows."""

    def compute(self, table: str, given: Mapping[str, pa.Table], values: Mapping[str, Any]) -> pa.Table:
        """Return the rows of a table, cast to its contract if it has one.

        Parameters
        ----------
        table
            A name that a cell defines.
        given
            Rows by input. Other inputs are empty.
        values
            What ``$name`` stands for.

        Raises
        ------
        DaybookError
            A cell cannot be computed, or a value does not fit its contract.
        """
        self._fill(given)
        self._define(table, values, given)
        contract = find_contract(table)
        if contract is None:
            return self._engine.arrow(f"SELECT * FROM {table}")
        marked = f"marked.{contract.name}"
        if marked not in self._queries:
            self._queries[marked] = contract_rows_sql(self._engine, contract)
            self._engine.create_view(marked, self._queries[marked])
        result = self._engine.arrow(f"SELECT * FROM {marked}")
        unfit = [place for place, names in enumerate(result.column("_unfit").to_pylist()) if names]
        for row in result.take(unfit[:1]).to_pylist() if unfit else ():
            about = ", ".join(f"{name}={format_value(row[name], self.zone)}" for name in contract.key)
            raise CaseError(f"The row {about} has a value that does not fit the contract of {table}: {row['_unfit']}.")
        return result.drop_columns(["_unfit"])

    def read_given(self, case: Case, run_date: date, values: Mapping[str, Any]) -> dict[str, pa.Table]:
        """Return the given rows of a case, typed, with the dates that are there by default.

        Raises
        ------
        CaseError
            The case names a cell, an input or a column that does not exist, or a value does not fit its column.
        """
        if case.table not in self.cells.names:
            raise CaseError(f"No cell of {case.notebook} defines {case.table}; {suggest_names(case.table, self.cells.names)}")
        if case.table in case.given:
            raise CaseError(f"The rows of {case.table} are both given and expected; remove them from given.")
        found = {}
        for name, rows in case.given.items():
            schema = input_schema(name)
            if schema is None and name in self.cells.names:
                # Rows of another cell have the types that the cell gives them.
                self._define(name, values, {})
                schema = self._engine.arrow(f"SELECT * FROM {name} LIMIT 0").schema
            if schema is None:
                raise CaseError(
                    f"given: there is no input {name!r}; {suggest_names(name, [*self.cells.names, *_list_inputs()])}"
                )
            found[name] = build_table(name, rows, schema, self.zone)
        return {**default_dates(found, run_date), **found}

    def _fill(self, given: Mapping[str, pa.Table]) -> None:
        for name, rows in given.items():
            if self._engine.is_defined(name):
                self._forget(name)
            self._engine.register(name, rows)
            self._inputs[name] = len(rows) > 0

    def _define(self, name: str, values: Mapping[str, Any], given: Collection[str]) -> None:
        """Define a name and those that it reads. Inputs that are not given are empty."""
        queries, inputs = self.cells.needed_for(name, values, given)
        for each in inputs - set(given):
            schema = input_schema(each)
            # Without a schema the engine finds that there is no such table.
            if schema is not None and self._inputs.get(each, True):
                self._engine.register(each, schema.empty_table())
                self._inputs[each] = False
        for each, sql in queries.items():
            was_input = self._inputs.pop(each, None) is not None
            if was_input or self._queries.get(each, sql) != sql:
                self._forget(each)
            if each not in self._queries:
                self._engine.define(each, sql)
                self._queries[each] = sql

    def _forget(self, name: str) -> None:
        """Remove what a name stands for. All cells are defined again, since those that read it may get other types."""
        self._engine.refresh(name)
        self._queries.clear()


def input_schema(name: str) -> Optional[pa.Schema]:
    """Return the columns of an input: of a table with a contract, of mapped rows, or of dates; None for another name."""
    if name in (TOUCHED, LANDED):
        return dates_table([]).schema
    contract = find_contract(name)
    if contract is not None:
        return contract.arrow_schema
    layer, _, table = name.partition(".")
    mapped = load_tables("silver").get(f"silver.{table}") if layer == "mapped" else None
    if mapped is None:
        return None
    columns = [mapped.arrow_schema.field(each) for each in [*mapped.mappable, LANDED_ON]]
    file, number = ADDRESS_COLUMNS
    return pa.schema([*columns, pa.field(file, pa.string()), pa.field(number, pa.int64())])


def default_dates(given: Mapping[str, pa.Table], run_date: date) -> dict[str, pa.Table]:
    """Return the dates to compute, which are the run date, and the landed dates, which are those of the given rows."""
    dated = given.get(business_date_table().full_name)
    landed = set() if dated is None else {*dated.column(business_date_column()).to_pylist()} - {None}
    return {TOUCHED: dates_table([run_date]), LANDED: dates_table(sorted(landed))}


def key_of(table: str) -> list[str]:
    """Return the key of a table with a contract, or of a silver table's derived columns; an empty list for other names."""
    contract = find_contract(table)
    if contract is not None:
        return contract.key
    return {derivation_name(each): each.key for each in load_tables("silver").values()}.get(table, [])


def _list_inputs() -> list[str]:
    tables = [name for layer in LAYERS for name in load_tables(layer)]
    return [*tables, *(f"mapped.{each.name}" for each in load_tables("silver").values()), TOUCHED, LANDED]


def _compare(case: Case, result: pa.Table, key: Sequence[str], zone: ZoneInfo) -> list[CellDifference]:
    """Return how the expected rows differ from a result."""
    expected = [parse_row(f"expect, row {number}", row, result.schema, zone) for number, row in enumerate(case.expect, start=1)]
    for row in expected:
        omitted = [name for name in result.column_names if name not in row]
        if case.columns == "all" and omitted:
            raise CaseError(f"columns is all, and an expected row does not name {', '.join(omitted)}; add what it has there.")
    key = key if all(name in row for row in expected for name in key) else ()
    rows = [{name: normalize_value(value) for name, value in row.items()} for row in result.to_pylist()]
    match = match_rows(expected, rows, key)
    compared = {name: None for row in expected for name in row} or dict.fromkeys(result.column_names)

    def describe(row: Values, names: Iterable[str]) -> str:
        return ", ".join(f"{name}={format_value(row[name], zone)}" for name in names if name in row)

    def describe_others(row: Values) -> str:
        text = describe(row, (name for name in row if name in compared and name not in key)) or "a row"
        return text if len(text) <= _MAX_ROW_TEXT else text[:_MAX_ROW_TEXT] + "…"

    found = []
    for row, actual in match.differing:
        same = key or [name for name in row if name not in differing_columns(row, actual)]
        for name in differing_columns(row, actual):
            shown = format_value(row[name], zone), format_value(actual[name], zone)
            found.append(CellDifference(row=describe(row, same), column=name, expected=shown[0], actual=shown[1]))
    for row in match.missing:
        found.append(CellDifference(row=describe(row, key), column="", expected=describe_others(row), actual="no row"))
    for row in match.unexpected:
        found.append(CellDifference(row=describe(row, key), column="", expected="no row", actual=describe_others(row)))
    return found
