"""Call packages whose interfaces differ between the two sets of packages (docs/architecture.md, Dependencies)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def read_batches(connection: duckdb.DuckDBPyConnection, sql: str, rows: int) -> pa.RecordBatchReader:
    """Run a query while its result is read, in batches of at most ``rows`` rows."""
    relation = connection.sql(sql)
    # DuckDB 1.2 has only the second name, which later releases deprecate.
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(rows)
