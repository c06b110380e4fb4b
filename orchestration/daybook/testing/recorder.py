"""Record a test case from a real day: few rows of silver under other names, and what the cells compute from them.

The rows are a sample. Two rows of the table with the business date (two orders, in a shop) count in the same way if each of
them alone gives a result with the same columns that are zero, positive, negative or NULL. A case has one row for each way, and
of the rows that refer to it only those that the way needs. So a case is short, and it holds no figure of the date.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import sqlglot
from sqlglot import exp

from daybook.contracts import load_table, load_tables
from daybook.contracts.canonical import business_date_table, reference_to
from daybook.errors import CaseError, LineageError, UsageError
from daybook.lake.lineage.sql import LineageReader
from daybook.notebook.aggregate import LANDED, TOUCHED
from daybook.notebook.magic import named_values
from daybook.records.names import STAGES, notebook_name
from daybook.settings import Settings
from daybook.testing.case import Case, read_cases, suggest_names, write_cases
from daybook.testing.cells import SqlCells
from daybook.testing.matching import Values
from daybook.testing.renaming import rename_values
from daybook.testing.runner import CaseRunner, NotebookEngine, default_dates, input_schema, key_of
from daybook.testing.samples import Sample, SampleReader, merge_samples, select_rows
from daybook.testing.values import format_value

_MAX_SAMPLES = 8
"""Number of samples in a case, and of further ones that are tried in order to have more rows of the result."""

Way = frozenset[tuple[Any, ...]]
"""How a sample affects a result: the signs of the values of each row."""


def record_case(settings: Settings, table: str, run_date: date, *, rows: int) -> Case:
    """Return a case of a table from a date in silver.

    Parameters
    ----------
    settings
        The deployment.
    table
        A gold table, or another name that a cell computes from silver.
    run_date
        The business date.
    rows
        Maximum number of expected rows.

    Raises
    ------
    UsageError
        No cell computes the table from silver, or silver has no rows of the date.
    """
    recorder = _Recorder(settings, _find_notebook(table), table, run_date)
    sample = recorder.choose(rows)
    given, expected = recorder.omit_tables(recorder.rename(sample))
    return Case(
        env=settings.env,
        notebook=recorder.engine.cells.notebook,
        table=table,
        parameters={"run_date": run_date.isoformat(), **recorder.used_settings()},
        name=f"sample of {run_date}",
        given={name: [recorder.write(row) for row in part] for name, part in given.items() if part},
        expect=[{name: recorder.format(value) for name, value in row.items()} for row in expected],
    )


def save_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write recorded cases to a file. They are read back and run before the file gets its name.

    Raises
    ------
    CaseError
        A case does not pass: its result depends on something that is not recorded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        write_cases(draft, cases)
        runner = CaseRunner()
        for result in map(runner.run, read_cases(draft)):
            if not result.passed:
                raise CaseError(f"The recorded case {result.name!r} does not pass, so it is not written:\n{result}")
        draft.replace(path)


def _find_notebook(table: str) -> str:
    """Return the first notebook with a cell of this name."""
    known = []
    for stage in STAGES:
        names = SqlCells(notebook_name(stage)).names
        if table in names:
            return notebook_name(stage)
        known += names
    raise UsageError(f"No cell defines {table}; {suggest_names(table, known)}")


class _Recorder:
    def __init__(self, settings: Settings, notebook: str, table: str, run_date: date) -> None:
        self.settings, self.table, self.run_date = settings, table, run_date
        self.engine = NotebookEngine(SqlCells(notebook), settings.timezone)
        self._values = named_values(settings, run_date, run_date, {})
        silver = load_tables("silver")
        if table in silver:
            raise UsageError(f"{table} is not computed from silver, so no case of it can be recorded; name a gold table.")
        self._queries, inputs = self.engine.cells.needed_for(table, self._values, silver)
        others = inputs - silver.keys() - {TOUCHED, LANDED}
        if others:
            raise UsageError(f"{table} reads {', '.join(sorted(others))}, and a case can be recorded from silver only.")
        self._columns = _find_read_columns(table, self._queries, inputs)
        self._tables = [contract for name, contract in silver.items() if name in inputs]
        self._dated = business_date_table()
        (self._id,) = self._dated.key

    def compute(self, sample: Mapping[str, Sequence[Values]]) -> list[Values]:
        """Return the rows that the cells compute from a sample, in the order of their key."""
        given = {name: pa.Table.from_pylist(list(rows), load_table(name).arrow_schema) for name, rows in sample.items()}
        result = self.engine.compute(self.table, {**default_dates(given, self.run_date), **given}, self._values).to_pylist()
        return sorted(result, key=lambda row: [str(row[name]) for name in key_of(self.table)])

    def choose(self, limit: int) -> Sample:
        """Return the sample of the case, with at most ``limit`` rows of the result."""
        samples = SampleReader(self.settings, self._tables).read(self.run_date)
        ways: dict[Way, Sample] = {}
        for sample in samples:
            ways.setdefault(self._find_way(sample), sample)
        novel = [self._shrink(sample, way) for way, sample in list(ways.items())[:_MAX_SAMPLES]]
        chosen: list[Sample] = []
        count = 0
        for sample in novel:
            found = len(self.compute(merge_samples([*chosen, sample])))
            if found <= limit or not chosen:
                chosen.append(sample)
                count = found
        others = [each for each in samples if each not in ways.values()]
        for sample in others[:_MAX_SAMPLES]:
            if count >= limit:
                break
            more = [*chosen, self._shrink(sample, self._find_way(sample))]
            found = len(self.compute(merge_samples(more)))
            if count < found <= limit:
                chosen, count = more, found
        return merge_samples(chosen)

    def _find_way(self, sample: Sample) -> Way:
        key = key_of(self.table)
        return frozenset(tuple(_sign(value) for name, value in row.items() if name not in key) for row in self.compute(sample))

    def _shrink(self, sample: Sample, way: Way) -> Sample:
        """Return a sample without the rows that its way does not need. Halves are tried first, then ever smaller parts.

        The row of the date stays, and one row of each table that refers to it: a row that does not count has to be there.
        """
        first = sample[self._dated.full_name][0]
        kept = [(self._dated.full_name, first)]
        loose: list[tuple[str, Values]] = []
        for name, rows in sample.items():
            reference = self._id if name == self._dated.full_name else reference_to(load_table(name), self._dated)
            if reference:
                own = [row for row in rows if row[reference] == first[self._id] and row is not first]
                kept += [(name, row) for row in own[:1]]
                loose += [(name, row) for row in rows if row is not first and row not in own[:1]]
        size = len(loose)
        while size:
            start = 0
            while start < len(loose):
                left = loose[:start] + loose[start + size :]
                if self._find_way(select_rows(sample, [*kept, *left])) == way:
                    loose = left
                else:
                    start += size
            size //= 2
        return select_rows(sample, [*kept, *loose])

    def rename(self, sample: Sample) -> Sample:
        """Return a sample under other names, with the columns that the cells read. Texts that a cell names stay."""
        return rename_values(sample, self._columns, {text for sql in self._queries.values() for text in _find_texts(sql)})

    def omit_tables(self, sample: Sample) -> tuple[Sample, list[Values]]:
        """Return a sample without the tables that make no difference to the result, and the result."""
        expected = self.compute(sample)
        for name in list(sample):
            fewer = {other: rows for other, rows in sample.items() if other != name}
            if self.compute(fewer) == expected:
                sample = fewer
        return sample, expected

    def write(self, row: Values) -> dict[str, Optional[str]]:
        """Return a given row as a case has it."""
        return {name: self.format(value) for name, value in row.items() if value is not None}

    def format(self, value: Any) -> Optional[str]:
        return None if value is None else format_value(value, self.engine.zone)

    def used_settings(self) -> dict[str, str]:
        """Return the settings that the cells name, so that the case does not depend on ``params/``."""
        used = set().union(*(self.engine.cells.parameters_of(name) for name in self._queries)) - {"run_date"}
        return {name: str(self._values[name]) for name in sorted(used) if self._values.get(name) is not None}


def _find_read_columns(table: str, queries: Mapping[str, str], inputs: Iterable[str]) -> dict[str, set[str]]:
    """Return the columns of each input that decide about the rows and values of a table."""
    schemas = {name: list(schema.names) for name in inputs if (schema := input_schema(name)) is not None}
    try:
        lineage = LineageReader(queries, lambda name: schemas[name], stored_names=schemas).entry(table)
    except LineageError:
        return {name: set(columns) for name, columns in schemas.items()}
    found: dict[str, set[str]] = {name: set() for name in schemas}
    for sources in (lineage["rows"], *lineage["columns"].values()):
        for source in sources:
            name, _, column = source.rpartition(".")
            found.setdefault(name, set()).add(column)
    return found


def _find_texts(sql: str) -> set[str]:
    """Return the text literals of a query."""
    return {each.this for each in sqlglot.parse_one(sql, read="duckdb").find_all(exp.Literal) if each.is_string}


def _sign(value: Any) -> Any:
    """Return what a value says about how a row counts: its sign, or that it is NULL."""
    if value is None or isinstance(value, (bool, str, date)):
        return None if value is None else isinstance(value, bool) and value
    return (value > 0) - (value < 0)
