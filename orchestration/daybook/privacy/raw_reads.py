"""Read raw values, after a record of who reads which tables, when and why is in the archive."""

from __future__ import annotations

import getpass
import json
import re
import secrets
from typing import Any

from daybook.engines import DuckDBEngine, Query
from daybook.errors import UsageError
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, current_timestamp, serialize_record

RAW_READS = "raw_reads"
"""Key of a stage's details with its records, and folder of all records in the archive."""


def read_raw_values(
    engine: DuckDBEngine, archive: Archive, query: str, reason: str, facts: dict[str, Any]
) -> tuple[Query, dict[str, Any]]:
    """Run a query on tables with raw values, and archive a record of it.

    Parameters
    ----------
    engine
        Engine of the lake with raw values.
    archive
        Where the record is written.
    query
        A SELECT, or the name of a table.
    reason
        Why raw values are needed, without personal data.
    facts
        Entries of the record besides user, time, tables and columns.

    Returns
    -------
    The result and the record, which holds no values.

    Raises
    ------
    UsageError
        If the reason is empty.
    """
    if not reason.strip():
        raise UsageError("Raw values need a reason; give the purpose, without the name of a person.")
    sql = f"SELECT * FROM {query}" if re.fullmatch(r"[\w.]+", query.strip()) else query
    result = engine.query(sql)
    record: dict[str, Any] = {
        "record": "raw_read",
        **facts,
        "at": current_timestamp(),
        "by": getpass.getuser(),
        "reason": Redactor().redact_text(reason.strip()),
        "tables": engine.referenced_tables(sql),
        "columns": list(result.columns),
    }
    folder = f"{RAW_READS}/{facts.get('run_id') or 'no_run'}"
    archive.store.create(f"{folder}/{record['at'].replace(':', '-')}-{secrets.token_hex(4)}.json", serialize_record(record))
    return result, record


def list_raw_tables_read(archive: Archive, run_id: str, stage: str) -> set[str]:
    """Return the bronze and quarantine tables whose raw values a stage of a run has read."""
    records = (json.loads(archive.store.read(key)) for key in archive.store.keys(f"{RAW_READS}/{run_id}"))
    tables = (table for record in records if record["stage"] == stage for table in record["tables"])
    return {table for table in tables if table.startswith(("bronze.", "quarantine."))}
