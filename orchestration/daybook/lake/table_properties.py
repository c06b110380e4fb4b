"""The properties of a table in Delta, and the rights to its folder: what is personal stays out of logs and out of sight."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import matching_columns

RESTRICTED_LAYERS = ("bronze", "quarantine")
"""The layers with raw values of persons."""
PSEUDONYMS_PROPERTY = "daybook.pseudonyms"
"""The property that names a table's columns of pseudonyms: an erasure has to find them, whatever the contract says later."""
_STATISTICS_LAYER = "silver"
"""The layer whose files are found by the values in them: other tables are divided by date, or written whole."""


def pseudonym_columns() -> frozenset[str]:
    """Names of columns that hold pseudonyms, in whatever table: those that a contract classifies so."""
    return frozenset(name for layer in LAYERS for table in load_tables(layer).values() for name in table.pseudonyms)


def table_configuration(table: str, schema: pa.Schema) -> dict[str, str]:
    """The Delta properties of a table: what is personal leaves no smallest and largest value in the log, which outlives it.

    Tables of raw values say that they are restricted, for whoever hands out rights by table. No log is cleaned by whoever
    happens to write (delta-rs does so after 30 days): versions that runs have on record would go (``daybook.lake.vacuum``).
    A checkpoint every ten commits, as Delta has it, for each stage opens its tables anew (delta-rs waits for a hundred).
    A file's smallest and largest values stand in its footer anyway; in the log, where they are five sixths of what opening
    and changing a table of a thousand dates costs, only silver has a use for them.
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
    """Give a table the properties that it lacks; a commit of its own, where there are any."""
    lacking = find_missing_properties(delta, properties)
    if lacking:
        delta.alter.set_table_properties(lacking, raise_if_not_exists=False, commit_properties=commit)


def find_missing_properties(delta: DeltaTable, properties: dict[str, str]) -> dict[str, str]:
    has = delta.metadata().configuration
    return {name: value for name, value in properties.items() if has.get(name) != value}


def current_configuration(delta: DeltaTable, table: str) -> dict[str, str]:
    """The properties of a table with the columns that it has now."""
    return table_configuration(table, pa.schema(delta.schema().to_arrow()))


def restrict_folder(uri: str, table: str) -> None:
    """On a laptop, let only the owner into the folder of a layer with raw values; a bucket's policy is its owner's."""
    if table.split(".")[0] in RESTRICTED_LAYERS and "://" not in uri:
        folder = Path(uri).parent
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
