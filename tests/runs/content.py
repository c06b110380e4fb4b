"""What tables hold, as one digest each: equal digests, equal rows, whatever files and versions they lie in."""

from __future__ import annotations

import hashlib

from daybook.engines import DuckDBEngine


def hash_tables(engine: DuckDBEngine) -> dict[str, str]:
    """SHA-256 of every silver and gold table's columns, types and rows, by table; the order of rows is of no account."""
    tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold."))]
    return {name: _hash_table(engine, name) for name in tables}


def _hash_table(engine: DuckDBEngine, table: str) -> str:
    relation = engine.query(f"SELECT * FROM {table}")
    digest = hashlib.sha256(repr(list(zip(relation.columns, map(str, relation.types)))).encode())
    for row in sorted(repr(row) for row in relation.fetchall()):
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()
