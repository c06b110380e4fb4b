"""Erasing a person, step by step, so that whoever is killed on the way is finished by the next try.

1. everything is read and nothing written: what would change, and which files outside of the lake hold the person 2. the plan:
addresses of the person's rows and the files that hold something of them, no values; and the pseudonym joins the list of those
who stay out 3. the order dates of the person are noted, so that the next run computes their figures again 4. columns of free
text that the user names lose the person's values, which are not known any more after the next step 5. bronze and quarantine:
values are blanked, rows stay; one commit a date 6. every other table: the pseudonym is taken out; one commit a table or date
7. candidates of runs are removed, old versions and log entries too 8. every file is searched; what is found ends the command,
and joins the plan, which stays 9. the record is written, the plan removed
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from daybook.contracts.columns import column_key, matching_columns
from daybook.engines import DuckDBEngine
from daybook.errors import EngineError, LakeError, LandingError, UsageError
from daybook.lake.delta import open_dataset
from daybook.lake.rewrite import (
    StoredTable,
    append_rows,
    list_tables,
    remove_history,
    remove_orphan_files,
    require_intact_log,
    rewrite_partitions,
    upgrade_table,
)
from daybook.lake.table_properties import RESTRICTED_LAYERS, pseudonym_columns
from daybook.lake.tables import PARTITION_COLUMN, Lake
from daybook.privacy import Keys, apply_keys, load_keys
from daybook.privacy.erasure.files import format_reason
from daybook.privacy.erasure.free_text import find_free_text_columns, find_partitions, replace_in_columns
from daybook.privacy.erasure.masking import ERASED_MARK, build_masker, remove_person
from daybook.privacy.erasure.plan import (
    ERASURE_PLAN,
    PlanRow,
    add_plan_files,
    list_unfinished,
    parse_address,
    read_plan,
    remove_from_plan,
    write_plan,
)
from daybook.privacy.erasure.subjects import (
    ERASED_TABLE,
    PSEUDONYM_COLUMN,
    RowAddress,
    SubjectFinder,
    collect_personal_values,
    load_erased_pseudonyms,
    table_uri,
)
from daybook.privacy.erasure.verify import (
    SearchResult,
    SearchTerms,
    build_search_terms,
    contains_any,
    raw_row_matches,
    replace_in_raw_row,
    replace_values,
    search_files,
    search_landing,
)
from daybook.privacy.redactor import Redactor
from daybook.privacy.rekey import require_keys
from daybook.records.archive import Archive, current_timestamp, serialize_record
from daybook.settings import Settings, daybook_home, project_root
from daybook.sources import load_source
from daybook.sources.compression import unpack_limits
from daybook.sources.files import read_blocks
from daybook.storage import Store

NoteDates = Callable[[Lake, Iterable[date]], None]
"""Has gold of order dates computed again by whichever run comes next: ``daybook.notebook.stale_dates.mark_stale_dates``."""
RELEASES = "quarantine.releases"
"""Rows that people have let out of quarantine, with their repairs; see ``daybook.notebook.releases``."""
_BY = "erasure"
_NAMING_CLASSES = ("name", "email", "phone", "address")
"""Classes of personal values that name a person in free text."""
_DAMAGE_ERRORS = (pa.ArrowException, DeltaError, LakeError, OSError)
"""Errors of a table whose files or log are damaged."""
_ADDRESS_TYPES = {"_source_file": pa.string(), "_row_number": pa.int64()}
_MAX_NAME_WORDS = 4
"""Words; a value of more is a sentence, whose words are anybody's."""


