"""Compare stored tables with their contracts and with new rows; rename and unify columns."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import or_
from typing import Any, Optional, TypeVar, cast

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Field, Schema, WriterProperties, write_deltalake
from deltalake.schema import PrimitiveType

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import column_key, matching_columns, normalize_column_name
from daybook.lake.delta import column_expression, open_dataset, stored_columns
from daybook.lake.layout import find_stored_date_column
from daybook.lake.table_properties import PSEUDONYMS_PROPERTY

Rows = TypeVar("Rows", pa.Table, pa.RecordBatchReader)
BATCH_WRITER_PROPERTIES = WriterProperties(max_row_group_size=1 << 15, compression="SNAPPY")
"""Properties of files with many rows. A row group is in memory until it is written."""


def find_missing_columns(delta: DeltaTable, schema: pa.Schema) -> list[Field]:
    """Return the columns that a table lacks, as nullable fields."""
    has = {column_key(each.name) for each in delta.schema().fields}
    return [
        Field(normalize_column_name(each.name), each.type, nullable=True)
        for each in Schema.from_arrow(schema).fields
        if column_key(each.name) not in has
    ]


def stored_names(delta: DeltaTable, names: list[str]) -> list[str]:
    """Return the names under which the table stores columns, or would store new ones."""
    has = {column_key(each.name): each.name for each in delta.schema().fields}
    return [has.get(column_key(name), normalize_column_name(name)) for name in names]


def rename_to_stored(rows: Rows, delta: DeltaTable) -> Rows:
    """Return the rows with the table's names for their columns, so that no column is stored twice."""
    names = stored_names(delta, rows.schema.names)
    if names == rows.schema.names:
        return rows
    if isinstance(rows, pa.Table):
        return cast(Rows, rows.rename_columns(names))
    schema = pa.schema([field.with_name(name) for field, name in zip(rows.schema, names)])
    return cast(Rows, pa.RecordBatchReader.from_batches(schema, (batch.rename_columns(names) for batch in rows)))


def has_column_spellings(delta: DeltaTable) -> bool:
    """Return whether the table stores a column under several names, or under a name that is not normalized."""
    names = [each.name for each in delta.schema().fields]
    return len({column_key(name) for name in names}) < len(names) or any(normalize_column_name(name) != name for name in names)


def unify_columns(delta: DeltaTable, table: str, commit: CommitProperties) -> None:
    """Combine columns that are stored under several names into one with the newest name. Earlier versions stay as they are.

    Every row is written again in one commit, which fails if another writer was first.
    """
    if not has_column_spellings(delta):
        return
    rows = open_dataset(delta)
    columns = {normalize_column_name(names[0]): names for names in stored_columns(rows.schema).values()}
    _warn_of_conflicting_values(rows, table, columns)
    reader = rows.scanner(
        columns={name: column_expression(rows.schema, name) for name in columns}, batch_readahead=2, fragment_readahead=1
    ).to_reader()
    write_deltalake(
        delta,
        reader,
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=list(delta.metadata().partition_columns) or None,
        writer_properties=BATCH_WRITER_PROPERTIES,
        # deltalake's own retries would write rows that were read before another writer's commit.
        commit_properties=CommitProperties(custom_metadata=commit.custom_metadata, max_commit_retries=0),
    )


def _warn_of_conflicting_values(rows: ds.Dataset, table: str, columns: dict[str, list[str]]) -> None:
    """Warn if rows have different values under two names of a column: only the value of the newest name is kept."""
    for name, (newest, *others) in columns.items():
        differing = [(ds.field(newest) != ds.field(other)) for other in others]  # null where either is null
        count = rows.scanner(columns=[newest], filter=reduce(or_, differing)).count_rows() if differing else 0
        if count:
            warnings.warn(
                f"{table} has {count:,} rows with different values in {', '.join(map(repr, [newest, *others]))}: "
                f"{name!r} keeps those of {newest!r}, the others are in earlier versions only.",
                stacklevel=2,
            )


def find_incompatibility(delta: DeltaTable, contract: Table) -> Optional[str]:
    """Return why stored rows do not fit the contract, and what to do; None if they fit.

    They do not fit if a column has another type, a required column (or a column of the key) is new, the column of the
    business date differs, or a removed column has pseudonyms, which an erasure would no longer find.
    """
    stored = {column_key(each.name): each.type for each in delta.schema().fields}
    dated = find_stored_date_column(delta)
    if column_key(dated or "") != column_key(contract.date_column or ""):
        return f"its business date is {dated or 'nothing'} and not {contract.date_column or 'nothing'}; restore that"
    for each in Schema.from_arrow(contract.arrow_schema).fields:
        key = column_key(each.name)
        if key in stored and stored[key] != each.type:
            kind, wanted = _type_name(stored[key]), contract.type_of(each.name)
            return f"column {each.name!r} is stored as {kind}, not {wanted}; give the column of another type another name"
        if key not in stored and each.name in contract.required and delta.file_uris():
            return (
                f"column {each.name!r} is required and new, so stored rows lack it; make it nullable (and no key) until all "
                "dates have run again"
            )
    pseudonyms = delta.metadata().configuration.get(PSEUDONYMS_PROPERTY, "").split(",")
    lost = stored.keys() - {column_key(name) for name in contract.columns}
    hidden = sorted(matching_columns(pseudonyms, lost))
    if hidden:
        return f"column {hidden[0]!r} has pseudonyms, which an erasure would no longer find; restore it, it may stay empty"
    return None


def _type_name(kind: Any) -> str:
    return str(kind.type) if isinstance(kind, PrimitiveType) else str(kind)


def find_contract(table: str) -> Optional[Table]:
    """Return the contract of a table, or of the table that a candidate becomes; None without one."""
    layer, _, name = table.partition(".")
    layer = "gold" if layer == "candidate" else layer
    return load_tables(layer).get(f"{layer}.{name}") if layer in LAYERS else None
