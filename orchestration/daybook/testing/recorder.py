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

from daybook.contracts import Table, load_tables
from daybook.contracts.canonical import (
    business_date_column,
    business_date_instant,
    business_date_table,
    reference_to,
    silver_table,
    subject_column,
)
from daybook.engines import DuckDBEngine
from daybook.errors import CaseError, LineageError, UsageError
from daybook.lake.lineage.sql import LineageReader
from daybook.lake.tables import Lake
from daybook.notebook.aggregate import LANDED, TOUCHED
from daybook.notebook.magic import named_values
from daybook.records.names import STAGES, notebook_name
from daybook.settings import Settings, daybook_home
from daybook.sources.mapping import quote
from daybook.testing.case import Case, read_cases, suggest_names, write_cases
from daybook.testing.cells import SqlCells
from daybook.testing.matching import Values
from daybook.testing.runner import CaseRunner, NotebookEngine, default_dates, input_schema, key_of
from daybook.testing.values import format_value

_MAX_CANDIDATES = 100
"""Number of rows of the day that are looked at."""
_MAX_SAMPLES = 8
"""Number of rows of the day in a case, and of further rows that are tried in order to have more rows of the result."""
_MAX_EARLIER = 2
"""Number of other rows of the same person that belong to a row, the oldest."""

Sample = dict[str, list[Values]]
"""Rows of silver by table: a row with a business date, and those that belong to it."""
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
        self._values = named_values(settings, run_date, {})
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
        given = {name: pa.Table.from_pylist(list(rows), silver_schema(name)) for name, rows in sample.items()}
        result = self.engine.compute(self.table, {**default_dates(given, self.run_date), **given}, self._values).to_pylist()
        return sorted(result, key=lambda row: [str(row[name]) for name in key_of(self.table)])

    def choose(self, limit: int) -> Sample:
        """Return the sample of the case, with at most ``limit`` rows of the result."""
        samples = self._read_samples()
        ways: dict[Way, Sample] = {}
        for sample in samples:
            ways.setdefault(self._find_way(sample), sample)
        novel = [self._shrink(sample, way) for way, sample in ways.items()][:_MAX_SAMPLES]
        chosen: list[Sample] = []
        count = 0
        for sample in novel:
            found = len(self.compute(_merge([*chosen, sample])))
            if found <= limit or not chosen:
                chosen.append(sample)
                count = found
        others = [each for each in samples if each not in ways.values()]
        for sample in others[:_MAX_SAMPLES]:
            if count >= limit:
                break
            more = [*chosen, self._shrink(sample, self._find_way(sample))]
            found = len(self.compute(_merge(more)))
            if count < found <= limit:
                chosen, count = more, found
        return _merge(chosen)

    def _read_samples(self) -> list[Sample]:
        """Return each row of the date with the rows of silver that belong to it."""
        lake = DuckDBEngine(Lake(self.settings.lake), self.settings.timezone, spill=daybook_home() / "scratch")

        def read(contract: Table, column: str, values: Iterable[Any], more: str = "") -> list[Values]:
            lake.register("_wanted", pa.table({"wanted": pa.array(sorted({each for each in values if each is not None}))}))
            return _to_rows(
                lake, f"SELECT * FROM {contract.full_name} WHERE {quote(column)} IN (SELECT wanted FROM _wanted){more}"
            )

        dated, key, person = self._dated.full_name, quote(self._id), subject_column()
        days = _to_rows(
            lake,
            f"SELECT * FROM {dated} WHERE {quote(business_date_column())} = DATE '{self.run_date}' "
            f"ORDER BY hash({key}), {key} LIMIT {_MAX_CANDIDATES}",
        )
        if not days:
            raise UsageError(f"{dated} has no rows of {self.run_date}; name a date that `daybook runs` lists as SUCCEEDED.")
        earlier: dict[Any, list[Values]] = {}
        if person in self._dated.columns:
            same = f" AND {quote(business_date_column())} < DATE '{self.run_date}'"
            order = f" ORDER BY {quote(business_date_instant())}, {key}"
            for row in read(self._dated, person, (row[person] for row in days), same + order):
                earlier.setdefault(row[person], []).append(row)
        ids = [row[self._id] for row in [*days, *(each for rows in earlier.values() for each in rows)]]
        parts = {
            contract.full_name: _group(read(contract, reference, ids), reference)
            for contract in self._tables
            if (reference := reference_to(contract, self._dated))
        }
        found: list[Sample] = []
        for row in days:
            own = [row, *earlier.get(row.get(person), [])[:_MAX_EARLIER]]
            sample = {name: [part for each in own for part in of.get(each[self._id], [])] for name, of in parts.items()}
            found.append({dated: own, **sample})
        for parent in self._tables:
            if parent.full_name not in (dated, *parts) and len(parent.key) == 1:
                wanted = [_find_references(sample, parent) for sample in found]
                rows = {row[parent.key[0]]: row for row in read(parent, parent.key[0], set().union(*wanted))}
                for sample, keys in zip(found, wanted):
                    sample[parent.full_name] = [rows[each] for each in sorted(keys) if each in rows]
        return found

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
            contract = silver_table(name.split(".")[1])
            reference = self._id if contract is self._dated else reference_to(contract, self._dated)
            if reference:
                own = [row for row in rows if row[reference] == first[self._id] and row is not first]
                kept += [(name, row) for row in own[:1]]
                loose += [(name, row) for row in rows if row is not first and row not in own[:1]]
        size = len(loose)
        while size:
            start = 0
            while start < len(loose):
                left = loose[:start] + loose[start + size :]
                if self._find_way(_select(sample, [*kept, *left])) == way:
                    loose = left
                else:
                    start += size
            size //= 2
        return _select(sample, [*kept, *loose])

    def rename(self, sample: Sample) -> Sample:
        """Return a sample with short names in place of ids, pseudonyms and other texts, and with the columns that cells read.

        Texts with a list of valid values in the contract and texts that a cell names stay. Names sort as the texts do.
        """
        named = {each.this for sql in self._queries.values() for each in _find_literals(sql)}
        texts: dict[str, set[str]] = {}
        domains = {}
        for name, rows in sample.items():
            contract = silver_table(name.split(".")[1])
            domains[name] = {each: domain for each in contract.columns if (domain := _name_domain(contract, each))}
            for column, domain in domains[name].items():
                if column in self._columns[name]:
                    found = {row[column] for row in rows} - {None, *named}
                    texts.setdefault(domain, set()).update(found)
        short = {domain: _short_names(prefix, texts[domain]) for domain, prefix in _choose_prefixes(texts).items()}
        renamed: Sample = {}
        for name, rows in sample.items():
            renamed[name] = [
                {
                    column: short[domains[name][column]].get(value, value) if column in domains[name] else value
                    for column, value in row.items()
                    if column in self._columns[name]
                }
                for row in rows
            ]
        return renamed

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


