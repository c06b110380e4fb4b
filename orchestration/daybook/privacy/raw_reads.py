"""Reading raw values on purpose: who read which tables, when and why is in the archive before the values are handed out."""

from __future__ import annotations

import getpass
import json
import re
import secrets

from daybook.engines import DuckDBEngine, Query
from daybook.errors import UsageError
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, Record, current_timestamp, serialize_record

RAW_READS = "raw_reads"
"""The key of a stage's details that lists its records, and the folder of all records in the archive."""


def read_raw_values(engine: DuckDBEngine, archive: Archive, query: str, reason: str, facts: Record) -> tuple[Query, Record]:
    """Return the result of a query on tables as they are, and the record of this in the archive.

    ``query`` is a SELECT or the name of a table. The record has ``facts``, the tables and the result's columns, no values.
    Raises ``UsageError`` where no reason is given.
    """
    if not reason.strip():
        raise UsageError("Raw values need a reason; give the purpose, without the name of a person.")
    sql = f"SELECT * FROM {query}" if re.fullmatch(r"[\w.]+", query.strip()) else query
    found = engine.query(sql)
    record: Record = {
        "record": "raw_read",
        **facts,
        "at": current_timestamp(),
        "by": getpass.getuser(),
        "reason": Redactor().text(reason.strip()),
        "tables": engine.referenced_tables(sql),
        "columns": list(found.columns),
    }
    folder = f"{RAW_READS}/{facts.get('run_id') or 'no_run'}"
    archive.store.create(f"{folder}/{record['at'].replace(':', '-')}-{secrets.token_hex(4)}.json", serialize_record(record))
    return found, record


def list_raw_tables_read(archive: Archive, run_id: str, stage: str) -> set[str]:
    """Return the tables that a stage of a run has read raw values of."""
    records = (json.loads(archive.store.read(key)) for key in archive.store.keys(f"{RAW_READS}/{run_id}"))
    return {table for record in records if record["stage"] == stage for table in record["tables"]}
