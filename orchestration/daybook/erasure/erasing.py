"""Erasing a person, step by step, so that whoever is killed on the way is finished by the next try.

Here: the plan, the order of the steps, the record. Not here: whose a row is (``people``), what stands in place of values
(``blanks``), the search for what is left (``proof``).

1. the plan: addresses of the person's rows and the files that hold something of them, no values; and the pseudonym joins the
   list of those who stay out
2. the order dates of the person are noted, so that the next run computes their figures again
3. bronze and quarantine: values are blanked, rows stay; one commit a date
4. every other table: the pseudonym is taken out; one commit a table or date
5. candidates of runs are removed, old versions and log entries too
6. every file is searched; what is found ends the command, and joins the plan, which stays
7. the record is written, the plan removed
"""

from __future__ import annotations

import getpass
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.archive import Archive, dump, now
from daybook.columns import column_key, columns_among
from daybook.delta import dataset_of
from daybook.engines import DuckDBEngine
from daybook.erasure.blanks import BLANK, blanks_for, without_person
from daybook.erasure.people import ERASED_PEOPLE, PSEUDONYM, Address, Finder, erased_people, personal_values, table_uri
from daybook.erasure.plan import ERASURE_PLAN, Row, add_files, address_of, begin, plan_rows, unfinished
from daybook.erasure.plan import remove as remove_plan
from daybook.erasure.proof import Needles, Proof, holders, in_raw, mentions, needles_for, raw_without, search, without
from daybook.errors import UsageError
from daybook.lake import PARTITION, Lake
from daybook.params import Settings, daybook_home
from daybook.pii import Keys, carried, load_keys
from daybook.pii.redaction import Redactor
from daybook.properties import RESTRICTED, pseudonym_columns
from daybook.purge import (
    StoredTable,
    append,
    bring_up_to_date,
    forget_history,
    remove_leftovers,
    rewrite_where_changed,
    stored_tables,
)
from daybook.rekeying import require_keys
from daybook.sources import load_source
from daybook.sources.packing import limits_of
from daybook.storage import Store

NoteDates = Callable[[Lake, Iterable[date]], None]
"""Has gold of order dates computed again by whichever run comes next: ``daybook.notebook.dates.note_stale_dates``."""
RELEASES = "quarantine.releases"
"""Rows that people have let out of quarantine, with their repairs; see ``daybook.notebook.releases``."""
_BY = "erasure"
_LONGEST_NAME = 4
"""Words; a value of more is a sentence, whose words are anybody's."""


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
    unread: list[str] = field(default_factory=list)
    """Landing files that could not be searched to their end."""
    record: Optional[str] = None


def erase(settings: Settings, person: str, why: str, note: NoteDates) -> Erased:
    """Erase the person whom the source calls so. Raises ``UsageError`` for a person nothing is known of."""
    keys = load_keys(settings.pii_key)
    return _Erasure(settings, keys, {carried(keys, person, 0)}, person, why, note).run()


