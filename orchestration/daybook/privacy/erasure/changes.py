"""Plan the changes that an erasure makes to tables."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial, reduce
from operator import or_
from typing import Any, Callable, NamedTuple, Optional

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from daybook.contracts.columns import column_key, matching_columns
from daybook.errors import LakeError
from daybook.lake.delta import open_dataset, read_dates
from daybook.lake.layout import find_stored_date_column
from daybook.lake.rewrite import StoredTable, rewrite_dates
from daybook.lake.table_properties import RESTRICTED_LAYERS, pseudonym_columns
from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.privacy.erasure.free_text import FreeTextColumns, find_dates, replace_in_columns
from daybook.privacy.erasure.masking import build_masker, remove_person, replace_column
from daybook.privacy.erasure.plan import ERASURE_PLAN, ERASURE_WRITER
from daybook.privacy.erasure.subjects import ERASED_TABLE, RowAddress, match_addresses
from daybook.privacy.erasure.terms import (
    SearchTerms,
    contains_any,
    contains_certain,
    raw_row_matches,
    replace_certain,
    replace_in_raw_row,
    replace_values,
)
from daybook.sources import Source

RELEASES = "quarantine.releases"
"""Rows that users released from quarantine, with their repairs; see ``daybook.notebook.releases``."""
DAMAGE_ERRORS = (pa.ArrowException, DeltaError, LakeError, OSError)
"""Errors of a table whose files or log are damaged."""


class TableChange(NamedTuple):
    """A change of the rows of a date in a table, or of the whole table if ``day`` is None."""

    table: StoredTable
    day: Optional[date]
    change: Callable[[pa.Table], Optional[pa.Table]]

    def apply(self, *, dry_run: bool = False) -> None:
        """Rewrite the rows, or only compute the new ones."""
        dates = None if self.day is None else {self.day}
        rewrite_dates(self.table, self.change, by=ERASURE_WRITER, dates=dates, dry_run=dry_run)


@dataclass
class ChangePlanner:
    """Plan and count the changes of tables.

    ``addresses`` are the person's landed rows by development copy. ``report`` is called with each damaged table and its error.
    """

    root: str
    source: Source
    tables: list[StoredTable]
    pseudonyms: set[str]
    addresses: Mapping[str, Mapping[RowAddress, str]]
    free_text: FreeTextColumns
    salt: str
    report: Callable[[StoredTable, BaseException], None]
    rows: Counter[str] = field(default_factory=Counter)
    """Number of changed rows, by table."""
    free_text_rows: Counter[str] = field(default_factory=Counter)
    """Number of rows with changed free text, by column."""
    _digests: dict[str, str] = field(default_factory=dict)
    """New digests of landed rows whose free text changes, by old digest."""

    def find_model_tables(self) -> Iterator[tuple[StoredTable, set[date]]]:
        """Yield the tables with the pseudonyms in columns, with their dates that have them."""
        for table in self.tables:
            columns = sorted(matching_columns(table.columns, pseudonym_columns()))
            if table.full_name in (ERASED_TABLE, ERASURE_PLAN) or not columns:
                continue
            condition = reduce(or_, (pc.field(name).isin(sorted(self.pseudonyms)) for name in columns))
            dated = find_stored_date_column(table.open())
            try:
                rows = open_dataset(table.open()).to_table(columns=[dated, *columns] if dated else columns, filter=condition)
            except DAMAGE_ERRORS as error:
                self.report(table, error)
                continue
            if rows.num_rows:
                yield table, set(rows.column(dated).to_pylist()) if dated else set()

    def plan(self, terms: SearchTerms, model: Iterable[tuple[StoredTable, set[date]]]) -> list[TableChange]:
        """Return the changes of all undamaged tables in the order of their execution, and count their rows."""
        changes: list[TableChange] = []
        # Releases hold digests of landed rows: they change before the free text of bronze, and after bronze is masked.
        releases_first = sorted(self.tables, key=lambda each: each.full_name != RELEASES)
        for plan_table, tables in ((self._plan_free_text, releases_first), (self._plan_masking, self.tables)):
            for table in tables:
                try:
                    changes += plan_table(table, terms)
                except DAMAGE_ERRORS as error:
                    self.report(table, error)
        for table, dates in model:
            remove = partial(self._remove_person, table)
            changes += [TableChange(table, day, remove) for day in sorted(dates)] or [TableChange(table, None, remove)]
        possible = []
        for change in changes:
            try:
                change.apply(dry_run=True)
            except DAMAGE_ERRORS as error:
                self.report(change.table, error)
            else:
                possible.append(change)
        return possible

    def addresses_in(self, table: StoredTable) -> list[RowAddress]:
        """Return the addresses of the person's rows in a table."""
        addresses = self.addresses.get(table.development, {})
        return [each for each in addresses if (each.layer, each.entity) == (table.layer, table.name)]

    def _plan_free_text(self, table: StoredTable, terms: SearchTerms) -> list[TableChange]:
        """Return the changes of free text that the user names, and of releases with repairs of it."""
        if table.full_name == RELEASES:
            dates = read_dates(table.open()) if self._bronze_of(table) else []
            return [TableChange(table, day, partial(self._replace_in_releases, table, terms)) for day in dates]
        if table not in self.free_text:
            return []
        found = find_dates(table, dict.fromkeys(self.free_text[table], partial(contains_any, values=terms.free_text)))
        return _list_changes(table, found, partial(self._replace_free_text, table, terms))

    def _bronze_of(self, table: StoredTable) -> dict[str, StoredTable]:
        """Return the bronze tables with named free text in the development copy of a table, by name."""
        same_copy = ("bronze", table.development)
        return {each.name: each for each in self.free_text if (each.layer, each.development) == same_copy}

    def _replace_free_text(self, table: StoredTable, terms: SearchTerms, rows: pa.Table) -> Optional[pa.Table]:
        columns = matching_columns(rows.column_names, self.free_text[table])
        changed, counts = replace_in_columns(rows, columns, terms.free_text)
        if not counts:
            return None
        for column, number in counts.items():
            self.free_text_rows[f"{table.display_name}.{column}"] += number
        if table.layer == "bronze":
            for old, new in zip(rows.to_pylist(), changed.to_pylist()):
                if old != new:
                    self._digests[_digest_row(old)] = _digest_row(new)
        return changed

    def _replace_in_releases(self, table: StoredTable, terms: SearchTerms, rows: pa.Table) -> Optional[pa.Table]:
        released, bronze = rows.to_pylist(), self._bronze_of(table)
        for row in released:
            if row["entity"] in bronze:
                old = json.loads(row["repairs"])
                named = matching_columns(old, self.free_text[bronze[row["entity"]]])
                repairs = {**old, **{name: replace_values(old[name], terms.free_text) for name in named}}
                if repairs != old:
                    row["repairs"] = json.dumps(repairs, ensure_ascii=False, sort_keys=True)
                row["digest"] = self._digests.get(row["digest"], row["digest"])
        changed = pa.Table.from_pylist(released, rows.schema)
        return None if changed.equals(rows) else changed

    def _plan_masking(self, table: StoredTable, terms: SearchTerms) -> list[TableChange]:
        """Return the changes of the person's landed rows, and of rows of others that mention the person."""
        if table.layer not in RESTRICTED_LAYERS:
            return []
        own = self.addresses_in(table)
        addresses = self.addresses.get(table.development, {}) if table.full_name == RELEASES else own
        dates: set[Optional[date]] = {each.run_date for each in addresses}
        matches = {name: raw_row_matches if name == "_raw" else contains_certain for name in self._unstructured_columns(table)}
        dates |= find_dates(table, {name: partial(match, terms=terms) for name, match in matches.items()})
        return _list_changes(table, dates, partial(self._mask_rows, table, own, terms))

    def _unstructured_columns(self, table: StoredTable) -> list[str]:
        """Return the columns with any kind of text, such as malformed rows and reasons that users write."""
        if table.full_name == RELEASES:
            return ["repairs", "why"]
        if table.name in self.source.entities:
            return [name for name in table.columns if name == "_raw"]
        return [name for name in table.columns if name != RUN_DATE_COLUMN]

    def _mask_rows(self, table: StoredTable, own: list[RowAddress], terms: SearchTerms, rows: pa.Table) -> Optional[pa.Table]:
        before = rows
        if table.full_name == RELEASES:
            rows = self._mask_releases(table, terms, rows)
        if own and rows.num_rows:
            day = rows.column(RUN_DATE_COLUMN).to_pylist()[0]
            rows = build_masker(self.source, table.name, self.salt).mask_rows(rows, match_addresses(rows, own), day)
        for name in set(self._unstructured_columns(table)) & set(rows.column_names):
            if pa.types.is_string(rows.schema.field(name).type):
                clean = replace_in_raw_row if name == "_raw" else replace_certain
                values = [None if text is None else clean(text, terms) for text in rows.column(name).to_pylist()]
                rows = replace_column(rows, name, values)
        if rows.equals(before):
            return None
        self.rows[table.display_name] += sum(old != new for old, new in zip(before.to_pylist(), rows.to_pylist()))
        return rows

    def _mask_releases(self, table: StoredTable, terms: SearchTerms, rows: pa.Table) -> pa.Table:
        """Return releases with those of the person's rows masked and with the digests of the rows as they are now."""
        released = rows.to_pylist()
        addresses = self.addresses.get(table.development, {})
        for row in released:
            address = RowAddress(row["entity"], row[RUN_DATE_COLUMN], row["_source_file"], row["_row_number"])
            if address in addresses or replace(address, layer="quarantine") in addresses:
                masker = build_masker(self.source, address.entity, self.salt)
                row["repairs"] = masker.mask_repairs(row["repairs"], address.run_date)
                row["why"] = replace_values(row["why"], terms.all) if row.get("why") else row.get("why")
                digest = self._current_digest(table.development, address) if address in addresses else None
                row["digest"] = digest or row["digest"]
        return pa.Table.from_pylist(released, rows.schema)

    def _current_digest(self, development: str, address: RowAddress) -> Optional[str]:
        """Return the digest of a landed row as it is now."""
        dataset = Lake(self.root, development=development).dataset(f"bronze.{address.entity}")
        if dataset is None:
            return None
        condition = (pc.field("_source_file") == address.file) & (pc.field("_row_number") == address.number)
        rows = dataset.to_table(filter=condition & (pc.field(RUN_DATE_COLUMN) == pa.scalar(address.run_date))).to_pylist()
        return _digest_row(rows[0]) if rows else None

    def _remove_person(self, table: StoredTable, rows: pa.Table) -> Optional[pa.Table]:
        result = remove_person(table.name, rows, self.pseudonyms)
        if result is None:
            return None
        self.rows[table.display_name] += result[1]
        return result[0]


def _list_changes(
    table: StoredTable, dates: set[Optional[date]], change: Callable[[pa.Table], Optional[pa.Table]]
) -> list[TableChange]:
    return [TableChange(table, day, change) for day in sorted(dates, key=str)]


def _digest_row(row: Mapping[str, Any]) -> str:
    """Return the digest of a landed row's text, equal to that of ``daybook.notebook.releases.digest_sql``."""
    technical = ("_source_file", "_row_number", "_run_id", RUN_DATE_COLUMN)
    landed = {column_key(name): text for name, text in row.items() if name not in technical and text is not None}
    texts = [f"{key}={landed[key]}" for key in sorted(landed)]
    return hashlib.md5("\x1f".join(texts).encode(), usedforsecurity=False).hexdigest()
