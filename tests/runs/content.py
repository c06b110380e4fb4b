"""What tables hold, as one digest a table: two lakes are alike where these are, whatever their files, versions and times."""

from __future__ import annotations

import hashlib

from daybook.contracts import load_tables

from .shop import Home


def digests(home: Home, env: str) -> dict[str, str]:
    """SHA-256 of each published table of silver and gold: columns with their types, and rows in the order of the key."""
    engine = home.engine(env)
    there = set(engine.lake.tables())
    found = {}
    for layer in ("silver", "gold"):
        for name, contract in load_tables(layer).items():
            if name not in there:
                continue
            columns = [(item.name, str(item.arrow_type)) for item in contract.properties]
            listed = ", ".join(column for column, _ in columns)
            # Whatever else there is settles the order of rows that share a key.
            rows = engine.rows(f"SELECT {listed} FROM {name} ORDER BY {', '.join([*contract.key, listed])}")
            found[name] = hashlib.sha256("\n".join(map(repr, [columns, *rows])).encode()).hexdigest()
    return found
