"""Erasing a person, step by step, so that whoever is killed on the way is finished by the next try.

Here: the plan, the order of the steps, the record. Not here: whose a row is (``people``), what stands in place of values
(``blanks``), the search for what is left (``proof``).

1. the plan: addresses of the person's rows, no values; and the pseudonym joins the list of those who stay out
2. the order dates of the person are noted, so that the next run computes their figures again
3. bronze and quarantine: values are blanked, rows stay; one commit a date
4. every other table: the pseudonym is taken out; one commit a table or date
5. candidates of runs are removed, old versions and log entries too
6. every file is searched; what is found ends the command, and the plan stays
7. the record is written, the plan removed
"""

from __future__ import annotations

import getpass
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.archive import Archive, dump, now
from daybook.engines import DuckDBEngine
from daybook.erasure.blanks import BLANK, blanks_for, without_person
from daybook.erasure.people import ERASED_PEOPLE, PSEUDONYM, Address, Finder, erased_people, personal_values, table_uri
from daybook.erasure.proof import Needles, Proof, holders, mentions, needles_for, search, without
from daybook.errors import UsageError
from daybook.lake import PARTITION, RESTRICTED, Lake, dataset_of, pseudonym_columns
from daybook.params import Settings, daybook_home
from daybook.pii import Keys, carried, load_keys
from daybook.purge import (
    StoredTable,
    append,
    forget_history,
    keep_no_statistics,
    overwrite,
    read,
    remove_leftovers,
    rewrite_where_changed,
    stored_tables,
)
from daybook.rekeying import require_keys
from daybook.sources import load_source
from daybook.storage import Store

ERASURE_PLAN = "control.erasure_plan"
"""The rows of persons whose erasure has begun and not ended, by address."""
NoteDates = Callable[[Lake, Iterable[date]], None]
"""Has gold of order dates computed again by whichever run comes next: ``daybook.notebook.dates.note_stale_dates``."""
RELEASES = "quarantine.releases"
"""Rows that people have let out of quarantine, with their repairs; see ``daybook.notebook.releases``."""
_BY = "erasure"
_PLAN_SCHEMA = pa.schema(
    [
        (PSEUDONYM, pa.string()),
        ("salt", pa.string()),
        ("development", pa.string()),
        ("entity", pa.string()),
        ("row_date", pa.date32()),
        ("file", pa.string()),
        ("number", pa.int64()),
    ]
)


@dataclass
class Erased:
    """What an erasure did. ``rows`` counts what was changed, by table; ``record`` is where the record lies, once it does."""

    pseudonyms: list[str]
    before: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    stale_dates: int = 0
    files_removed: int = 0
    proof: Proof = field(default_factory=Proof)
    landing: list[str] = field(default_factory=list)
    record: Optional[str] = None


def erase(settings: Settings, person: str, why: str, note: NoteDates) -> Erased:
    """Erase the person whom the source calls so. Raises ``UsageError`` for a person nothing is known of."""
    keys = load_keys(settings.pii_key)
    return _Erasure(settings, keys, {carried(keys, person, 0)}, person, why, note).run()


def erase_again(settings: Settings, why: str, note: NoteDates) -> Erased:
    """Go through everybody who was erased once more: what has landed since, and what a killed erasure has left."""
    root = settings.lake
    unfinished = {row[PSEUDONYM] for row in _plan_rows(root)}
    gone = erased_people(root) | unfinished
    if not gone:
        raise UsageError(f"Nobody was erased from {root}; give --customer ID.")
    return _Erasure(settings, load_keys(settings.pii_key), gone, None, why, note).run()


