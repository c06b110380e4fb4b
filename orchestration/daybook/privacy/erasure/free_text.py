"""Replace a person's values in columns of free text that a user names, such as product names and reviews."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.contracts import load_tables
from daybook.contracts.columns import column_key, matching_columns
from daybook.errors import UsageError
from daybook.lake.delta import open_dataset
from daybook.lake.layout import find_stored_date_column
from daybook.lake.rewrite import StoredTable
from daybook.lake.table_properties import RESTRICTED_LAYERS, pseudonym_columns
from daybook.lake.tables import RUN_DATE_COLUMN
from daybook.privacy.erasure.masking import is_text, replace_column
from daybook.privacy.erasure.terms import contains_any, replace_values
from daybook.sources import Source

FreeTextColumns = dict[StoredTable, list[str]]
"""The columns of free text of each table."""
_INTERNAL_LAYERS = ("control", "candidate")


def find_free_text_columns(names: Iterable[str], tables: Iterable[StoredTable], source: Source) -> FreeTextColumns:
    """Return the columns of each name, ``table.column``, in every layer and development copy that has them.

    Raises ``UsageError`` for a table or column that does not exist, is not text, or is a key.
    """
    tables = [each for each in tables if _has_source_rows(each, source)]
    chosen: FreeTextColumns = {}
    for name in names:
        table_name, _, column = name.rpartition(".")
        named = [each for each in tables if table_name in (each.name, each.full_name)]
        if not named:
            known = sorted({each.name for each in tables})
            close = difflib.get_close_matches(table_name, known, 3) or known
            choices = " or ".join(close)
            raise UsageError(f"--also {name}: the lake has no table {table_name!r}; write table.column, with {choices}.")
        holding = {each: matching_columns(each.columns, [column]) for each in named}
        if not any(holding.values()):
            known = sorted({each for table in named for each in _list_free_text_columns(table, source)})
            raise UsageError(
                f"--also {name}: {table_name} has no column {column!r}; its columns of text are: {', '.join(known)}."
            )
        for table, held in holding.items():
            for each in held:
                _require_free_text(name, table, each, source)
                chosen.setdefault(table, []).append(each)
    return chosen


def _has_source_rows(table: StoredTable, source: Source) -> bool:
    if table.layer in RESTRICTED_LAYERS:
        return table.name in source.entities
    return table.layer not in _INTERNAL_LAYERS


def _require_free_text(name: str, table: StoredTable, column: str, source: Source) -> None:
    if column_key(column) in _list_key_columns(table, source):
        raise UsageError(
            f"--also {name}: {table.full_name}.{column} is a key that identifies or joins rows; name columns of free text. "
            "Ids of the person are erased without --also."
        )
    if column not in _list_free_text_columns(table, source):
        raise UsageError(f"--also {name}: {table.full_name}.{column} does not hold text; name columns of free text.")


def _list_free_text_columns(table: StoredTable, source: Source) -> list[str]:
    """Return the text columns of a table that are no keys."""
    texts = [field.name for field in open_dataset(table.open()).schema if is_text(field.type)]
    if table.layer in RESTRICTED_LAYERS:
        # All landed values are text. The contract has their types.
        columns = source.entities[table.name].columns
        texts = matching_columns(texts, [name for name, spec in columns.items() if spec.type == "text"])
    return [name for name in texts if column_key(name) not in _list_key_columns(table, source)]


def _list_key_columns(table: StoredTable, source: Source) -> set[str]:
    """Return the keys of columns that identify rows, join tables or date them."""
    keys = {RUN_DATE_COLUMN, *pseudonym_columns(), *(name for name in table.columns if name.startswith("_"))}
    if table.layer in RESTRICTED_LAYERS:
        contract = source.contracts.get(table.name)
        entity = source.entities[table.name]
        keys |= {name for name, spec in entity.columns.items() if spec.pii == "id"}
        keys |= {each for each in (entity.date, entity.follows.by if entity.follows else None) if each}
    else:
        layer = "silver" if table.layer == "versions" else table.layer
        contract = load_tables(layer).get(f"{layer}.{table.name}")
    if contract is not None:
        related = (item.name for item in contract.properties if item.relationships)
        keys |= {*contract.key, *contract.columns_with("businessDate"), *related}
    keys |= {name for name in [find_stored_date_column(table.open())] if name}
    return set(map(column_key, keys))


def find_dates(table: StoredTable, matches: Mapping[str, Callable[[str], bool]]) -> set[Optional[date]]:
    """Return the dates with a match in a column of text; None for a table without dates.

    Parameters
    ----------
    table
        The table. Its columns that are not in ``matches`` are not read.
    matches
        By column, a function that returns whether any of several texts, joined by line breaks, has a match.
    """
    column = find_stored_date_column(table.open())
    by = [column] if column else []
    stored = open_dataset(table.open())
    names = [field.name for field in stored.schema if field.name in matches and is_text(field.type)]
    found: set[Optional[date]] = set()
    for batch in stored.scanner(columns=[*by, *names]).to_batches():
        for value in pc.unique(batch.column(0)) if by else [None]:
            rows = batch.filter(pc.equal(batch.column(0), value)) if by else batch
            if any(matches[name](_join_values(rows.column(name))) for name in names):
                found.add(value.as_py() if by else None)
    return found


def replace_in_columns(rows: pa.Table, columns: Iterable[str], values: Collection[str]) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows without the values in these columns, and the number of rows that changed by column."""
    counts = {}
    for name in columns:
        column = rows.column(name)
        if not contains_any(_join_values(column), values):
            continue
        texts = {text: replace_values(text, values) for text in pc.unique(column).to_pylist() if text}
        cleaned = [texts.get(text, text) for text in column.to_pylist()]
        counts[name] = sum(old != new for old, new in zip(column.to_pylist(), cleaned))
        rows = replace_column(rows, name, cleaned)
    return rows, counts


def _join_values(column: pa.Array) -> str:
    """Return the distinct texts of a column as one text, which is fast to search."""
    return "\n".join(text for text in pc.unique(column).to_pylist() if text)
