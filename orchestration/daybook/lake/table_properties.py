"""Set the Delta properties of tables and the permissions of their folders, which keep personal data out of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import matching_columns

RESTRICTED_LAYERS = ("bronze", "quarantine")
"""Layers with raw personal data."""
PSEUDONYMS_PROPERTY = "daybook.pseudonyms"
"""Property with the names of a table's pseudonym columns. An erasure finds them even if the contract changes."""
_STATISTICS_LAYER = "silver"
"""Layer whose files are selected by their values. Other tables are partitioned by date or written as a whole."""


def pseudonym_columns() -> frozenset[str]:
    """Return the names of all columns that a contract classifies as pseudonyms."""
    return frozenset(name for layer in LAYERS for table in load_tables(layer).values() for name in table.pseudonyms)


def table_configuration(table: str, schema: pa.Schema) -> dict[str, str]:
    """Return the Delta properties of a table.

    - Personal data: no minimum and maximum values in the log, which outlives the rows. Tables with raw values are marked as
      restricted, for access rights by table.
    - No clean-up of the log by writers (delta-rs: after 30 days), which would remove recorded versions
      (``daybook.lake.vacuum``).
    - A checkpoint every ten commits, Delta's default (delta-rs: a hundred), because each stage opens its tables again.
    - Statistics in silver only. In the log of a table with a thousand dates they are five sixths of the cost of opening and
      changing it; the footers of files have them anyway.
    """
    layer = table.split(".")[0]
    found = {"delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "10"}
    if layer in RESTRICTED_LAYERS:
        found["daybook.restricted"] = "true"
    pseudonyms = sorted(matching_columns(schema.names, pseudonym_columns()))
    if pseudonyms:
        found[PSEUDONYMS_PROPERTY] = ",".join(pseudonyms)
    plain = [name for name in schema.names if name not in pseudonyms]
    if layer != _STATISTICS_LAYER or not plain:
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
    return table_configuration(table, pa.schema(delta.schema().to_arrow()))


def restrict_folder(uri: str, table: str) -> None:
    """Make the folder of a layer with raw values accessible to its owner only. Does nothing for a bucket."""
    if table.split(".")[0] in RESTRICTED_LAYERS and "://" not in uri:
        folder = Path(uri).parent
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