@dataclass
class ErasureResult:
    """What an erasure did, or would do. ``record`` is where the record lies, once it does."""

    pseudonyms: list[str]
    before: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of the person, by table."""
    also: dict[str, int] = field(default_factory=dict)
    """Rows whose free text named the person, by column."""
    stale_dates: int = 0
    files_removed: int = 0
    proof: SearchResult = field(default_factory=SearchResult)
    landing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Landing files that could not be searched to their end, with the reason."""
    record: Optional[str] = None

    @property
    def is_verified(self) -> bool:
        """Whether every file was searched, and none of Daybook's holds the person."""
        return self.proof.holds and not self.unreadable

    def expected(self) -> dict[str, Any]:
        """Return what would change, as scripts read it."""
        return {**self._common(), "found": self.proof.found}

    def told(self) -> dict[str, Any]:
        """Return the result as records and scripts read it."""
        return {
            **self._common(),
            "old_files_removed": self.files_removed,
            "files_searched": self.proof.files,
            "proved": self.is_verified,
            "landing_files_with_the_person": self.landing,
            "landing_files_not_searched": self.unreadable,
        }

    def _common(self) -> dict[str, Any]:
        return {
            "pseudonyms": self.pseudonyms,
            "again": self.before,
            "rows": self.rows,
            "also": self.also,
            "order_dates_noted": self.stale_dates,
            "not_searched": self.proof.unsearched,
        }


Confirm = Callable[[ErasureResult], None]
"""Called with what an erasure would change, before it does; ends the erasure by an exception."""


def erase(
    settings: Settings, person: str, why: str, note: NoteDates, also: Iterable[str] = (), confirm: Confirm = lambda _: None
) -> ErasureResult:
    """Erase the person whom the source calls so. Raises ``UsageError`` for a person nothing is known of.

    ``also`` names columns of free text, ``table.column``, in which the person's values are replaced in every row.
    """
    keys = load_keys(settings.pii_key)
    return _Erasure(settings, keys, {apply_keys(keys, person, 0)}, person, why, note, also).run(confirm)


def erase_again(settings: Settings, why: str, note: NoteDates, confirm: Confirm = lambda _: None) -> ErasureResult:
    """Go through everybody who was erased once more: what has landed since, and what a killed erasure has left."""
    root = settings.lake
    gone = load_erased_pseudonyms(root) | list_unfinished(root)
    if not gone:
        raise UsageError(f"Nobody was erased from {root}; give --customer ID.")
    return _Erasure(settings, load_keys(settings.pii_key), gone, None, why, note).run(confirm)


class _Change(NamedTuple):
    """How the rows of one partition of a table change; of a whole table where ``partition`` is None."""

    table: StoredTable
    partition: Optional[str]
    change: Callable[[pa.Table], Optional[pa.Table]]

    def apply(self, *, dry_run: bool = False) -> None:
        only = None if self.partition is None else {self.partition}
        rewrite_partitions(self.table, self.change, by=_BY, partitions=only, dry_run=dry_run)