def erase_again(settings: Settings, why: str, note: NoteDates) -> Erased:
    """Go through everybody who was erased once more: what has landed since, and what a killed erasure has left."""
    root = settings.lake
    gone = erased_people(root) | unfinished(root)
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
        planned = plan_rows(self.root, self.gone)
        known = erased_people(self.root) & self.gone
        self.done.before = self.gone <= known and not planned
        self._find(planned)
        model = list(self._model_tables())
        if not any(self.addresses.values()) and not model and not planned and not known:
            raise UsageError(f"No customer of that id is known to params/{self.settings.env}.yaml; nothing was changed.")
        needles = self._needles()
        if any(self.addresses.values()) or model or planned or known != self.gone:
            self._write_plan(planned, known, needles)
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

    def _find(self, planned: list[Row]) -> None:
        for user in ["", *Store(self.root).folders("dev")]:
            finder = Finder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
            found = finder.rows_of(self.gone)
            if self.person is None:
                found.update({each: sorted(self.gone)[0] for each in finder.rows_of_erased() if each not in found})
            self.addresses[user] = found
        for row in planned:
            self.salt = row["salt"]
            if row["entity"] is not None:
                self.addresses.setdefault(row["development"], {}).setdefault(address_of(row), row[PSEUDONYM])
        # What the first try was told, without the values that only it could know.
        self.why = next((row["why"] for row in planned if row.get("why")), self.why)

    def _needles(self) -> Needles:
        """What to look for: the id, its pseudonyms under every generation of keys, and the values of the person's rows."""
        values: set[str] = set()
        for table in self.tables:
            mine = self._addresses_in(table)
            if mine:
                rows = _rows_of_dates(table, {each.run_date for each in mine})
                values |= personal_values(self.source, table.name, rows.filter(pa.array(_chosen(rows, mine), pa.bool_())))
        self.why = _told(self.why, values | self._ids | self.gone)
        others: set[str] = set()
        for user in self.addresses:
            finder = Finder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
            others.update(finder.values_of_others(self.gone))
        pseudonyms = set(self.gone)
        if self.person:
            pseudonyms |= {carried(self.keys[:number], self.person, 0) for number in range(1, len(self.keys) + 1)}
        delimiters = {self.source.delimiter, *(each.delimiter or "" for each in self.source.entities.values())}
        return needles_for(pseudonyms, self._ids, values, others, "".join(sorted(delimiters)))

    def _addresses_in(self, table: StoredTable) -> list[Address]:
        """The person's rows in a table, by what bronze and quarantine each say themselves."""
        found = self.addresses.get(table.development, {})
        return [each for each in found if (each.layer, each.entity) == (table.layer, table.name)]

    def _model_tables(self) -> Iterator[tuple[StoredTable, set[str]]]:
        """The tables of the model that hold the pseudonym, with the partitions that do."""
        own = (ERASED_PEOPLE, ERASURE_PLAN)
        for table in self.tables:
            held = sorted(columns_among(table.columns, pseudonym_columns()))
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

    def _write_plan(self, planned: list[Row], known: set[str], needles: Needles) -> None:
        if not planned:
            # The person's values are known now and never again: what holds them is noted before they go.
            files = search(self._outside(), needles, self._personal_columns(), self._allowed(needles)).digests
            begin(self.root, self.salt, self.gone, self.addresses, files, self.why)
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
        for table in self.tables:
            if table.layer not in RESTRICTED:
                continue
            bring_up_to_date(table)
            mine = self._addresses_in(table)
            meant = self.addresses.get(table.development, {}) if table.full_name == RELEASES else mine
            dates = {each.run_date.isoformat() for each in meant} | _dates_mentioning(table, needles, self._loose(table))
            if dates:
                rewrite_where_changed(table, partial(self._blanked, table, mine, needles), by=_BY, partitions=dates)

    def _loose(self, table: StoredTable) -> list[str]:
        """Columns with text that may say anything: a row that could not be split, and what people write."""
        if table.full_name == RELEASES:
            return ["repairs", "why"]
        if table.name in self.source.entities:
            return [name for name in table.columns if name == "_raw"]
        return [name for name in table.columns if name != PARTITION]

    def _blanked(self, table: StoredTable, mine: list[Address], needles: Needles, rows: pa.Table) -> Optional[pa.Table]:
        before = rows
        if table.full_name == RELEASES:
            rows = self._released(table, needles, rows)
        if mine and rows.num_rows:
            chosen = _chosen(rows, mine)
            day = rows.column(PARTITION).to_pylist()[0]
            rows = blanks_for(self.source, table.name, self.salt).applied(rows, chosen, day)
        for name in set(self._loose(table)) & set(rows.column_names):
            position = rows.schema.get_field_index(name)
            if pa.types.is_string(rows.schema.field(position).type):
                clean = raw_without if name == "_raw" else _without_certain
                values = [None if text is None else clean(text, needles, BLANK) for text in rows.column(name).to_pylist()]
                rows = rows.set_column(position, rows.schema.field(position), pa.array(values, pa.string()))
        if rows.equals(before):
            return None
        changed = sum(old != new for old, new in zip(before.to_pylist(), rows.to_pylist()))
        self._count(table, changed)
        return rows

    def _released(self, table: StoredTable, needles: Needles, rows: pa.Table) -> pa.Table:
        """Releases from quarantine, those of the person's rows without values, and made out to the rows as they are now."""
        released = rows.to_pylist()
        found = self.addresses.get(table.development, {})
        for row in released:
            address = Address(row["entity"], row[PARTITION], row["_source_file"], row["_row_number"])
            if address in found or replace(address, layer="quarantine") in found:
                row["repairs"] = blanks_for(self.source, address.entity, self.salt).repairs(row["repairs"], address.run_date)
                row["why"] = without(row["why"], needles.all, BLANK) if row.get("why") else row.get("why")
                row["digest"] = (self._digest(table.development, address) if address in found else None) or row["digest"]
        return pa.Table.from_pylist(released, rows.schema)

    def _digest(self, development: str, address: Address) -> Optional[str]:
        """Of a landed row's text, as releases are made out to (``daybook.notebook.releases.digest_sql``)."""
        dataset = Lake(self.root, development=development).dataset(f"bronze.{address.entity}")
        if dataset is None:
            return None
        at = (pc.field("_source_file") == address.file) & (pc.field("_row_number") == address.number)
        for row in dataset.to_table(filter=at & (pc.field(PARTITION) == pa.scalar(address.run_date))).to_pylist():
            technical = ("_source_file", "_row_number", "_run_id", PARTITION)
            landed = {column_key(name): text for name, text in row.items() if name not in technical and text is not None}
            texts = [f"{key}={landed[key]}" for key in sorted(landed)]
            return hashlib.md5("\x1f".join(texts).encode(), usedforsecurity=False).hexdigest()
        return None

    def _take_out(self, table: StoredTable, partitions: set[str]) -> None:
        bring_up_to_date(table)

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

    def _outside(self) -> dict[str, str]:
        """Where files may hold the person that no step of an erasure changes."""
        home = daybook_home()
        places = {name: str(home / name) for name in ("logs", "executions", "scratch")}
        return {"archive": self.settings.archive, "report": self.settings.report, **places}

    def _personal_columns(self) -> set[str]:
        return set(pseudonym_columns()).union(*self.source.personal_columns().values())

    def _allowed(self, needles: Needles) -> dict[str, frozenset[str]]:
        """What may stand in which files: the list of the erased, the plan, and records of erasures."""
        gone = frozenset(self.gone)
        return {
            table_uri(self.root, ERASED_PEOPLE): gone,
            # Names of files stand in the plan; it goes when the proof holds.
            table_uri(self.root, ERASURE_PLAN): needles.anywhere,
            Store(self.settings.archive).href("erasures/"): needles.anywhere & {*gone, *self._former()},
        }

    def _prove(self, needles: Needles) -> None:
        held = {(row["held_by"], row["sha256"]) for row in plan_rows(self.root, self.gone) if row.get("held_by")}
        places = {"lake": self.root, **self._outside()}
        proof = search(places, needles, self._personal_columns(), self._allowed(needles), held, limits_of(self.settings))
        self.done.proof = proof
        new = {name: digest for name, digest in proof.digests.items() if (name, digest) not in held}
        add_files(self.root, self.salt, self.gone, new)
        if self.person:
            # Whoever asks by pseudonym has nothing to look for in files that hold none.
            found = holders(self.settings.landing, Needles(needles.anywhere, self._ids), limits_of(self.settings))
            self.done.landing, self.done.unread = found

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
        remove_plan(self.root, self.gone)


