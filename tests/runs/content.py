"""Hash the content of tables, independent of their files and versions."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

from daybook.engines import DuckDBEngine


def hash_tables(engine: DuckDBEngine) -> dict[str, str]:
    """Return the SHA-256 of the columns, types and sorted rows of each silver and gold table."""
    tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold."))]
    return {name: _hash_table(engine, name) for name in tables}


def _hash_table(engine: DuckDBEngine, table: str) -> str:
    relation = engine.query(f"SELECT * FROM {table}")
    digest = hashlib.sha256(repr(list(zip(relation.columns, map(str, relation.types)))).encode())
    for row in sorted(repr(tuple(map(_in_utc, row))) for row in relation.fetchall()):
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def _in_utc(value: Any) -> Any:
    """Return an instant in UTC, since releases of DuckDB have different classes of time zones."""
    return value.astimezone(timezone.utc) if isinstance(value, datetime) and value.tzinfo else value
