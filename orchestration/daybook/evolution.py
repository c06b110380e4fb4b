"""How a stored table and its contract differ once the contract has changed, and whether the table can follow.

Here: which columns a table lacks, and why stored rows cannot become the contract's. Not here: bringing tables in line, and what
readers then see (``daybook.lake``), what a contract may say (``daybook.contracts``).
"""

from __future__ import annotations

from typing import Any, Optional

import pyarrow as pa
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from daybook.contracts import LAYERS, Table, load_tables
from daybook.properties import PSEUDONYMS


def lacking_columns(delta: DeltaTable, schema: pa.Schema) -> list[Field]:
    """The columns that a table has not; rows that are stored have no value for them."""
    has = {each.name for each in delta.schema().fields}
    return [Field(each.name, each.type, nullable=True) for each in Schema.from_arrow(schema).fields if each.name not in has]


def misfit(delta: DeltaTable, contract: Table) -> Optional[str]:
    """Why stored rows cannot become the contract's, with what to do about it; None where they can."""
    stored = {each.name: each.type for each in delta.schema().fields}
    by = list(delta.metadata().partition_columns)
    if by != contract.partition_by:
        return f"it is divided by {by or 'nothing'} and not by {contract.partition_by or 'nothing'}; put that back"
    for each in Schema.from_arrow(contract.arrow_schema).fields:
        if each.name in stored and stored[each.name] != each.type:
            kind, wanted = _type_name(stored[each.name]), contract.type_of(each.name)
            return f"column {each.name!r} is stored as {kind}, not {wanted}; give what is of another type a name of its own"
        if each.name not in stored and each.name in contract.required and delta.file_uris():
            return (
                f"column {each.name!r} is required and new, so stored rows lack it; let it be null (and be no key) until all "
                "dates have run again"
            )
    pseudonyms = delta.metadata().configuration.get(PSEUDONYMS, "").split(",")
    hidden = sorted((stored.keys() - set(contract.columns)).intersection(pseudonyms))
    if hidden:
        return f"column {hidden[0]!r} holds pseudonyms, which an erasure would no longer find; put it back, it may stay empty"
    return None


def _type_name(kind: Any) -> str:
    return str(kind.type) if isinstance(kind, PrimitiveType) else str(kind)


def contract_of(table: str) -> Optional[Table]:
    """The contract of a table, and of a candidate that is to become one."""
    layer, _, name = table.partition(".")
    layer = "gold" if layer == "candidate" else layer
    return load_tables(layer).get(f"{layer}.{name}") if layer in LAYERS else None
