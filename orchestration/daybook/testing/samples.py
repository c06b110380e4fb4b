"""Read rows of silver that belong together: a row with a business date, those that refer to it, and those they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from daybook.contracts import Table, load_table
from daybook.contracts.canonical import (
    affected_dates,
    business_date_column,
    business_date_instant,
    business_date_table,
    column_name,
    has_own_dates,
    reference_to,
    subject_column,
)
from daybook.engines import DuckDBEngine
from daybook.errors import UsageError
from daybook.lake.tables import Lake
from daybook.settings import Settings, daybook_home
from daybook.sources.mapping import quote
from daybook.testing.matching import Values

_MAX_SAMPLES = 100
"""Number of rows of a date that are read."""
_MAX_EARLIER = 2
"""Number of earlier rows of the same person that belong to a row, the oldest."""

Sample = dict[str, list[Values]]
"""Rows of silver by table. The other rows belong to the first row of the table with the business date."""


class SampleReader:
    """Reads the samples of a business date from the published lake.

    Parameters
    ----------
    settings
        The deployment.
    tables
        The silver tables to read, besides the one with the business date.
    """

    def __init__(self, settings: Settings, tables: Iterable[Table]) -> None:
        self._settings = settings
        self._engine = DuckDBEngine(Lake(settings.lake), settings.timezone, spill=daybook_home() / "scratch")
        self._dated = business_date_table()
        (self._id,) = self._dated.key
        others = [each for each in tables if each.full_name != self._dated.full_name]
        self._children = [each for each in others if reference_to(each, self._dated)]
        self._parents = [each for each in others if not reference_to(each, self._dated) and len(each.key) == 1]

    def read(self, run_date: date) -> list[Sample]:
        """Return a sample for each row of a date, or for a hundred of them.

        Rows of other dates that have a date of their own on this one, such as a return, have a sample, too.

        Raises
        ------
        UsageError
            Silver has no rows of the date.
        """
        rows = self._read_rows(run_date)
        if not rows:
            raise UsageError(
                f"{self._dated.full_name} has no rows of {run_date}; name a date that `daybook runs` lists as SUCCEEDED."
            )
        earlier = self._read_earlier_rows(rows)
        ids = [row[self._id] for row in [*rows, *(each for of_person in earlier.values() for each in of_person)]]
        found: list[Sample] = [{self._dated.full_name: [row, *earlier.get(row[self._id], [])]} for row in rows]
        for child in self._children:
            reference = reference_to(child, self._dated)
            by_id = _group(self._read_where(child, reference, ids), reference)
            for sample in found:
                own = [each[self._id] for each in sample[self._dated.full_name]]
                sample[child.full_name] = [row for each in own for row in by_id.get(each, [])]
        for parent in self._parents:
            (key,) = parent.key
            wanted = [find_references(sample, parent) for sample in found]
            by_key = _group(self._read_where(parent, key, set().union(*wanted)), key)
            for sample, keys in zip(found, wanted):
                sample[parent.full_name] = [row for each in sorted(keys) for row in by_key.get(each, [])]
        return found

    def _read_rows(self, run_date: date) -> list[Values]:
        key = quote(self._id)
        conditions = [f"{quote(business_date_column())} = DATE '{run_date}'"]
        for child in self._children:
            for each in affected_dates(child):
                active = all(str(getattr(self._settings, name)) == value for name, value in each.only_if.items())
                if active and has_own_dates(child, each):
                    dates = f"CAST({quote(column_name(child, each.dates_of))} AS DATE) = DATE '{run_date}'"
                    where = f" AND ({each.where})" if each.where else ""
                    conditions.append(
                        f"{key} IN (SELECT {reference_to(child, self._dated)} FROM {child.full_name} WHERE {dates}{where})"
                    )
        return self._to_rows(
            f"SELECT * FROM {self._dated.full_name} WHERE {' OR '.join(conditions)} "
            f"ORDER BY hash({key}), {key} LIMIT {_MAX_SAMPLES}"
        )

    def _read_earlier_rows(self, rows: Sequence[Values]) -> dict[Any, list[Values]]:
        """Return the oldest earlier rows of the same person by the id of a row."""
        person, instant = subject_column(), business_date_instant()
        if person not in self._dated.columns:
            return {}
        by_person = _group(self._read_where(self._dated, person, (row[person] for row in rows)), person)
        found = {}
        for row in rows:
            earlier = [each for each in by_person.get(row[person], []) if each[instant] < row[instant]]
            found[row[self._id]] = sorted(earlier, key=lambda each: (each[instant], each[self._id]))[:_MAX_EARLIER]
        return found

    def _read_where(self, table: Table, column: str, values: Iterable[Any]) -> list[Values]:
        """Return the rows of a table that have one of the values in a column."""
        wanted = pa.array(sorted({each for each in values if each is not None}), table.arrow_schema.field(column).type)
        self._engine.register("_wanted", pa.table({"wanted": wanted}))
        return self._to_rows(f"SELECT * FROM {table.full_name} WHERE {quote(column)} IN (SELECT wanted FROM _wanted)")

    def _to_rows(self, sql: str) -> list[Values]:
        rows: list[Values] = self._engine.arrow(sql).to_pylist()
        return rows


def select_rows(sample: Sample, chosen: Iterable[tuple[str, Values]]) -> Sample:
    """Return the chosen rows of a sample, and the rows of tables without a chosen one that they refer to."""
    found: Sample = {name: [] for name in sample}
    for name, row in chosen:
        found[name].append(row)
    for name in [name for name, rows in found.items() if not rows]:
        table = load_table(name)
        keys = find_references(found, table)
        found[name] = [row for row in sample[name] if len(table.key) == 1 and row[table.key[0]] in keys]
    return found


def merge_samples(samples: Iterable[Sample]) -> Sample:
    """Return the rows of samples, each once, in the order of their keys."""
    found: dict[str, dict[tuple[Any, ...], Values]] = {}
    for sample in samples:
        for name, rows in sample.items():
            key = load_table(name).key
            found.setdefault(name, {}).update({tuple(row[column] for column in key): row for row in rows})
    return {name: [rows[key] for key in sorted(rows)] for name, rows in found.items()}


def find_references(sample: Sample, table: Table) -> set[Any]:
    """Return the keys of a table to which the rows of a sample refer."""
    references = {name: reference_to(load_table(name), table) for name in sample}
    return {row[column] for name, column in references.items() if column for row in sample[name]} - {None}


def _group(rows: Iterable[Values], column: str) -> dict[Any, list[Values]]:
    found: dict[Any, list[Values]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found