class _Erasure:
    """One try of an erasure."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        gone: set[str],
        person: Optional[str],
        why: str,
        note: NoteDates,
        also: Iterable[str] = (),
    ) -> None:
        require_keys(settings.lake, keys, settings.env)
        self.settings, self.keys, self.gone, self.person, self.why = settings, keys, gone, person, why
        self.note = note
        self._ids = frozenset({person} if person else ())
        self.root = settings.lake
        self.source = load_source(settings.source)
        self.encodings = sorted({each for name in self.source.entities for each in self.source.encodings(name)})
        self.done = ErasureResult(sorted(gone))
        self._broken: dict[str, str] = {}
        self.tables = list(self._whole(list_tables(self.root)))
        self.salt = secrets.token_hex(16)
        self.begun = current_timestamp()
        self.addresses: dict[str, dict[RowAddress, str]] = {}
        self.also = list(also)
        self._counts: dict[str, int] = {}
        self._also: dict[str, int] = {}
        self._digests: dict[str, str] = {}

    def run(self, confirm: Confirm) -> ErasureResult:
        planned = read_plan(self.root, self.gone)
        told = [json.loads(row["told"]) for row in planned if row.get("told")]
        known = load_erased_pseudonyms(self.root) & self.gone
        self.done.before = self.gone <= known and not planned
        self._find_rows(planned)
        before = [name for each in told for name in each["named"]]
        self._has_new_columns = not set(self.also) <= set(before)
        self.also = list(dict.fromkeys([*self.also, *before]))
        self.free = find_free_text_columns(self.also, self.tables, self.source)
        model = list(self._model_tables())
        if not any(self.addresses.values()) and not model and not planned and not known:
            raise UsageError(f"No customer of that id is known to params/{self.settings.env}.yaml; nothing was changed.")
        needles = self._build_terms()
        changes = self._preview(needles, model)
        begun = any(self.addresses.values()) or bool(model or planned or self.done.also) or known != self.gone
        dates = self._stale_dates() if begun else set()
        self.done.stale_dates = max([len(dates), *(each["order_dates"] for each in told)])
        for each in told:
            self.begun = min(self.begun, each["begun"])
            for counts, earlier in ((self.done.rows, each["rows"]), (self.done.also, each["also"])):
                counts.update({name: max(number, counts.get(name, 0)) for name, number in earlier.items()})
        # The person's values are known now and never again: what holds them is noted before they go.
        outside = self._search(self._places_outside_lake(), needles) if begun and not planned else SearchResult()
        self.done.proof = outside
        confirm(self.done)
        if begun:
            self._write_plan(planned, known, outside)
            self.note(Lake(self.root, run_id=_BY), dates)
            self._apply_changes(changes)
        self._verify(needles)
        if not self.done.proof.found:
            self._record(needles)
        return self.done

    def _find_rows(self, planned: list[PlanRow]) -> None:
        for user in ["", *Store(self.root).list_folders("dev")]:
            with self._require_readable("bronze and quarantine"):
                finder = SubjectFinder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
                found = finder.find_rows(self.gone)
                if self.person is None:
                    found.update({each: sorted(self.gone)[0] for each in finder.find_rows_of_erased() if each not in found})
            self.addresses[user] = found
        for row in planned:
            self.salt = row["salt"]
            if row["entity"] is not None:
                self.addresses.setdefault(row["development"], {}).setdefault(parse_address(row), row[PSEUDONYM_COLUMN])
        # What the first try was told, without the values that only it could know.
        self.why = next((row["why"] for row in planned if row.get("why")), self.why)

    def _whole(self, tables: Iterable[StoredTable]) -> Iterator[StoredTable]:
        """The tables that can be opened. A damaged one of the model is reported, and left as it is."""
        for table in tables:
            try:
                require_intact_log(table)
                table.open()
            except _DAMAGE_ERRORS as error:
                if table.layer in (*RESTRICTED_LAYERS, "control"):
                    raise self._unreadable_error(_display_name(table), error) from error
                self._report(table, error)
            else:
                yield table

    @contextmanager
    def _require_readable(self, what: str) -> Iterator[None]:
        """Refuse to erase where nobody can tell which rows are the person's."""
        try:
            yield
        except (*_DAMAGE_ERRORS, EngineError) as error:
            raise self._unreadable_error(what, error) from error

    def _unreadable_error(self, what: str, error: BaseException) -> LakeError:
        return LakeError(
            f"{what} in {self.root} could not be read ({format_reason(error)}), so nothing was erased; restore the damaged file or "
            "run its date again, then erase again."
        )

    def _report(self, table: StoredTable, error: BaseException) -> None:
        self._broken.setdefault(table.uri, format_reason(error))

    def _preview(self, needles: SearchTerms, model: list[tuple[StoredTable, set[str]]]) -> list[_Change]:
        """The changes of all tables in the order in which they are made, counted and without those of damaged tables."""
        changes: list[_Change] = []
        # Releases are made out to the text of landed rows: they change before bronze loses free text, and after it is blanked.
        releases_first = sorted(self.tables, key=lambda each: each.full_name != RELEASES)
        for part, tables in ((self._plan_free_text, releases_first), (self._plan_masking, self.tables)):
            for table in tables:
                try:
                    changes += part(table, needles)
                except _DAMAGE_ERRORS as error:
                    self._report(table, error)
        for table, partitions in model:
            taken_out = partial(self._remove_person, table)
            changes += [_Change(table, each, taken_out) for each in sorted(partitions)] or [_Change(table, None, taken_out)]
        whole = []
        for each in changes:
            try:
                each.apply(dry_run=True)
            except _DAMAGE_ERRORS as error:
                self._report(each.table, error)
            else:
                whole.append(each)
        self.done.rows, self.done.also = dict(self._counts), dict(self._also)
        return whole

    def _apply_changes(self, changes: list[_Change]) -> None:
        for table in self.tables:
            if table.layer in RESTRICTED_LAYERS:
                upgrade_table(table)
        for each in changes:
            if each.table.layer not in RESTRICTED_LAYERS:
                upgrade_table(each.table)
            each.apply()
        self.done.files_removed += remove_orphan_files(self.root)
        for table in self._whole(list_tables(self.root)):
            try:
                self.done.files_removed += remove_history(table)
            except _DAMAGE_ERRORS as error:
                self._report(table, error)

    def _build_terms(self) -> SearchTerms:
        """What to look for: the id, its pseudonyms under every generation of keys, and the values of the person's rows."""
        values: set[str] = set()
        naming: set[str] = set()
        for table in self.tables:
            mine = self._addresses_in(table)
            if mine:
                with self._require_readable(_display_name(table)):
                    rows = _read_rows(table, {each.run_date for each in mine})
                theirs = rows.filter(pa.array(_match_addresses(rows, mine), pa.bool_()))
                values |= collect_personal_values(self.source, table.name, theirs)
                naming |= collect_personal_values(self.source, table.name, theirs, _NAMING_CLASSES)
        # A column that an earlier try began with lost the values before bronze was blanked.
        if self._has_new_columns and not naming:
            naming = self._find_landed_values()
            values |= naming
        self.why = _mask_reason(self.why, values | self._ids | self.gone)
        others: set[str] = set()
        for user in self.addresses:
            finder = SubjectFinder(Lake(self.root, development=user), self.source, self.keys, self.settings.timezone)
            others.update(finder.list_values_of_others(self.gone))
        pseudonyms = set(self.gone)
        if self.person:
            pseudonyms |= {apply_keys(self.keys[:number], self.person, 0) for number in range(1, len(self.keys) + 1)}
        delimiters = {self.source.delimiter, *(each.delimiter or "" for each in self.source.entities.values())}
        needles = build_search_terms(pseudonyms, self._ids, values, others, "".join(sorted(delimiters)))
        # A number in a product's name is a size or a year before it is a postal code.
        words = {each for each in needles.personal & {value.strip() for value in naming} if not each.isdigit()}
        return replace(needles, free=needles.everywhere | words if self.free else frozenset())

    def _find_landed_values(self) -> set[str]:
        """The values that name the person in the newest landing files with any: bronze has none of who was erased before."""
        store = Store(self.settings.landing)
        for day in sorted(Lake(self.root).partitions(f"bronze.{self.source.primary}"), reverse=True):
            landing = {name: self._read_landed(store, name, day) for name in self.source.entities}
            finder = SubjectFinder(Lake(self.root), self.source, self.keys, self.settings.timezone, landing, day)
            found = finder.find_rows(self.gone, day=day)
            values: set[str] = set()
            for name, rows in landing.items():
                mine = [each for each in found if each.entity == name]
                if mine:
                    rows = rows.append_column(PARTITION_COLUMN, pa.array([day] * rows.num_rows, pa.date32()))
                    theirs = rows.filter(pa.array(_match_addresses(rows, mine), pa.bool_()))
                    values |= collect_personal_values(self.source, name, theirs, _NAMING_CLASSES)
            if values:
                return values
        raise UsageError(
            "--also finds nothing: the person was erased before, and no landing file holds the values any more; correct the "
            "texts at the source and run their dates again."
        )

    def _read_landed(self, store: Store, entity: str, day: date) -> pa.Table:
        """The rows of an entity's landing files; of files that cannot be read, none."""
        nothing = pa.table({name: pa.array([], kind) for name, kind in _ADDRESS_TYPES.items()})
        try:
            blocks = list(read_blocks(store, self.source, entity, day, [], limits=unpack_limits(self.settings)))
        except LandingError:
            return nothing  # The search of landing lists it.
        return pa.concat_tables(blocks or [nothing], promote_options="default")

    def _addresses_in(self, table: StoredTable) -> list[RowAddress]:
        """The person's rows in a table, by what bronze and quarantine each say themselves."""
        found = self.addresses.get(table.development, {})
        return [each for each in found if (each.layer, each.entity) == (table.layer, table.name)]

    def _model_tables(self) -> Iterator[tuple[StoredTable, set[str]]]:
        """The tables of the model that hold the pseudonym, with the partitions that do."""
        own = (ERASED_TABLE, ERASURE_PLAN)
        for table in self.tables:
            held = sorted(matching_columns(table.columns, pseudonym_columns()))
            if table.full_name in own or not held:
                continue
            hits = [pc.field(each).isin(sorted(self.gone)) for each in held]
            condition = hits[0]
            for each in hits[1:]:
                condition = condition | each
            by = list(table.open().metadata().partition_columns)
            try:
                rows = open_dataset(table.open()).to_table(columns=[*by, *held], filter=condition)
            except _DAMAGE_ERRORS as error:
                self._report(table, error)
                continue
            if rows.num_rows:
                yield table, {str(value) for value in rows.column(by[0]).to_pylist()} if by else set()

    def _write_plan(self, planned: list[PlanRow], known: set[str], outside: SearchResult) -> None:
        if not planned:
            told = {
                "begun": self.begun,
                "named": self.also,
                "rows": self.done.rows,
                "also": self.done.also,
                "order_dates": self.done.stale_dates,
            }
            write_plan(self.root, self.salt, self.gone, self.addresses, outside.digests, self.why, json.dumps(told))
        if known != self.gone:
            new = pa.table({PSEUDONYM_COLUMN: sorted(self.gone - known)})
            append_rows(table_uri(self.root, ERASED_TABLE), new, by=_BY, table=ERASED_TABLE)

    def _stale_dates(self) -> set[date]:
        """The order dates of the person. They are noted before the orders lose the person: a try that is killed in between
        leaves the note, or the orders to note."""
        if table_uri(self.root, "silver.orders") in self._broken:
            return set()
        engine = DuckDBEngine(Lake(self.root, run_id=_BY), self.settings.timezone)
        listed = ", ".join(f"'{each}'" for each in sorted(self.gone))
        try:
            return {row[0] for row in engine.rows(f"SELECT order_date FROM silver.orders WHERE customer_key IN ({listed})")}
        except (*_DAMAGE_ERRORS, EngineError) as error:
            # Once it is restored, the next try finds the person there and notes the dates.
            self._broken.setdefault(table_uri(self.root, "silver.orders"), format_reason(error))
            return set()

    def _plan_free_text(self, table: StoredTable, needles: SearchTerms) -> list[_Change]:
        """The changes of free text that the user names, and of releases with repairs of it."""
        if table.full_name == RELEASES:
            entities = {each.name for each in self.free if (each.layer, each.development) == ("bronze", table.development)}
            partitions = {str(part[PARTITION_COLUMN]) for part in table.open().partitions()} if entities else set()
            return [_Change(table, each, partial(self._replace_in_releases, table, needles)) for each in sorted(partitions)]
        if table not in self.free:
            return []
        partitions = find_partitions(table, self.free[table], needles.free)
        return [_Change(table, each or None, partial(self._replace_free_text, table, needles)) for each in sorted(partitions)]

    def _replace_free_text(self, table: StoredTable, needles: SearchTerms, rows: pa.Table) -> Optional[pa.Table]:
        freed, counts = replace_in_columns(rows, matching_columns(rows.column_names, self.free[table]), needles.free)
        for column, number in counts.items():
            name = f"{_display_name(table)}.{column}"
            self._also[name] = self._also.get(name, 0) + number
        if table.layer == "bronze":
            for old, new in zip(rows.to_pylist(), freed.to_pylist()) if counts else ():
                if old != new:
                    self._digests[_digest_row(old)] = _digest_row(new)
        return freed if counts else None

    def _replace_in_releases(self, table: StoredTable, needles: SearchTerms, rows: pa.Table) -> Optional[pa.Table]:
        released = rows.to_pylist()
        bronze = {each.name: each for each in self.free if (each.layer, each.development) == ("bronze", table.development)}
        for row in released:
            if row["entity"] in bronze:
                repairs = json.loads(row["repairs"])
                for name in matching_columns(repairs, self.free[bronze[row["entity"]]]):
                    repairs[name] = replace_values(repairs[name], needles.free, ERASED_MARK)
                if repairs != json.loads(row["repairs"]):
                    row["repairs"] = json.dumps(repairs, ensure_ascii=False, sort_keys=True)
                row["digest"] = self._digests.get(row["digest"], row["digest"])
        changed = pa.Table.from_pylist(released, rows.schema)
        return None if changed.equals(rows) else changed

    def _plan_masking(self, table: StoredTable, needles: SearchTerms) -> list[_Change]:
        """The changes of the person's landed rows, and of others' that mention the person where anything may stand."""
        if table.layer not in RESTRICTED_LAYERS:
            return []
        mine = self._addresses_in(table)
        meant = self.addresses.get(table.development, {}) if table.full_name == RELEASES else mine
        dates = {each.run_date.isoformat() for each in meant} | _find_dates_mentioning(
            table, needles, self._unstructured_columns(table)
        )
        return [_Change(table, each, partial(self._mask_rows, table, mine, needles)) for each in sorted(dates)]

    def _unstructured_columns(self, table: StoredTable) -> list[str]:
        """Columns with text that may say anything: a row that could not be split, and what people write."""
        if table.full_name == RELEASES:
            return ["repairs", "why"]
        if table.name in self.source.entities:
            return [name for name in table.columns if name == "_raw"]
        return [name for name in table.columns if name != PARTITION_COLUMN]

    def _mask_rows(
        self, table: StoredTable, mine: list[RowAddress], needles: SearchTerms, rows: pa.Table
    ) -> Optional[pa.Table]:
        before = rows
        if table.full_name == RELEASES:
            rows = self._mask_releases(table, needles, rows)
        if mine and rows.num_rows:
            chosen = _match_addresses(rows, mine)
            day = rows.column(PARTITION_COLUMN).to_pylist()[0]
            rows = build_masker(self.source, table.name, self.salt).mask_rows(rows, chosen, day)
        for name in set(self._unstructured_columns(table)) & set(rows.column_names):
            position = rows.schema.get_field_index(name)
            if pa.types.is_string(rows.schema.field(position).type):
                clean = replace_in_raw_row if name == "_raw" else _replace_certain
                values = [None if text is None else clean(text, needles, ERASED_MARK) for text in rows.column(name).to_pylist()]
                rows = rows.set_column(position, rows.schema.field(position), pa.array(values, pa.string()))
        if rows.equals(before):
            return None
        changed = sum(old != new for old, new in zip(before.to_pylist(), rows.to_pylist()))
        self._count(table, changed)
        return rows

    def _mask_releases(self, table: StoredTable, needles: SearchTerms, rows: pa.Table) -> pa.Table:
        """Releases from quarantine, those of the person's rows without values, and made out to the rows as they are now."""
        released = rows.to_pylist()
        found = self.addresses.get(table.development, {})
        for row in released:
            address = RowAddress(row["entity"], row[PARTITION_COLUMN], row["_source_file"], row["_row_number"])
            if address in found or replace(address, layer="quarantine") in found:
                row["repairs"] = build_masker(self.source, address.entity, self.salt).repairs(row["repairs"], address.run_date)
                row["why"] = replace_values(row["why"], needles.all, ERASED_MARK) if row.get("why") else row.get("why")
                row["digest"] = (self._new_digest(table.development, address) if address in found else None) or row["digest"]
        return pa.Table.from_pylist(released, rows.schema)

    def _new_digest(self, development: str, address: RowAddress) -> Optional[str]:
        """The digest of a landed row as it is now."""
        dataset = Lake(self.root, development=development).dataset(f"bronze.{address.entity}")
        if dataset is None:
            return None
        at = (pc.field("_source_file") == address.file) & (pc.field("_row_number") == address.number)
        rows = dataset.to_table(filter=at & (pc.field(PARTITION_COLUMN) == pa.scalar(address.run_date))).to_pylist()
        return _digest_row(rows[0]) if rows else None

    def _remove_person(self, table: StoredTable, rows: pa.Table) -> Optional[pa.Table]:
        told = remove_person(table.name, rows, self.gone)
        if told is None:
            return None
        self._count(table, told[1])
        return told[0]

    def _count(self, table: StoredTable, rows: int) -> None:
        self._counts[_display_name(table)] = self._counts.get(_display_name(table), 0) + rows

    def _places_outside_lake(self) -> dict[str, str]:
        """Where files may hold the person that no step of an erasure changes."""
        home = daybook_home()
        places = {name: str(home / name) for name in ("logs", "executions", "scratch")}
        # Notebooks of the checkout, with saved outputs, and the copies that JupyterLab keeps of them.
        notebooks = str(project_root() / "notebooks")
        return {"archive": self.settings.archive, "report": self.settings.report, **places, "notebooks": notebooks}

    def _search(self, places: dict[str, str], needles: SearchTerms, held: Iterable[tuple[str, str]] = ()) -> SearchResult:
        return search_files(
            places,
            needles,
            self._personal_columns(),
            self._allowed(needles),
            held=set(held),
            limits=unpack_limits(self.settings),
            encodings=self.encodings,
            free={f"{table.uri}/": frozenset(map(column_key, columns)) for table, columns in self.free.items()},
        )

    def _personal_columns(self) -> set[str]:
        return set(pseudonym_columns()).union(*self.source.personal_columns().values())

    def _allowed(self, needles: SearchTerms) -> dict[str, frozenset[str]]:
        """What may stand in which files: the list of the erased, the plan, and records of erasures."""
        gone = frozenset(self.gone)
        return {
            table_uri(self.root, ERASED_TABLE): gone,
            # Names of files stand in the plan; it goes when the proof holds.
            table_uri(self.root, ERASURE_PLAN): needles.everywhere,
            Store(self.settings.archive).href("erasures/"): needles.everywhere & {*gone, *self._earlier_pseudonyms()},
        }

    def _verify(self, needles: SearchTerms) -> None:
        held = {(row["held_by"], row["sha256"]) for row in read_plan(self.root, self.gone) if row.get("held_by")}
        proof = self._search({"lake": self.root, **self._places_outside_lake()}, needles, held)
        proof.unsearched.update(self._broken)
        self.done.proof = proof
        new = {name: digest for name, digest in proof.digests.items() if (name, digest) not in held}
        add_plan_files(self.root, self.salt, self.gone, new)
        if self.person:
            # Whoever asks by pseudonym has nothing to look for in files that hold none.
            wanted = SearchTerms(needles.everywhere, self._ids)
            found = search_landing(self.settings.landing, wanted, unpack_limits(self.settings), self.encodings)
            self.done.landing, self.done.unreadable = found

    def _earlier_pseudonyms(self) -> set[str]:
        """The person's pseudonyms under earlier generations of keys, which earlier records of erasures hold."""
        return {apply_keys(self.keys[:number], self.person, 0) for number in range(1, len(self.keys))} if self.person else set()

    def _record(self, needles: SearchTerms) -> None:
        archive = Archive(self.settings.archive)
        key = self._record_key(self.begun)
        told = {
            "record": "erasure",
            "key_generation": len(self.keys),
            "env": self.settings.env,
            "by": getpass.getuser(),
            "why": self.why,
            "at": current_timestamp(),
            **self.done.told(),
            "tables": {_display_name(each): each.open().version() for each in self._whole(list_tables(self.root))},
        }
        for name in ("not_searched", "landing_files_with_the_person", "landing_files_not_searched"):
            # Names of files may hold the person.
            told[name] = json.loads(replace_values(json.dumps(told[name], ensure_ascii=False), needles.all, ERASED_MARK))
        if archive.store.exists(key):
            # A try that was killed before it removed the plan has written it, unless it was about others.
            if json.loads(archive.store.read(key))["pseudonyms"] != self.done.pseudonyms:
                key = self._record_key(current_timestamp())
                archive.store.create(key, serialize_record(told))
        else:
            archive.store.create(key, serialize_record(told))
        self.done.record = archive.store.href(key)
        remove_from_plan(self.root, self.gone)

    def _record_key(self, at: str) -> str:
        return f"erasures/{at.replace(':', '-')}-{self.done.pseudonyms[0]}.json"


