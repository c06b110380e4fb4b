"""Set the Delta properties of tables and the permissions of their folders, which keep personal data out of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import find_column, matching_columns

RESTRICTED_LAYERS = ("bronze", "quarantine")
"""Layers with raw personal data."""
PSEUDONYMS_PROPERTY = "daybook.pseudonyms"
"""Property with the names of a table's pseudonym columns. An erasure finds them even if the contract changes."""
RUN_DATE_COLUMN = "run_date"
"""Column of all tables except silver and gold: the business date whose run wrote the rows."""
DATE_COLUMN_PROPERTY = "daybook.dateColumn"
"""Property with the column whose dates select the files of a table. Tables of earlier releases have partitions instead."""
_STATISTICS_LAYER = "silver"
"""Layer whose files are selected by the values of all columns."""


def pseudonym_columns() -> frozenset[str]:
    """Return the names of all columns that a contract classifies as pseudonyms."""
    return frozenset(name for layer in LAYERS for table in load_tables(layer).values() for name in table.pseudonyms)


def find_date_column(table: str, schema: pa.Schema) -> Optional[str]:
    """Return the column with the date that a new table's rows belong to; None for a table that is written as a whole."""
    layer = table.split(".")[0]
    contract = load_tables(layer).get(table) if layer in LAYERS else None
    column = RUN_DATE_COLUMN if layer not in LAYERS else contract.date_column if contract else None
    return find_column(schema.names, column) if column else None


def table_configuration(table: str, schema: pa.Schema, *, partitioned: bool = False) -> dict[str, str]:
    """Return the Delta properties of a table; with ``partitioned`` of one that an earlier release partitioned by date.

    - Personal data: no minimum and maximum values in the log, which outlives the rows. Tables with raw values are marked as
      restricted, for access rights by table.
    - No clean-up of the log by writers (delta-rs: after 30 days), which would remove recorded versions
      (``daybook.lake.vacuum``).
    - A checkpoint every ten commits, Delta's default (delta-rs: a hundred), because each stage opens its tables again.
    - Statistics of all columns in silver only, elsewhere of the date. In a log they are most of the cost of opening and
      changing a table; the footers of files have them anyway.
    """
    layer = table.split(".")[0]
    found = {"delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "10"}
    if layer in RESTRICTED_LAYERS:
        found["daybook.restricted"] = "true"
    pseudonyms = sorted(matching_columns(schema.names, pseudonym_columns()))
    if pseudonyms:
        found[PSEUDONYMS_PROPERTY] = ",".join(pseudonyms)
    plain = [name for name in schema.names if name not in pseudonyms]
    dated = None if partitioned else find_date_column(table, schema)
    if dated:
        found.update({DATE_COLUMN_PROPERTY: dated, "delta.dataSkippingStatsColumns": dated})
    elif layer != _STATISTICS_LAYER or not plain:
        found["delta.dataSkippingNumIndexedCols"] = "0"
    elif pseudonyms:
        found["delta.dataSkippingStatsColumns"] = ",".join(plain)
    return found


def set_missing_properties(delta: DeltaTable, properties: dict[str, str], commit: Optional[CommitProperties] = None) -> None:
    """Set the properties that a table lacks, in a commit of their own."""
    missing = find_missing_properties(delta, properties)
    if missing:
        delta.alter.set_table_properties(missing, raise_if_not_exists=False, commit_properties=commit)


def find_missing_properties(delta: DeltaTable, properties: dict[str, str]) -> dict[str, str]:
    has = delta.metadata().configuration
    return {name: value for name, value in properties.items() if has.get(name) != value}


def current_configuration(delta: DeltaTable, table: str) -> dict[str, str]:
    """Return the properties that a table must have with its current columns."""
    schema = pa.schema(delta.schema().to_arrow())
    return table_configuration(table, schema, partitioned=bool(delta.metadata().partition_columns))


def restrict_folder(uri: str, table: str) -> None:
    """Make the folder of a layer with raw values accessible to its owner only. Does nothing for a bucket."""
    if table.split(".")[0] in RESTRICTED_LAYERS and "://" not in uri:
        folder = Path(uri).parent
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
