"""What stands in place of an erased person's values.

Rows stay, so that counts and sums stay. An id becomes a mark that is the same wherever the id stood on that date, so that an
order still finds its customer when the date is run again; it is made with a salt that is thrown away, and has no pseudonym.
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
_PLACE_COLUMN = "city"
"""The canonical column that, without being personal, is too near to a person to stay in rows that were one's."""


@dataclass(frozen=True)
class RowMasker:
    """How the rows of one entity are blanked: its personal columns by class, and those that its place is made of. Columns are
    given by their keys (``daybook.contracts.columns``)."""

    personal: Mapping[str, str]
    place: Collection[str]
    required: Collection[str]
    salt: str

    def mask_rows(self, rows: pa.Table, chosen: list[bool], day: date) -> pa.Table:
        """The rows, the chosen ones without what is personal; columns that the table lacks are passed over."""
        for name in rows.column_names:
            kind = self.personal.get(column_key(name))
            if kind is None and column_key(name) not in self.place and name != "_raw":
                continue
            position = rows.schema.get_field_index(name)
            field = rows.schema.field(position)
            values = [
                self._mask_value(value, kind, name, day, text=is_text(field.type)) if hit else value
                for value, hit in zip(rows.column(position).to_pylist(), chosen)
            ]
            rows = rows.set_column(position, field, pa.array(values, field.type))
        return rows

    def _mask_value(self, value: Any, kind: Optional[str], name: str, day: date, *, text: bool) -> Any:
        if not value or not text:
            return value if text else None
        if str(value).startswith(ERASED_PREFIX):
            return value
        if kind == "id":
            return self.mark(value, day)
        # No value, rather than one that would break a rule on what an e-mail looks like.
        return ERASED_MARK if column_key(name) in self.required or name == "_raw" else ""

    def repairs(self, text: str, day: date) -> str:
        """What a person has put right in such a row (JSON, by column), without what is personal."""
        repairs = json.loads(text)
        for name, value in repairs.items():
            key = column_key(name)
            if key in self.personal or key in self.place:
                repairs[name] = self._mask_value(value, self.personal.get(key), name, day, text=True)
        return json.dumps(repairs, ensure_ascii=False, sort_keys=True)

    def mark(self, value: str, day: date) -> str:
        """What an id becomes on a date."""
        digest = hashlib.sha256(f"{self.salt}\n{day.isoformat()}\n{value.strip()}".encode()).hexdigest()
        return f"{ERASED_PREFIX}:{digest[:12]}]"


def build_masker(source: Source, entity: str, salt: str) -> RowMasker:
    """How the rows of an entity are blanked."""
    columns = source.entities[entity].columns
    personal = {column_key(name): spec.pii for name, spec in columns.items() if spec.pii}
    required = {column_key(name) for name in source.contracts[entity].required}
    return RowMasker(personal, _find_place_columns(source, entity), required, salt)


def remove_person(name: str, rows: pa.Table, gone: Collection[str]) -> Optional[tuple[pa.Table, int]]:
    """Rows of a table of the model without those pseudonyms, and in how many rows they stood; None where in none.

    A row that is about the person (the pseudonym is in its key, or its table has no contract) goes; another loses the
    pseudonym and the place.
    """
    held = sorted(matching_columns(rows.column_names, pseudonym_columns()))
    hits = [any(value in gone for value in values) for values in zip(*(rows.column(each).to_pylist() for each in held))]
    count = sum(hits)
    if not count:
        return None
    contract = next((table for layer in LAYERS for table in load_tables(layer).values() if table.name == name), None)
    if contract is None or matching_columns(held, contract.required):
        return rows.filter(pa.array([not hit for hit in hits])), count
    for each in [*held, *matching_columns(rows.column_names, [_PLACE_COLUMN])]:
        position = rows.schema.get_field_index(each)
        field = rows.schema.field(position)
        values = [None if hit else value for value, hit in zip(rows.column(position).to_pylist(), hits)]
        rows = rows.set_column(position, field, pa.array(values, field.type))
    return rows, count


def _find_place_columns(source: Source, entity: str) -> set[str]:
    """The keys of the entity's columns that a mapping makes the place of an order or a customer of."""
    found = set()
    for table, selects in source.mapping.items():
        contract = load_tables("silver").get(f"silver.{table}")
        if contract is None or not contract.pseudonyms:
            continue
        for select in selects:
            place = select.expression(_PLACE_COLUMN)
            if place is not None:
                for column in sqlglot.parse_one(place, read="duckdb").find_all(exp.Column):
                    if (column.table or select.from_).lower() == entity.lower():
                        found.add(column_key(column.name))
    return found


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
