"""Hash the rows of tables, independent of files and versions."""

from __future__ import annotations

import hashlib

from daybook.engines import DuckDBEngine


def hash_tables(engine: DuckDBEngine) -> dict[str, str]:
    """Return the SHA-256 of columns, types and rows of every silver and gold table, independent of the order of rows."""
    tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold."))]
    return {name: _hash_table(engine, name) for name in tables}


def _hash_table(engine: DuckDBEngine, table: str) -> str:
    relation = engine.query(f"SELECT * FROM {table}")
    digest = hashlib.sha256(repr(list(zip(relation.columns, map(str, relation.types)))).encode())
    for row in sorted(repr(row) for row in relation.fetchall()):
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()
