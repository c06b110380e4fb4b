"""Erase a person in steps, so that a later try can finish a killed one.

1. Read everything and write nothing: compute the changes, and find files outside the lake with values of the person.
2. Write the plan with the addresses of the person's rows and the files, and add the pseudonym to the list of the erased.
3. Mark the person's order dates as stale, so that the next run computes their gold again.
4. Replace the person's values in columns of free text that the user names. After the next step they are not known.
5. Mask values in bronze and quarantine, in one commit per date. The rows are kept.
6. Remove the pseudonym from all other tables, in one commit per table or date.
7. Remove candidates, old versions and log entries.
8. Search every file. If a file has a match, add it to the plan, and fail.
9. Otherwise write the record and remove the plan.
"""

from __future__ import annotations

import getpass
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.contracts.canonical import business_date_column, business_date_table, subject_column
from daybook.contracts.columns import column_key
from daybook.engines import DuckDBEngine
from daybook.errors import EngineError, LakeError, UsageError
from daybook.lake.delta import open_dataset
from daybook.lake.rewrite import (
    StoredTable,
    list_tables,
    remove_history,
    remove_orphan_files,
    require_intact_log,
    upgrade_table,
    write_rows,
)
from daybook.lake.table_properties import RESTRICTED_LAYERS, pseudonym_columns
from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.privacy import Keys, apply_keys, load_keys
from daybook.privacy.erasure.changes import DAMAGE_ERRORS, ChangePlanner, TableChange
from daybook.privacy.erasure.files import format_reason
from daybook.privacy.erasure.free_text import find_free_text_columns
from daybook.privacy.erasure.plan import (
    ERASURE_PLAN,
    ERASURE_WRITER,
    PlanRow,
    add_plan_files,
    list_unfinished,
    parse_address,
    read_plan,
    remove_from_plan,
    write_plan,
)
from daybook.privacy.erasure.result import Confirm, ErasureResult
from daybook.privacy.erasure.subjects import (
    ERASED_TABLE,
    RowAddress,
    SubjectFinder,
    collect_personal_values,
    find_landed_values,
    load_erased_pseudonyms,
    match_addresses,
    table_uri,
)
from daybook.privacy.erasure.terms import SearchTerms, build_search_terms, mask_reason, replace_values
from daybook.privacy.erasure.verify import SearchResult, search_files, search_landing
from daybook.privacy.rekey import require_keys
from daybook.records.archive import Archive, current_timestamp, serialize_record
from daybook.settings import Settings, daybook_home, project_root
from daybook.sources import load_source
from daybook.sources.compression import unpack_limits
from daybook.storage import Store

MarkStaleDates = Callable[[Lake, Iterable[date]], None]
"""Marks order dates so that the next run computes their gold again: ``daybook.notebook.stale_dates.mark_stale_dates``."""
_NAMING_CLASSES = ("name", "email", "phone", "address")
"""Classes of personal values that name a person in free text."""


def erase(
    settings: Settings,
    person: str,
    why: str,
    mark_stale_dates: MarkStaleDates,
    free_text_columns: Iterable[str] = (),
    confirm: Confirm = lambda _: None,
) -> ErasureResult:
    """Erase a person.

    Parameters
    ----------
    settings
        Settings of the deployment.
    person
        The person's id in the source.
    why
        Reason for the record. Personal data in it is masked.
    mark_stale_dates
        Function that marks order dates for the next run.
    free_text_columns
        Columns of free text, ``table.column``, in which the person's values are replaced in every row.
    confirm
        Function that gets the expected changes before the first write, and can raise.

    Raises
    ------
    UsageError
        If the person is unknown.
    """
    keys = load_keys(settings.pii_key)
    pseudonyms = {apply_keys(keys, person, 0)}
    return _Erasure(settings, keys, pseudonyms, person, why, mark_stale_dates, free_text_columns).run(confirm)


def erase_again(
    settings: Settings, why: str, mark_stale_dates: MarkStaleDates, confirm: Confirm = lambda _: None
) -> ErasureResult:
    """Repeat all earlier erasures for rows that landed since, and finish killed ones; see ``erase``."""
    root = settings.lake
    pseudonyms = load_erased_pseudonyms(root) | list_unfinished(root)
    if not pseudonyms:
        raise UsageError(f"Nobody was erased from {root}; give --customer ID.")
    return _Erasure(settings, load_keys(settings.pii_key), pseudonyms, None, why, mark_stale_dates).run(confirm)


