"""Mask an erased person's values in rows.

Rows are kept, so that counts and sums do not change. All occurrences of an id on a date get the same mark, so that orders
still join customers when the date runs again. The mark depends on a random salt that is not kept, and has no pseudonym.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Optional

import pyarrow as pa
import sqlglot
from sqlglot import exp

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import column_key, matching_columns
from daybook.lake.table_properties import pseudonym_columns
from daybook.privacy import ERASED_PREFIX
from daybook.sources import Source

ERASED_MARK = f"{ERASED_PREFIX}]"


@dataclass(frozen=True)
class RowMasker:
    """Mask the rows of one entity. Columns are given by their keys (``daybook.contracts.columns``).

    ``personal`` maps personal columns to their class. ``place_columns`` are the columns of the person's place.
    """

    personal: Mapping[str, str]
    place_columns: Collection[str]
    required: Collection[str]
    salt: str

    def mask_rows(self, rows: pa.Table, chosen: list[bool], day: date) -> pa.Table:
        """Return the rows with the personal values of the chosen ones masked."""
        for name in rows.column_names:
            kind = self.personal.get(column_key(name))
            if kind is None and column_key(name) not in self.place_columns and name != "_raw":
                continue
            text = is_text(rows.schema.field(name).type)
            pairs = zip(rows.column(name).to_pylist(), chosen)
            values = [self._mask_value(value, kind, name, day, text=text) if hit else value for value, hit in pairs]
            rows = replace_column(rows, name, values)
        return rows

    def _mask_value(self, value: Any, kind: Optional[str], name: str, day: date, *, text: bool) -> Any:
        if not value or not text:
            return value if text else None
        if str(value).startswith(ERASED_PREFIX):
            return value
        if kind == "id":
            return self.mask_id(value, day)
        # An empty value breaks no rule on the form of an e-mail address.
        return ERASED_MARK if column_key(name) in self.required or name == "_raw" else ""

    def mask_repairs(self, text: str, day: date) -> str:
        """Return the repairs of a row (JSON, by column) with personal values masked."""
        repairs = json.loads(text)
        for name, value in repairs.items():
            key = column_key(name)
            if key in self.personal or key in self.place_columns:
                repairs[name] = self._mask_value(value, self.personal.get(key), name, day, text=True)
        return json.dumps(repairs, ensure_ascii=False, sort_keys=True)

    def mask_id(self, value: str, day: date) -> str:
        """Return the mark of an id on a date."""
        digest = hashlib.sha256(f"{self.salt}\n{day.isoformat()}\n{value.strip()}".encode()).hexdigest()
        return f"{ERASED_PREFIX}:{digest[:12]}]"


def build_masker(source: Source, entity: str, salt: str) -> RowMasker:
    """Return the masker of an entity's rows."""
    columns = source.entities[entity].columns
    personal = {column_key(name): spec.pii for name, spec in columns.items() if spec.pii}
    required = {column_key(name) for name in source.contracts[entity].required}
    return RowMasker(personal, _find_place_columns(source, entity), required, salt)


def remove_person(name: str, rows: pa.Table, pseudonyms: Collection[str]) -> Optional[tuple[pa.Table, int]]:
    """Remove pseudonyms from rows of a silver or gold table; return the rows and the number of rows with them, else None.

    A row about the person (the pseudonym is required, or the table has no contract) is deleted. Another row loses the pseudonym
    and the place.
    """
    held = sorted(matching_columns(rows.column_names, pseudonym_columns()))
    hits = [any(value in pseudonyms for value in values) for values in zip(*(rows.column(each).to_pylist() for each in held))]
    count = sum(hits)
    if not count:
        return None
    contract = next((table for layer in LAYERS for table in load_tables(layer).values() if table.name == name), None)
    if contract is None or matching_columns(held, contract.required):
        return rows.filter(pa.array([not hit for hit in hits])), count
    for each in [*held, *matching_columns(rows.column_names, _masked_columns())]:
        rows = replace_column(rows, each, [None if hit else value for value, hit in zip(rows.column(each).to_pylist(), hits)])
    return rows, count


def _masked_columns() -> set[str]:
    """Return the columns of silver that are not personal, but identify a person too closely to stay after an erasure."""
    return {name for table in load_tables("silver").values() for name in table.columns_with("maskOnErasure")}


def _find_place_columns(source: Source, entity: str) -> set[str]:
    """Return the keys of the entity's columns that a mapping reads for columns with ``maskOnErasure``."""
    found = set()
    for table, selects in source.mapping.items():
        contract = load_tables("silver").get(f"silver.{table}")
        if contract is None or not contract.pseudonyms:
            continue
        for select in selects:
            for place in filter(None, map(select.expression, _masked_columns())):
                for column in sqlglot.parse_one(place, read="duckdb").find_all(exp.Column):
                    if (column.table or select.from_).lower() == entity.lower():
                        found.add(column_key(column.name))
    return found


def replace_column(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """Return the rows with other values in a column, of the same type."""
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