def silver_schema(name: str) -> pa.Schema:
    """Return the columns of a silver table."""
    schema = input_schema(name)
    if schema is None:
        raise UsageError(f"There is no table {name}.")
    return schema


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


def _find_literals(sql: str) -> list[exp.Literal]:
    return [each for each in sqlglot.parse_one(sql, read="duckdb").find_all(exp.Literal) if each.is_string]


def _to_rows(engine: DuckDBEngine, sql: str) -> list[Values]:
    rows: list[Values] = engine.arrow(sql).to_pylist()
    return rows


def _group(rows: Iterable[Values], column: str) -> dict[Any, list[Values]]:
    found: dict[Any, list[Values]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def _sign(value: Any) -> Any:
    """Return what a value says about how a row counts: its sign, or that it is NULL."""
    if value is None or isinstance(value, (bool, str, date)):
        return None if value is None else isinstance(value, bool) and value
    return (value > 0) - (value < 0)


def _select(sample: Sample, chosen: Iterable[tuple[str, Values]]) -> Sample:
    """Return the chosen rows of a sample, and the rows of other tables that they refer to."""
    found: Sample = {name: [] for name in sample}
    for name, row in chosen:
        found[name].append(row)
    for name in [name for name, rows in found.items() if not rows]:
        parent = silver_table(name.split(".")[1])
        keys = _find_references(found, parent)
        found[name] = [row for row in sample[name] if len(parent.key) == 1 and row[parent.key[0]] in keys]
    return found


def _find_references(sample: Sample, parent: Table) -> set[Any]:
    """Return the keys of a table to which the rows of a sample refer."""
    references = {name: reference_to(silver_table(name.split(".")[1]), parent) for name in sample}
    return {row[column] for name, column in references.items() if column for row in sample[name]} - {None}


def _merge(samples: Sequence[Sample]) -> Sample:
    """Return all rows of samples, each once, in the order of their keys."""
    found: dict[str, dict[tuple[Any, ...], Values]] = {}
    for sample in samples:
        for name, rows in sample.items():
            key = silver_table(name.split(".")[1]).key
            found.setdefault(name, {}).update({tuple(row[column] for column in key): row for row in rows})
    return {name: [rows[key] for key in sorted(rows)] for name, rows in found.items()}


def _name_domain(contract: Table, column: str) -> str:
    """Return the kind of name in a text column, which is that of the column it refers to; empty for a text that stays."""
    item = next(each for each in contract.properties if each.name == column)
    if item.physicalType != "VARCHAR" or any(rule.arguments.validValues for rule in item.quality):
        return ""
    return item.relationships[0].to.rpartition(".")[2] if item.relationships else column


def _choose_prefixes(domains: Iterable[str]) -> dict[str, str]:
    """Return the shortest beginning of each domain that no other domain has."""
    found: dict[str, str] = {}
    for domain in sorted(domains):
        lengths = range(1, len(domain) + 1)
        found[domain] = next((domain[:size] for size in lengths if domain[:size] not in found.values()), domain)
    return found


def _short_names(prefix: str, texts: Iterable[str]) -> dict[str, str]:
    """Return a short name for each text, in the same order."""
    ordered = sorted(texts)
    width = len(str(len(ordered)))
    return {text: f"{prefix}{number:0{width}}" for number, text in enumerate(ordered, start=1)}
