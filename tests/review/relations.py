"""Build contracts and relations for tests of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb

from daybook.contracts import Table

LOGICAL_TYPES = {"VARCHAR": "string", "DATE": "date", "BOOLEAN": "boolean", "BIGINT": "integer", "TIMESTAMPTZ": "timestamp"}


def build_contract(columns: dict[str, str], key: Sequence[str], **classes: str) -> Table:
    """Return the contract of ``gold.sales`` with these SQL types by column; ``classes`` are classifications by column."""
    properties = [
        {
            "name": name,
            "logicalType": LOGICAL_TYPES.get(kind, "number"),
            "physicalType": kind,
            "primaryKey": name in key,
            "primaryKeyPosition": key.index(name) + 1 if name in key else -1,
            "classification": classes.get(name),
        }
        for name, kind in columns.items()
    ]
    return Table.model_validate({"name": "sales", "properties": properties}).model_copy(update={"layer": "gold"})


def create_table(database: duckdb.DuckDBPyConnection, name: str, columns: dict[str, str], rows: Iterable[Sequence[Any]]) -> str:
    """Create a table with these SQL types by column, and return its name."""
    database.execute(f"CREATE OR REPLACE TABLE {name} ({', '.join(f'{each} {kind}' for each, kind in columns.items())})")
    for row in rows:
        database.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row))
    return name
