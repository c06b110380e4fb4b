"""How a stored table differs from its contract or from rows that are written to it, and whether it can follow."""

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
from daybook.lake.table_properties import PSEUDONYMS_PROPERTY

Rows = TypeVar("Rows", pa.Table, pa.RecordBatchReader)
BATCH_WRITER_PROPERTIES = WriterProperties(max_row_group_size=1 << 15, compression="SNAPPY")
"""How files of many rows are written: a group of rows is in memory before it is in the file."""


def find_missing_columns(delta: DeltaTable, schema: pa.Schema) -> list[Field]:
    """The columns that a table has not; rows that are stored have no value for them."""
    has = {column_key(each.name) for each in delta.schema().fields}
    return [
        Field(normalize_column_name(each.name), each.type, nullable=True)
        for each in Schema.from_arrow(schema).fields
        if column_key(each.name) not in has
    ]


def stored_names(delta: DeltaTable, names: list[str]) -> list[str]:
    """Return the names that the table has for columns; those that it lacks are there as they would be stored."""
    has = {column_key(each.name): each.name for each in delta.schema().fields}
    return [has.get(column_key(name), normalize_column_name(name)) for name in names]


def rename_to_stored(rows: Rows, delta: DeltaTable) -> Rows:
    """Return the rows with the names that the table has for their columns, so that no column is stored twice."""
    names = stored_names(delta, rows.schema.names)
    if names == rows.schema.names:
        return rows
    if isinstance(rows, pa.Table):
        return cast(Rows, rows.rename_columns(names))
    schema = pa.schema([field.with_name(name) for field, name in zip(rows.schema, names)])
    return cast(Rows, pa.RecordBatchReader.from_batches(schema, (batch.rename_columns(names) for batch in rows)))


def has_column_spellings(delta: DeltaTable) -> bool:
    """Return whether the table stores a column under several names, or under one that is not in its stored form."""
    names = [each.name for each in delta.schema().fields]
    return len({column_key(name) for name in names}) < len(names) or any(normalize_column_name(name) != name for name in names)


def unify_columns(delta: DeltaTable, table: str, commit: CommitProperties) -> None:
    """Make one column of those that are stored under several names, with the newest name; earlier versions stay as they are.

    One commit, which fails where another writer was first: every row is written again.
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
        # deltalake's own retries would put the rows that were read before the other writer's commit on top of it.
        commit_properties=CommitProperties(custom_metadata=commit.custom_metadata, max_commit_retries=0),
    )


def _warn_of_conflicting_values(rows: ds.Dataset, table: str, columns: dict[str, list[str]]) -> None:
    """Warn where a row has different values under two names of one column: only the newest name's is kept."""
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
    """Why stored rows cannot become the contract's, with what to do about it; None where they can."""
    stored = {column_key(each.name): each.type for each in delta.schema().fields}
    by = list(delta.metadata().partition_columns)
    if [column_key(name) for name in by] != [column_key(name) for name in contract.partition_by]:
        return f"it is divided by {by or 'nothing'} and not by {contract.partition_by or 'nothing'}; put that back"
    for each in Schema.from_arrow(contract.arrow_schema).fields:
        key = column_key(each.name)
        if key in stored and stored[key] != each.type:
            kind, wanted = _type_name(stored[key]), contract.type_of(each.name)
            return f"column {each.name!r} is stored as {kind}, not {wanted}; give what is of another type a name of its own"
        if key not in stored and each.name in contract.required and delta.file_uris():
            return (
                f"column {each.name!r} is required and new, so stored rows lack it; let it be null (and be no key) until all "
                "dates have run again"
            )
    pseudonyms = delta.metadata().configuration.get(PSEUDONYMS_PROPERTY, "").split(",")
    lost = stored.keys() - {column_key(name) for name in contract.columns}
    hidden = sorted(matching_columns(pseudonyms, lost))
    if hidden:
        return f"column {hidden[0]!r} holds pseudonyms, which an erasure would no longer find; put it back, it may stay empty"
    return None


def _type_name(kind: Any) -> str:
    return str(kind.type) if isinstance(kind, PrimitiveType) else str(kind)


def find_contract(table: str) -> Optional[Table]:
    """The contract of a table, and of a candidate that is to become one."""
    layer, _, name = table.partition(".")
    layer = "gold" if layer == "candidate" else layer
    return load_tables(layer).get(f"{layer}.{name}") if layer in LAYERS else None
