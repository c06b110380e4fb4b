"""The newest row of each key, without sorting the rows of keys that stand once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from sqlglot import exp

_PARTS = {"expressions", "from", "from_", "where", "qualify", "kind"}


@dataclass(frozen=True)
class Newest:
    """A query for the newest row of each key of one table. ``repeated`` is SQL for the keys of more than one row."""

    table: str
    repeated: str
    _select: exp.Select
    _keys: tuple[str, ...]

    def rows(self, repeated: str) -> str:
        """SQL for the rows of the query, in any order, where the repeated keys are in this table; empty: no key is repeated."""
        once = self._select.copy()
        once.set("qualify", None)
        if not repeated:
            return once.sql(dialect="duckdb")
        alias = next(self._select.find_all(exp.Table)).alias_or_name
        same = " AND ".join(f'_repeated."{name}" IS NOT DISTINCT FROM "{alias}"."{name}"' for name in self._keys)
        among = f"EXISTS (SELECT 1 FROM {repeated} AS _repeated WHERE {same})"
        once = once.where(f"NOT {among}", dialect="duckdb")
        others = self._select.where(among, dialect="duckdb")
        return f"{once.sql(dialect='duckdb')} UNION ALL {others.sql(dialect='duckdb')}"


def newest_of_each(statement: exp.Expression) -> Optional[Newest]:
    """What a query of that kind is about; None for every other query."""
    if not isinstance(statement, exp.Select) or {name for name, part in statement.args.items() if part} - _PARTS:
        return None
    tables, windows = list(statement.find_all(exp.Table)), list(statement.find_all(exp.Window))
    qualify = statement.args.get("qualify")
    if qualify is None or len(tables) != 1 or len(windows) != 1 or statement.find(exp.AggFunc, exp.Subquery) is not None:
        return None
    test, window = qualify.this, windows[0]
    first = isinstance(test, exp.EQ) and test.this is window and test.expression == exp.Literal.number(1)
    keys = window.args.get("partition_by") or []
    if not first or not isinstance(window.this, exp.RowNumber) or not all(isinstance(each, exp.Column) for each in keys):
        return None
    # A name that the query gives to something else would be read as that.
    given = {each.alias for each in statement.expressions if isinstance(each, exp.Alias)}
    names = tuple(each.name for each in keys)
    if not names or given & {name.lower() for name in names} or given & set(names):
        return None
    table = tables[0]
    where = statement.args.get("where")
    listed = ", ".join(f'"{name}"' for name in names)
    repeated = f"SELECT {listed} FROM {table.sql(dialect='duckdb')}"
    repeated += f" {where.sql(dialect='duckdb')}" if where is not None else ""
    repeated += f" GROUP BY {listed} HAVING count(*) > 1"
    full = f"{table.db}.{table.name}" if table.db else table.name
    return Newest(full, repeated, statement, names)