def _display_name(table: StoredTable) -> str:
    return f"dev/{table.development}/{table.full_name}" if table.development else table.full_name


def _digest_row(row: Mapping[str, Any]) -> str:
    """The digest of a landed row's text, as releases are made out to (``daybook.notebook.releases.digest_sql``)."""
    technical = ("_source_file", "_row_number", "_run_id", PARTITION_COLUMN)
    landed = {column_key(name): text for name, text in row.items() if name not in technical and text is not None}
    texts = [f"{key}={landed[key]}" for key in sorted(landed)]
    return hashlib.md5("\x1f".join(texts).encode(), usedforsecurity=False).hexdigest()


def _read_rows(table: StoredTable, dates: set[date]) -> pa.Table:
    return open_dataset(table.open()).to_table(filter=pc.field(PARTITION_COLUMN).isin(sorted(dates)))


def _match_addresses(rows: pa.Table, mine: list[RowAddress]) -> list[bool]:
    """Which rows are at one of the addresses."""
    places = {(each.run_date, each.file, each.number) for each in mine}
    columns = [rows.column(name).to_pylist() for name in (PARTITION_COLUMN, "_source_file", "_row_number")]
    return [place in places for place in zip(*columns)]


def _mask_reason(why: str, values: Iterable[str]) -> str:
    """What whoever erases says about it, without the person: the values, the words of names, and what looks personal."""
    words = {word for value in values for word in [value, *(value.split() if len(value.split()) <= _MAX_NAME_WORDS else ())]}
    return Redactor().text(
        replace_values(why, {word.strip() for word in words if len(word.strip()) > 1} | set(values) - {""}, ERASED_MARK)
    )


def _replace_certain(text: str, needles: SearchTerms, instead: str) -> str:
    return replace_values(text, needles.everywhere, instead)


def _find_dates_mentioning(table: StoredTable, needles: SearchTerms, columns: list[str]) -> set[str]:
    """The partitions in which any of those columns holds the person."""
    found: set[str] = set()
    names = [name for name in columns if name in table.columns]
    for batch in open_dataset(table.open()).scanner(columns=[PARTITION_COLUMN, *names]).to_batches():
        days = batch.column(0).to_pylist()
        for name, column in zip(names, batch.columns[1:]):
            if pa.types.is_string(column.type):
                told = raw_row_matches if name == "_raw" else _mentions_certain
                texts = column.to_pylist()
                found.update(day.isoformat() for day, text in zip(days, texts) if text and told(text, needles))
    return found


def _mentions_certain(text: str, needles: SearchTerms) -> bool:
    return contains_any(text, needles.everywhere)