class _Erasure:
    """One try of an erasure."""

    def __init__(
        self, settings: Settings, keys: Keys, gone: set[str], person: Optional[str], why: str, note: NoteDates
    ) -> None:
        require_keys(settings.lake, keys, settings.env)
        self.settings, self.keys, self.gone, self.person, self.why = settings, keys, gone, person, why
        self.note = note
        self._ids = frozenset({person} if person else ())
        self.root = settings.lake
        self.source = load_source(settings.source)
        self.done = Erased(sorted(gone))
        self.tables = stored_tables(self.root)
        self.salt = secrets.token_hex(16)
        self.addresses: dict[str, dict[Address, str]] = {}

    def run(self) -> Erased:
        planned = [row for row in _plan_rows(self.root) if row[PSEUDONYM] in self.gone]
        known = erased_people(self.root) & self.gone
        self.done.before = self.gone <= known and not planned
        self._find(planned)
        model = list(self._model_tables())
        if not any(self.addresses.values()) and not model and not planned and not known:
            raise UsageError(f"No customer of that id is known to params/{self.settings.env}.yaml; nothing was changed.")
        needles = self._needles()
        if any(self.addresses.values()) or model or planned or known != self.gone:
            self._write_plan(planned, known)
            self._note_stale_dates()
            self._blank(needles)
            for table, partitions in model:
                self._take_out(table, partitions)
            self.done.files_removed += remove_leftovers(self.root)
            for table in stored_tables(self.root):
                self.done.files_removed += forget_history(table)
        self._prove(needles)
        if self.done.proof.holds:
            self._record()
        return self.done

    def _find(self, planned: list[dict[str, Any]]) -> None:
        for user in ["", *Store(self.root).folders("dev")]:
            finder = Finder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
            found = finder.rows_of(self.gone)
            if self.person is None:
                found.update({each: sorted(self.gone)[0] for each in finder.rows_of_erased() if each not in found})
            self.addresses[user] = found
        for row in planned:
            self.salt = row["salt"]
            if row["entity"] is not None:
                address = Address(row["entity"], row["row_date"], row["file"], row["number"])
                self.addresses.setdefault(row["development"], {}).setdefault(address, row[PSEUDONYM])

    def _needles(self) -> Needles:
        """What to look for: the id, its pseudonyms under every generation of keys, and the values of the person's rows."""
        values: set[str] = set()
        for table in self.tables:
            mine = [each for each in self.addresses.get(table.development, {}) if each.entity == table.name]
            if table.layer in RESTRICTED and mine:
                rows = _rows_of_dates(table, {each.run_date for each in mine})
                values |= personal_values(self.source, table.name, rows.filter(pa.array(_chosen(rows, mine), pa.bool_())))
        others: set[str] = set()
        for user in self.addresses:
            finder = Finder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
            others.update(finder.values_of_others(self.gone))
        pseudonyms = set(self.gone)
        if self.person:
            pseudonyms |= {carried(self.keys[:number], self.person, 0) for number in range(1, len(self.keys) + 1)}
        return needles_for(pseudonyms, self._ids, values, others)

    def _model_tables(self) -> Iterator[tuple[StoredTable, set[str]]]:
        """The tables of the model that hold the pseudonym, with the partitions that do."""
        own = (ERASED_PEOPLE, ERASURE_PLAN)
        for table in self.tables:
            held = sorted(pseudonym_columns() & set(table.columns))
            if table.full_name in own or not held:
                continue
            hits = [pc.field(each).isin(sorted(self.gone)) for each in held]
            condition = hits[0]
            for each in hits[1:]:
                condition = condition | each
            by = list(table.open().metadata().partition_columns)
            rows = dataset_of(table.open()).to_table(columns=[*by, *held], filter=condition)
            if rows.num_rows:
                yield table, {str(value) for value in rows.column(by[0]).to_pylist()} if by else set()

    def _write_plan(self, planned: list[dict[str, Any]], known: set[str]) -> None:
        rows = [
            {
                PSEUDONYM: person,
                "salt": self.salt,
                "development": user,
                "entity": each.entity,
                "row_date": each.run_date,
                "file": each.file,
                "number": each.number,
            }
            for user, found in self.addresses.items()
            for each, person in found.items()
        ]
        rows += [{PSEUDONYM: person, "salt": self.salt, "development": ""} for person in sorted(self.gone)]
        if not planned:
            append(table_uri(self.root, ERASURE_PLAN), pa.Table.from_pylist(rows, _PLAN_SCHEMA), by=_BY, table=ERASURE_PLAN)
        if known != self.gone:
            new = pa.table({PSEUDONYM: sorted(self.gone - known)})
            append(table_uri(self.root, ERASED_PEOPLE), new, by=_BY, table=ERASED_PEOPLE)

    def _note_stale_dates(self) -> None:
        """Before the orders lose the person: a try that is killed in between leaves the note, or the orders to note."""
        lake = Lake(self.root, run_id=_BY)
        engine = DuckDBEngine(lake, self.settings.timezone)
        listed = ", ".join(f"'{each}'" for each in sorted(self.gone))
        dates = {row[0] for row in engine.rows(f"SELECT order_date FROM silver.orders WHERE customer_key IN ({listed})")}
        self.done.stale_dates = len(dates)
        self.note(lake, dates)

    def _blank(self, needles: Needles) -> None:
        wanted = needles.anywhere | self._ids
        for table in self.tables:
            if table.layer not in RESTRICTED:
                continue
            keep_no_statistics(table)
            mine = [each for each in self.addresses.get(table.development, {}) if each.entity == table.name]
            meant = self.addresses.get(table.development, {}) if table.full_name == RELEASES else mine
            dates = {each.run_date.isoformat() for each in meant} | _dates_mentioning(table, wanted, self._loose(table))
            if dates:
                rewrite_where_changed(table, partial(self._blanked, table, mine, wanted), by=_BY, partitions=dates)

    def _loose(self, table: StoredTable) -> list[str]:
        """Columns with text that may say anything: a row that could not be split; all there are in a table of no entity."""
        if table.name in self.source.entities:
            return [name for name in table.columns if name == "_raw"]
        return [name for name in table.columns if name != PARTITION]

    def _blanked(self, table: StoredTable, mine: list[Address], wanted: frozenset[str], rows: pa.Table) -> Optional[pa.Table]:
        before = rows
        if table.full_name == RELEASES:
            rows = self._released(table, rows)
        if mine and rows.num_rows:
            chosen = _chosen(rows, mine)
            day = rows.column(PARTITION).to_pylist()[0]
            rows = blanks_for(self.source, table.name, self.salt).applied(rows, chosen, day)
        for name in self._loose(table):
            position = rows.schema.get_field_index(name)
            if pa.types.is_string(rows.schema.field(position).type):
                values = [None if text is None else without(text, wanted, BLANK) for text in rows.column(name).to_pylist()]
                rows = rows.set_column(position, rows.schema.field(position), pa.array(values, pa.string()))
        if rows.equals(before):
            return None
        changed = sum(old != new for old, new in zip(before.to_pylist(), rows.to_pylist()))
        self._count(table, changed)
        return rows

    def _released(self, table: StoredTable, rows: pa.Table) -> pa.Table:
        """Releases from quarantine, those of the person's rows without values, and made out to the rows as they are now."""
        released = rows.to_pylist()
        for row in released:
            address = Address(row["entity"], row[PARTITION], row["_source_file"], row["_row_number"])
            if address in self.addresses.get(table.development, {}):
                row["repairs"] = blanks_for(self.source, address.entity, self.salt).repairs(row["repairs"], address.run_date)
                row["digest"] = self._digest(table.development, address) or row["digest"]
        return pa.Table.from_pylist(released, rows.schema)

    def _digest(self, development: str, address: Address) -> Optional[str]:
        """Of a landed row's text, as releases are made out to (``daybook.notebook.releases.digest_sql``)."""
        dataset = Lake(self.root, development=development).dataset(f"bronze.{address.entity}")
        if dataset is None:
            return None
        at = (pc.field("_source_file") == address.file) & (pc.field("_row_number") == address.number)
        for row in dataset.to_table(filter=at & (pc.field(PARTITION) == pa.scalar(address.run_date))).to_pylist():
            texts = [row[name] or "" for name in row if name not in ("_source_file", "_row_number", "_run_id", PARTITION)]
            return hashlib.md5("\x1f".join(texts).encode(), usedforsecurity=False).hexdigest()
        return None

    def _take_out(self, table: StoredTable, partitions: set[str]) -> None:
        keep_no_statistics(table)

        def change(rows: pa.Table) -> Optional[pa.Table]:
            told = without_person(table.name, rows, self.gone)
            if told is None:
                return None
            self._count(table, told[1])
            return told[0]

        rewrite_where_changed(table, change, by=_BY, partitions=partitions or None)

    def _count(self, table: StoredTable, rows: int) -> None:
        name = f"dev/{table.development}/{table.full_name}" if table.development else table.full_name
        self.done.rows[name] = self.done.rows.get(name, 0) + rows

    def _prove(self, needles: Needles) -> None:
        home = daybook_home()
        places = {
            "lake": self.root,
            "archive": self.settings.archive,
            "report": self.settings.report,
            **{name: str(home / name) for name in ("logs", "executions", "scratch")},
        }
        columns = {"_raw", *pseudonym_columns()}.union(*self.source.personal_columns().values())
        gone = frozenset(self.gone)
        own = {table_uri(self.root, each): gone for each in (ERASED_PEOPLE, ERASURE_PLAN)}
        own[Store(self.settings.archive).href("erasures/")] = needles.anywhere & {*gone, *self._former()}
        self.done.proof = search(places, needles, columns, own)
        if self.person:
            # Whoever asks by pseudonym has nothing to look for in files that hold none.
            self.done.landing = holders(self.settings.landing, Needles(needles.anywhere, self._ids))

    def _former(self) -> set[str]:
        """The person's pseudonyms under earlier generations of keys, which earlier records of erasures hold."""
        return {carried(self.keys[:number], self.person, 0) for number in range(1, len(self.keys))} if self.person else set()

    def _record(self) -> None:
        at = now()
        told = {
            "record": "erasure",
            "pseudonyms": self.done.pseudonyms,
            "key_generation": len(self.keys),
            "env": self.settings.env,
            "by": getpass.getuser(),
            "why": self.why,
            "at": at,
            "again": self.done.before,
            "rows": self.done.rows,
            "order_dates_noted": self.done.stale_dates,
            "old_files_removed": self.done.files_removed,
            "files_searched": self.done.proof.files,
            "tables": {
                (f"dev/{each.development}/" if each.development else "") + each.full_name: each.open().version()
                for each in stored_tables(self.root)
            },
        }
        key = f"erasures/{at.replace(':', '-')}-{self.done.pseudonyms[0]}.json"
        archive = Archive(self.settings.archive)
        archive.store.create(key, dump(told))
        self.done.record = archive.store.href(key)
        rest = [row for row in _plan_rows(self.root) if row[PSEUDONYM] not in self.gone]
        for table in self.tables_of_plan():
            overwrite(table.uri, pa.Table.from_pylist(rest, _PLAN_SCHEMA), by=_BY, table=ERASURE_PLAN)
            forget_history(table)

    def tables_of_plan(self) -> list[StoredTable]:
        """The plan's table, where there is one with something in it."""
        if not _plan_rows(self.root):
            return []
        layer, name = ERASURE_PLAN.split(".")
        return [StoredTable(table_uri(self.root, ERASURE_PLAN), layer, name)]


