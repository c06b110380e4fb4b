"""Compare two versions of a table: columns and types, rows by key, values, and totals of numeric columns.

Rows that are equal on both sides are removed first, by one aggregation that spills to disk. The rest is paired by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from daybook.contracts import Table
from daybook.sources.mapping import quote

if TYPE_CHECKING:
    import duckdb  # Slow to import, and not needed to read a comparison.

HIDDEN = "…"
"""Shown in place of a value that may be personal, and of the rest of a pseudonym."""

_PSEUDONYM = re.compile(r"([0-9a-f]{6})[0-9a-f]{26}")
"""A pseudonym; the group is shown."""
_FLOATS = ("FLOAT", "DOUBLE")
_NUMERIC = re.compile(rf"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|DECIMAL\(\d+,\d+\)|{'|'.join(_FLOATS)}")
_TEMPORAL = re.compile("DATE|TIMESTAMP.*")
_FLOAT_DIGITS = 4
"""Digits of a total of floats: further ones depend on the order of the rows."""
_LARGEST_DIFFERENCES = 3
# Names of columns in contracts have no spaces, so these are other columns.
_COUNT, _NUMBER, _CHANGE = map(quote, ("row count", "row number", "row change"))
_UNEQUAL, _DIFFERING = quote("unequal rows"), quote("differing rows")

ExactDecimal = Annotated[Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")]
"""A decimal that is an exact text in JSON."""
Values = dict[str, Optional[str]]
"""Values as text by column; decimals are exact."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SchemaChange(_Model):
    """A column that only one side has, or that has another type."""

    column: str
    before: Optional[str] = Field(description="SQL type; null: the column is absent.")
    after: Optional[str] = Field(description="SQL type; null: the column is absent.")


class ValueChange(_Model):
    """A changed value of one row."""

    key: Values
    before: Optional[str]
    after: Optional[str]


class ColumnDiff(_Model):
    """The differences of a column that is not part of the key."""

    column: str
    changed: int = Field(default=0, description="Rows with the key on both sides and another value.")
    total_before: Optional[ExactDecimal] = Field(default=None, description="Sum; null if the column is absent or not numeric.")
    total_after: Optional[ExactDecimal] = Field(default=None, description="Sum; null if the column is absent or not numeric.")
    largest: list[ValueChange] = Field(default=[], description="The largest differences of a numeric column, at most 3.")


class RowSample(_Model):
    """A row that differs."""

    change: Literal["added", "removed", "changed"]
    key: Values = Field(description="Values of the key; empty if rows were compared as a whole.")
    before: Values = Field(description="Values before; of a changed row the changed ones only.")
    after: Values = Field(description="Values after; of a changed row the changed ones only.")


class TableDiff(_Model):
    """The differences between two versions of a table."""

    table: str
    key: list[str] = Field(description="Columns that rows are paired by; empty if rows were compared as a whole.")
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    schema_changes: list[SchemaChange]
    columns: list[ColumnDiff] = Field(description="All columns except the key.")
    samples: list[RowSample] = Field(description="Some rows of each kind of change, in the order of the key.")

    @property
    def has_changes(self) -> bool:
        """Whether schema, rows or values differ."""
        return bool(self.added or self.removed or self.changed or self.schema_changes)

    def without_rows(self) -> TableDiff:
        """Return a copy without the values of single rows."""
        columns = [each.model_copy(update={"largest": []}) for each in self.columns]
        return self.model_copy(update={"columns": columns, "samples": []})


class Comparison(_Model):
    """The differences between two states of the tables."""

    schema_version: Literal[1] = 1
    before: str = Field(description="The state before, in words.")
    after: str = Field(description="The state after, in words.")
    dates: Optional[list[date]] = Field(description="The compared business dates; null: all.")
    tables: list[TableDiff]

    @property
    def has_changes(self) -> bool:
        """Whether any table differs."""
        return any(each.has_changes for each in self.tables)

    def without_rows(self) -> Comparison:
        """Return a copy with schema changes, counts and totals only. It may leave the data zone."""
        return self.model_copy(update={"tables": [each.without_rows() for each in self.tables]})