def _rows_of_dates(table: StoredTable, dates: set[date]) -> pa.Table:
    return dataset_of(table.open()).to_table(filter=pc.field(PARTITION).isin(sorted(dates)))


def _chosen(rows: pa.Table, mine: list[Address]) -> list[bool]:
    """Which rows are at one of the addresses."""
    places = {(each.run_date, each.file, each.number) for each in mine}
    columns = [rows.column(name).to_pylist() for name in (PARTITION, "_source_file", "_row_number")]
    return [place in places for place in zip(*columns)]


def _told(why: str, values: Iterable[str]) -> str:
    """What whoever erases says about it, without the person: the values, the words of names, and what looks personal."""
    words = {word for value in values for word in [value, *(value.split() if len(value.split()) <= _LONGEST_NAME else ())]}
    return Redactor().text(without(why, {word.strip() for word in words if len(word.strip()) > 1} | set(values) - {""}, BLANK))


def _without_certain(text: str, needles: Needles, instead: str) -> str:
    return without(text, needles.anywhere, instead)


def _dates_mentioning(table: StoredTable, needles: Needles, columns: list[str]) -> set[str]:
    """The partitions in which any of those columns holds the person."""
    found: set[str] = set()
    names = [name for name in columns if name in table.columns]
    for batch in dataset_of(table.open()).scanner(columns=[PARTITION, *names]).to_batches():
        days = batch.column(0).to_pylist()
        for name, column in zip(names, batch.columns[1:]):
            if pa.types.is_string(column.type):
                told = in_raw if name == "_raw" else _certain
                texts = column.to_pylist()
                found.update(day.isoformat() for day, text in zip(days, texts) if text and told(text, needles))
    return found


def _certain(text: str, needles: Needles) -> bool:
    return mentions(text, needles.anywhere)