class _Erasure:
    """One try of an erasure."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        pseudonyms: set[str],
        person: Optional[str],
        why: str,
        mark_stale_dates: MarkStaleDates,
        free_text_columns: Iterable[str] = (),
    ) -> None:
        require_keys(settings.lake, keys, settings.env)
        self.settings, self.keys, self.pseudonyms, self.person, self.why = settings, keys, pseudonyms, person, why
        self.mark_stale_dates = mark_stale_dates
        self.root = settings.lake
        self.source = load_source(settings.source)
        self.encodings = sorted({each for name in self.source.entities for each in self.source.encodings(name)})
        self.result = ErasureResult(sorted(pseudonyms))
        self.salt = secrets.token_hex(16)
        self.started_at = current_timestamp()
        self.free_text_columns = list(free_text_columns)
        self._ids = frozenset({person} if person else ())
        self._damaged_tables: dict[str, str] = {}
        self.tables = list(self._readable_tables(list_tables(self.root)))

    def run(self, confirm: Confirm) -> ErasureResult:
        """Preview the changes, confirm and apply them, and verify the result."""
        planned = read_plan(self.root, self.pseudonyms)
        earlier = [json.loads(row["told"]) for row in planned if row.get("told")]
        known = load_erased_pseudonyms(self.root) & self.pseudonyms
        self.result.erased_before = self.pseudonyms <= known and not planned
        self.addresses = self._find_rows(planned)
        # Later tries use the reason of the first, from which only it could remove the person's values.
        self.why = next((row["why"] for row in planned if row.get("why")), self.why)
        named_before = [name for each in earlier for name in each["named"]]
        has_new_columns = not set(self.free_text_columns) <= set(named_before)
        self.free_text_columns = list(dict.fromkeys([*self.free_text_columns, *named_before]))
        self.free_text = find_free_text_columns(self.free_text_columns, self.tables, self.source)
        self.planner = ChangePlanner(
            self.root, self.source, self.tables, self.pseudonyms, self.addresses, self.free_text, self.salt, self._report
        )
        model = list(self.planner.find_model_tables())
        if not any(self.addresses.values()) and not model and not planned and not known:
            raise UsageError(f"No customer of that id is known to params/{self.settings.env}.yaml; nothing was changed.")
        terms = self._build_terms(has_new_columns)
        changes = self.planner.plan(terms, model)
        self.result.rows, self.result.free_text_rows = dict(self.planner.rows), dict(self.planner.free_text_rows)
        has_changes = any([*self.addresses.values(), model, planned, self.result.free_text_rows, known != self.pseudonyms])
        dates = self._find_stale_dates() if has_changes else set()
        self.result.stale_dates = max([len(dates), *(each["order_dates"] for each in earlier)])
        for each in earlier:
            self.started_at = min(self.started_at, each["begun"])
            for counts, before in ((self.result.rows, each["rows"]), (self.result.free_text_rows, each["also"])):
                counts.update({name: max(number, counts.get(name, 0)) for name, number in before.items()})
        # Only the first try knows the person's values, so it finds files with them before it masks them.
        outside = self._search(self._places_outside_lake(), terms) if has_changes and not planned else SearchResult()
        self.result.proof = outside
        confirm(self.result)
        if has_changes:
            self._write_plan(planned, known, outside)
            self.mark_stale_dates(Lake(self.root, run_id=ERASURE_WRITER), dates)
            self._apply_changes(changes)
        self._verify(terms)
        if not self.result.proof.matches:
            self._record(terms)
        return self.result

    def _find_rows(self, planned: list[PlanRow]) -> dict[str, dict[RowAddress, str]]:
        """Return the addresses of the persons' rows by development copy, and take over the salt of the plan."""
        addresses: dict[str, dict[RowAddress, str]] = {}
        for user in ["", *Store(self.root).list_folders("dev")]:
            with self._require_readable("bronze and quarantine"):
                finder = self._finder(user)
                found = finder.find_rows(self.pseudonyms)
                if self.person is None:
                    first = sorted(self.pseudonyms)[0]
                    found.update({each: first for each in finder.find_rows_of_erased() if each not in found})
            addresses[user] = found
        subject = subject_column()
        for row in planned:
            self.salt = row["salt"]
            if row["entity"] is not None:
                addresses.setdefault(row["development"], {}).setdefault(parse_address(row), row[subject])
        return addresses

    def _finder(self, development: str) -> SubjectFinder:
        return SubjectFinder(Lake(self.root, development=development), self.source, self.keys, self.settings.timezone)

    def _readable_tables(self, tables: Iterable[StoredTable]) -> Iterator[StoredTable]:
        """Yield the tables that can be opened. A damaged silver or gold table is reported and left unchanged."""
        for table in tables:
            try:
                require_intact_log(table)
                table.open()
            except DAMAGE_ERRORS as error:
                if table.layer in (*RESTRICTED_LAYERS, "control"):
                    raise self._unreadable_error(table.display_name, error) from error
                self._report(table, error)
            else:
                yield table

    @contextmanager
    def _require_readable(self, what: str) -> Iterator[None]:
        """Raise ``LakeError`` if tables are damaged from which the person's rows are found."""
        try:
            yield
        except (*DAMAGE_ERRORS, EngineError) as error:
            raise self._unreadable_error(what, error) from error

    def _unreadable_error(self, what: str, error: BaseException) -> LakeError:
        return LakeError(
            f"{what} in {self.root} could not be read ({format_reason(error)}), so nothing was erased; restore the damaged "
            "file or run its date again, then erase again."
        )

    def _report(self, table: StoredTable, error: BaseException) -> None:
        self._damaged_tables.setdefault(table.uri, format_reason(error))

    def _build_terms(self, has_new_columns: bool) -> SearchTerms:
        """Return the terms for the id, its pseudonyms under every generation of keys, and the values of the person's rows."""
        values: set[str] = set()
        naming: set[str] = set()
        for table in self.tables:
            addresses = self.planner.addresses_in(table)
            if addresses:
                with self._require_readable(table.display_name):
                    dates = pc.field(RUN_DATE_COLUMN).isin(sorted({each.run_date for each in addresses}))
                    rows = open_dataset(table.open()).to_table(filter=dates)
                theirs = rows.filter(pa.array(match_addresses(rows, addresses), pa.bool_()))
                values |= collect_personal_values(self.source, table.name, theirs)
                naming |= collect_personal_values(self.source, table.name, theirs, _NAMING_CLASSES)
        # An earlier try replaced the values in the columns that it was given before it masked bronze.
        if has_new_columns and not naming:
            naming = find_landed_values(self.settings, self.source, self.keys, self.pseudonyms, _NAMING_CLASSES)
            if not naming:
                raise UsageError(
                    "--also finds nothing: the person was erased before, and no landing file has the values any more; correct "
                    "the texts at the source and run their dates again."
                )
            values |= naming
        self.why = mask_reason(self.why, values | self._ids | self.pseudonyms)
        others = {value for user in self.addresses for value in self._finder(user).list_values_of_others(self.pseudonyms)}
        pseudonyms = self.pseudonyms | self._earlier_pseudonyms()
        delimiters = {self.source.delimiter, *(each.delimiter or "" for each in self.source.entities.values())}
        terms = build_search_terms(pseudonyms, self._ids, values, others, "".join(sorted(delimiters)))
        # In free text, a number is more often a size or a year than a postal code.
        words = {each for each in terms.personal & {value.strip() for value in naming} if not each.isdigit()}
        return replace(terms, free_text=terms.everywhere | words if self.free_text else frozenset())

    def _find_stale_dates(self) -> set[date]:
        """Return the business dates of the person's rows in silver.

        They are marked before the rows lose the person, so that a killed try leaves either the marks or the rows.
        """
        table, subject = business_date_table(), subject_column()
        uri = table_uri(self.root, table.full_name)
        if uri in self._damaged_tables or subject not in table.columns:
            return set()
        engine = DuckDBEngine(Lake(self.root, run_id=ERASURE_WRITER), self.settings.timezone)
        listed = ", ".join(f"'{each}'" for each in sorted(self.pseudonyms))
        try:
            rows = engine.rows(f"SELECT {business_date_column()} FROM {table.full_name} WHERE {subject} IN ({listed})")
            return {row[0] for row in rows}
        except (*DAMAGE_ERRORS, EngineError) as error:
            # After the table is restored, the next try finds the person's rows and marks the dates.
            self._damaged_tables.setdefault(uri, format_reason(error))
            return set()

    def _write_plan(self, planned: list[PlanRow], known: set[str], outside: SearchResult) -> None:
        if not planned:
            result = self.result
            counts = {"begun": self.started_at, "named": self.free_text_columns, "order_dates": result.stale_dates}
            counts.update({"rows": result.rows, "also": result.free_text_rows})
            write_plan(self.root, self.salt, self.pseudonyms, self.addresses, outside.digests, self.why, json.dumps(counts))
        if known != self.pseudonyms:
            new = pa.table({subject_column(): sorted(self.pseudonyms - known)})
            write_rows(table_uri(self.root, ERASED_TABLE), new, mode="append", by=ERASURE_WRITER, table=ERASED_TABLE)

    def _apply_changes(self, changes: list[TableChange]) -> None:
        for table in self.tables:
            if table.layer in RESTRICTED_LAYERS:
                upgrade_table(table)
        for each in changes:
            if each.table.layer not in RESTRICTED_LAYERS:
                upgrade_table(each.table)
            each.apply()
        self.result.files_removed += remove_orphan_files(self.root)
        for table in self._readable_tables(list_tables(self.root)):
            try:
                self.result.files_removed += remove_history(table)
            except DAMAGE_ERRORS as error:
                self._report(table, error)

    def _places_outside_lake(self) -> dict[str, str]:
        """Return the locations outside the lake whose files may have values of the person. They are searched, not changed."""
        home = daybook_home()
        places = {name: str(home / name) for name in ("logs", "executions", "scratch")}
        # Notebooks of the checkout can have saved outputs, and JupyterLab keeps copies of them.
        places["notebooks"] = str(project_root() / "notebooks")
        return {"archive": self.settings.archive, "report": self.settings.report, **places}

    def _search(self, places: dict[str, str], terms: SearchTerms, held: Iterable[tuple[str, str]] = ()) -> SearchResult:
        return search_files(
            places,
            terms,
            set(pseudonym_columns()).union(*self.source.personal_columns().values()),
            self._allowed_terms(terms),
            held=set(held),
            limits=unpack_limits(self.settings),
            encodings=self.encodings,
            free_text_columns={
                f"{table.uri}/": frozenset(map(column_key, columns)) for table, columns in self.free_text.items()
            },
        )

    def _allowed_terms(self, terms: SearchTerms) -> dict[str, frozenset[str]]:
        """Return the terms that may occur in the list of the erased, in the plan and in records of erasures, by location."""
        return {
            table_uri(self.root, ERASED_TABLE): frozenset(self.pseudonyms),
            # The plan has names of files. It is removed after a successful verification.
            table_uri(self.root, ERASURE_PLAN): terms.everywhere,
            Store(self.settings.archive).href("erasures/"): terms.everywhere & {*self.pseudonyms, *self._earlier_pseudonyms()},
        }

    def _verify(self, terms: SearchTerms) -> None:
        held = {(row["held_by"], row["sha256"]) for row in read_plan(self.root, self.pseudonyms) if row.get("held_by")}
        proof = self._search({"lake": self.root, **self._places_outside_lake()}, terms, held)
        proof.unsearched.update(self._damaged_tables)
        self.result.proof = proof
        new = {name: digest for name, digest in proof.digests.items() if (name, digest) not in held}
        add_plan_files(self.root, self.salt, self.pseudonyms, new)
        if self.person:
            # Landing files have ids and no pseudonyms, so they are searched only if the id is known.
            landing_terms = SearchTerms(terms.everywhere, self._ids)
            found = search_landing(self.settings.landing, landing_terms, unpack_limits(self.settings), self.encodings)
            self.result.landing, self.result.unreadable = found

    def _earlier_pseudonyms(self) -> set[str]:
        """Return the person's pseudonyms under earlier generations of keys, which earlier records have."""
        return {apply_keys(self.keys[:number], self.person, 0) for number in range(1, len(self.keys))} if self.person else set()

    def _record(self, terms: SearchTerms) -> None:
        archive = Archive(self.settings.archive)
        key = self._record_key(self.started_at)
        tables = self._readable_tables(list_tables(self.root))
        record: dict[str, Any] = {
            "record": "erasure",
            "key_generation": len(self.keys),
            "env": self.settings.env,
            "by": getpass.getuser(),
            "why": self.why,
            "at": current_timestamp(),
            **self.result.to_record(),
            "tables": {each.display_name: each.open().version() for each in tables},
        }
        # Names of files can contain values of the person.
        for name in ("not_searched", "landing_files_with_the_person", "landing_files_not_searched"):
            record[name] = json.loads(replace_values(json.dumps(record[name], ensure_ascii=False), terms.all))
        # A try that was killed before it removed the plan has written the record, unless it was for other persons.
        exists = archive.store.exists(key)
        if exists and json.loads(archive.store.read(key))["pseudonyms"] != self.result.pseudonyms:
            key, exists = self._record_key(current_timestamp()), False
        if not exists:
            archive.store.create(key, serialize_record(record))
        self.result.record = archive.store.href(key)
        remove_from_plan(self.root, self.pseudonyms)

    def _record_key(self, at: str) -> str:
        return f"erasures/{at.replace(':', '-')}-{self.result.pseudonyms[0]}.json"