def diff_tables(
    database: duckdb.DuckDBPyConnection, contract: Table, before: Optional[str], after: Optional[str], *, samples: int = 3
) -> TableDiff:
    """Return the differences between two versions of a table.

    Rows are paired by the contract's key. Rows that share a key are paired in the order of their values, after equal rows.
    If a side lacks a column of the key, whole rows are compared: none counts as changed. NULL equals NULL. Values of different
    types are compared after a cast to the wider type.

    Parameters
    ----------
    database
        The database of both relations.
    contract
        The table's contract, with its key and the classification of columns.
    before, after
        The relations, as a query names them; None if the table does not exist on that side, but not on both.
    samples
        Number of sample rows of each kind of change.

    Returns
    -------
    TableDiff
        Pseudonyms in it are shortened. Values of restricted columns, and of columns without a contract that are not numeric,
        are hidden.
    """
    diff = _Diff(database, contract, before, after)
    try:
        diff.collect_differing_rows()
        return diff.summarize(samples)
    finally:
        diff.drop_temporary_tables()


class _Side(NamedTuple):
    """One version of a table: its relation, and the SQL type of each column (empty if the table does not exist)."""

    rows: str
    types: dict[str, str]


class _Diff:
    """Two versions of a table, and a temporary table of the rows in which they differ."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, contract: Table, before: Optional[str], after: Optional[str]
    ) -> None:
        self._database = database
        self._contract = contract
        self._before = self._read_side(before, after)
        self._after = self._read_side(after, before)
        # A table that only one side has is compared with an empty one of the same columns.
        before_types, after_types = self._before.types or self._after.types, self._after.types or self._before.types
        self._compared = {
            name: self._wider_type(before_types[name], kind) for name, kind in after_types.items() if name in before_types
        }
        self._key = contract.key if set(contract.key) <= set(self._compared) else []
        self._values = [name for name in self._compared if name not in self._key]

    def _read_side(self, rows: Optional[str], other: Optional[str]) -> _Side:
        if rows is None:
            return _Side(f"(SELECT * FROM {other} LIMIT 0)", {})
        return _Side(rows, self._describe(f"SELECT * FROM {rows}"))

    def _describe(self, query: str) -> dict[str, str]:
        return {name: kind for name, kind, *_ in self._database.execute(f"DESCRIBE {query}").fetchall()}

    def _wider_type(self, one: str, other: str) -> str:
        """Return the type that holds the values of both types: text, unless both are numbers or both are times."""
        if one == other:
            return one
        if not any(kinds.fullmatch(one) and kinds.fullmatch(other) for kinds in (_NUMERIC, _TEMPORAL)):
            return "VARCHAR"
        return self._describe(f"SELECT CAST(NULL AS {one}) AS value UNION ALL SELECT CAST(NULL AS {other})")["value"]

    def collect_differing_rows(self) -> None:
        """Store the rows that are not equal on both sides, paired by key, with the values of both sides."""
        columns = _list_sql(self._compared)
        sides = " UNION ALL ".join(
            f"SELECT {', '.join(self._cast_sql(name, side) for name in self._compared)}, {sign} AS {_COUNT} FROM {side.rows}"
            for side, sign in ((self._before, -1), (self._after, 1))
        )
        # A row that occurs equally often on both sides has the sum 0.
        self._create(
            _UNEQUAL,
            f"SELECT {columns}, CAST(sum({_COUNT}) AS BIGINT) AS {_COUNT} FROM ({sides}) GROUP BY {columns} "
            f"HAVING sum({_COUNT}) <> 0",
        )
        identity = self._key or list(self._compared)
        rows = self._number_sql(_list_sql(identity))
        columns = ", ".join(
            [
                *(f"coalesce(before.{name}, after.{name}) AS {name}" for name in map(quote, identity)),
                *(
                    f"{side}.{quote(name)} AS {_side_column(side, name)}"
                    for side in ("before", "after")
                    for name in self._values
                ),
            ]
        )
        pairs = " AND ".join(f"before.{name} IS NOT DISTINCT FROM after.{name}" for name in map(quote, identity))
        # Not an aggregation by key, which could not spill texts to disk.
        self._create(
            _DIFFERING,
            f"SELECT {columns}, CASE WHEN before.{_COUNT} IS NULL THEN 'added' WHEN after.{_COUNT} IS NULL THEN 'removed' "
            f"ELSE 'changed' END AS {_CHANGE} FROM (SELECT * FROM ({rows}) WHERE {_COUNT} < 0) AS before "
            f"FULL JOIN (SELECT * FROM ({rows}) WHERE {_COUNT} > 0) AS after "
            f"ON before.{_NUMBER} = after.{_NUMBER} AND {pairs}",
        )

    def _number_sql(self, identity: str) -> str:
        """Return a query for the unequal rows that numbers those of a side and key in the order of their values."""
        repeated = f"SELECT 1 FROM {_UNEQUAL} GROUP BY {identity}, {_COUNT} > 0 HAVING sum(abs({_COUNT})) > 1 LIMIT 1"
        if not self._query(repeated):
            # Sorting all rows would take longer than everything else.
            return f"SELECT *, 1 AS {_NUMBER} FROM {_UNEQUAL}"
        place = f"row_number() OVER (PARTITION BY {identity}, {_COUNT} > 0 ORDER BY {_list_sql(self._compared)})"
        return f"SELECT *, {place} AS {_NUMBER} FROM (SELECT *, unnest(range(abs({_COUNT}))) FROM {_UNEQUAL})"

    def drop_temporary_tables(self) -> None:
        """Drop what ``collect_differing_rows`` stored."""
        for name in (_UNEQUAL, _DIFFERING):
            self._database.execute(f"DROP TABLE IF EXISTS {name}")

    def _create(self, name: str, sql: str) -> None:
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")

    def _cast_sql(self, name: str, side: _Side) -> str:
        kind = self._compared[name]
        return quote(name) if side.types.get(name, kind) == kind else f"CAST({quote(name)} AS {kind}) AS {quote(name)}"

    def summarize(self, samples: int) -> TableDiff:
        """Return the differences, with a number of sample rows of each kind of change."""
        before, after = self._before.types, self._after.types
        names = list({**after, **before})
        rows_before, totals_before = self._sum_columns(self._before)
        rows_after, totals_after = self._sum_columns(self._after)
        rows = dict(self._query(f"SELECT {_CHANGE}, count(*) FROM {_DIFFERING} GROUP BY {_CHANGE}"))
        changed = self._count_changed_values()
        return TableDiff(
            table=self._contract.full_name,
            key=self._key,
            rows_before=rows_before,
            rows_after=rows_after,
            added=rows.get("added", 0),
            removed=rows.get("removed", 0),
            changed=rows.get("changed", 0),
            schema_changes=[
                SchemaChange(column=name, before=before.get(name), after=after.get(name))
                for name in names
                if before.get(name) != after.get(name)
            ],
            columns=[
                ColumnDiff(
                    column=name,
                    changed=changed.get(name, 0),
                    total_before=totals_before.get(name),
                    total_after=totals_after.get(name),
                    largest=self._list_largest(name) if changed.get(name) else [],
                )
                for name in names
                if name not in self._key
            ],
            samples=self._list_samples(samples),
        )

    def _sum_columns(self, side: _Side) -> tuple[int, dict[str, Optional[Decimal]]]:
        """Return the number of rows, and the total of each numeric column that may be shown."""
        names = [name for name, kind in side.types.items() if _NUMERIC.fullmatch(kind) and not self._is_hidden(name)]
        sums = [
            f"coalesce(round(fsum({quote(name)}), {_FLOAT_DIGITS}), 0)"
            if side.types[name] in _FLOATS
            else f"coalesce(sum({quote(name)}), 0)"
            for name in names
        ]
        ((rows, *totals),) = self._query(f"SELECT {', '.join(['count(*)', *sums])} FROM {side.rows}")
        return rows, dict(zip(names, map(_to_decimal, totals)))

    def _count_changed_values(self) -> dict[str, int]:
        """Return by column in how many rows with the key on both sides the value changed."""
        counts = [f"count(*) FILTER ({_differs_sql(name)})" for name in self._values]
        ((_, *found),) = self._query(f"SELECT {', '.join(['count(*)', *counts])} FROM {_DIFFERING} WHERE {_CHANGE} = 'changed'")
        return dict(zip(self._values, found))

    def _list_largest(self, name: str) -> list[ValueChange]:
        """Return the rows with the largest differences of a numeric column; NULL counts as 0."""
        if not _NUMERIC.fullmatch(self._compared[name]) or self._is_hidden(name):
            return []
        before, after = _side_column("before", name), _side_column("after", name)
        size = f"abs(coalesce(CAST({after} AS DOUBLE), 0) - coalesce(CAST({before} AS DOUBLE), 0))"
        found = self._query(
            f"SELECT {_texts_sql([before, after, *map(quote, self._key)])} FROM {_DIFFERING} WHERE {_CHANGE} = 'changed' "
            f"AND {_differs_sql(name)} ORDER BY {size} DESC, {_list_sql(self._key)} LIMIT {_LARGEST_DIFFERENCES}"
        )
        return [ValueChange(key=self._show(self._key, key), before=before, after=after) for before, after, *key in found]

    def _list_samples(self, number: int) -> list[RowSample]:
        """Return the first rows of each kind of change in the order of the key."""
        columns = [_side_column(side, name) for side in ("before", "after") for name in self._values]
        selected = _texts_sql([_CHANGE, *map(quote, self._key), *columns])
        order = _list_sql(self._key or self._compared)
        return [
            self._build_sample(*row)
            for change in ("changed", "added", "removed")
            for row in self._query(
                f"SELECT {selected} FROM {_DIFFERING} WHERE {_CHANGE} = '{change}' ORDER BY {order} LIMIT {number}"
            )
        ]

    def _build_sample(self, change: Any, *texts: Optional[str]) -> RowSample:
        keys, values = len(self._key), len(self._values)
        before, after = texts[keys : keys + values], texts[keys + values :]
        shown = [place for place in range(values) if change != "changed" or before[place] != after[place]]
        names = [self._values[place] for place in shown]
        return RowSample(
            change=change,
            key=self._show(self._key, texts[:keys]),
            before={} if change == "added" else self._show(names, [before[place] for place in shown]),
            after={} if change == "removed" else self._show(names, [after[place] for place in shown]),
        )

    def _show(self, names: Sequence[str], texts: Sequence[Optional[str]]) -> Values:
        """Return values as they may be shown: a pseudonym shortened, and a value that may be personal not at all."""
        return {name: text if text is None or not self._is_hidden(name) else _shorten(text) for name, text in zip(names, texts)}

    def _is_hidden(self, name: str) -> bool:
        """Return whether the values of a column may be personal."""
        item = next((each for each in self._contract.properties if each.name == name), None)
        if item is None:
            # The contract of another version may have classified the column.
            return not _NUMERIC.fullmatch(self._after.types.get(name) or self._before.types[name])
        return item.classification in ("pseudonym", "restricted")

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._database.execute(sql).fetchall()


def _list_sql(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))


def _texts_sql(columns: Iterable[str]) -> str:
    return ", ".join(f"CAST({column} AS VARCHAR)" for column in columns)


def _side_column(side: str, name: str) -> str:
    """Return the column of the differing rows with a side's value."""
    return quote(f"{side} {name}")


def _differs_sql(name: str) -> str:
    return f"{_side_column('before', name)} IS DISTINCT FROM {_side_column('after', name)}"


def _shorten(text: str) -> str:
    found = _PSEUDONYM.fullmatch(text)
    return f"{found[1]}{HIDDEN}" if found else HIDDEN


def _to_decimal(total: Union[int, float, Decimal]) -> Optional[Decimal]:
    """Return a total; None if it is infinite or not a number."""
    exact = Decimal(str(total))
    return exact if exact.is_finite() else None