def _plan_rows(root: str) -> list[dict[str, Any]]:
    rows = read(table_uri(root, ERASURE_PLAN))
    return [] if rows is None else list(rows.to_pylist())


def _rows_of_dates(table: StoredTable, dates: set[date]) -> pa.Table:
    return dataset_of(table.open()).to_table(filter=pc.field(PARTITION).isin(sorted(dates)))


def _chosen(rows: pa.Table, mine: list[Address]) -> list[bool]:
    """Which rows are at one of the addresses."""
    places = {(each.run_date, each.file, each.number) for each in mine}
    columns = [rows.column(name).to_pylist() for name in (PARTITION, "_source_file", "_row_number")]
    return [place in places for place in zip(*columns)]


def _dates_mentioning(table: StoredTable, wanted: frozenset[str], columns: list[str]) -> set[str]:
    """The partitions in which any of those columns holds any of the values."""
    if not wanted:
        return set()
    found: set[str] = set()
    for batch in dataset_of(table.open()).scanner(columns=[PARTITION, *columns]).to_batches():
        days = batch.column(0).to_pylist()
        for column in batch.columns[1:]:
            if pa.types.is_string(column.type):
                texts = column.to_pylist()
                found.update(day.isoformat() for day, text in zip(days, texts) if text and mentions(text, wanted))
    return found
