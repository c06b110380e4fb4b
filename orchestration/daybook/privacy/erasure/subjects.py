"""Find the landed rows of persons with the ``people`` expressions of a source.

The expression of an entity returns the id of the person of a row. It may join other entities, whose rows can have landed on any
date. A row that joins a masked row belongs to an erased person, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.contracts.canonical import subject_column
from daybook.contracts.columns import find_column, matching_columns
from daybook.engines import DuckDBEngine
from daybook.errors import LandingError, UsageError
from daybook.lake.rewrite import read_table
from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.privacy import ERASED_PREFIX, Keys, pseudonym_function
from daybook.settings import Settings
from daybook.sources import Source
from daybook.sources.compression import unpack_limits
from daybook.sources.files import read_blocks
from daybook.sources.mapping import literal, quote, typed_sql
from daybook.storage import Store

_ADDRESS = f"{RUN_DATE_COLUMN}, _source_file, _row_number"
_NO_ROWS = (
    f"(SELECT NULL::DATE AS {RUN_DATE_COLUMN}, NULL::VARCHAR AS _source_file, NULL::BIGINT AS _row_number) AS n WHERE FALSE"
)

ERASED_TABLE = "control.erased"
"""Pseudonyms of erased persons, with which ingest masks their rows in later landings."""


@dataclass(frozen=True)
class RowAddress:
    """Address of a landed row, with which it is found after its values are masked."""

    entity: str
    run_date: date
    file: str
    number: int
    layer: str = "bronze"
    """Bronze or quarantine. Their rows differ if a file was ingested again and not validated yet."""


def load_erased_pseudonyms(root: str) -> set[str]:
    """Return the pseudonyms of erased persons, in the lake's generation of keys."""
    rows = read_table(table_uri(root, ERASED_TABLE))
    return set() if rows is None else set(rows.column(subject_column()).to_pylist())


def table_uri(root: str, table: str) -> str:
    """Return the URI of a published table of the lake."""
    return Lake(root).uri(table)


class SubjectFinder:
    """Find rows of persons in bronze and quarantine, and in a landing before it is written to bronze."""

    def __init__(
        self,
        lake: Lake,
        source: Source,
        keys: Keys,
        timezone: str,
        landing: Mapping[str, pa.Table] = {},
        days: Collection[date] = (),
    ) -> None:
        """Prepare the views. The rows in ``landing``, which have their date, replace those of ``days`` in bronze."""
        if not source.people:
            raise UsageError(
                f"params/sources/{source.name}.yaml has no key people; add it with, for each entity with rows of persons, "
                f"the SQL for the id from which {subject_column()} is made."
            )
        self.source = source
        self._engine = DuckDBEngine(lake, timezone)
        self._engine.add_text_function("pseudonym", pseudonym_function(keys))
        self._views = {(name, "bronze"): name for name in source.people}
        for name in source.entities:
            relations = self._find_relation(f"bronze.{name}", days)
            if days:
                self._engine.register(f"_landing_{name}", landing[name])
                relations[f"_landing_{name}"] = landing[name].column_names
            self._engine.define(name, _entity_sql(source, name, relations))
        for name in () if days else source.people:
            if relations := self._find_relation(f"quarantine.{name}", ()):
                view = self._views[name, "quarantine"] = f"_quarantine_{name}"
                self._engine.define(view, _entity_sql(source, name, relations))

    def _find_relation(self, table: str, excluded: Collection[date]) -> dict[str, list[str]]:
        """Return SQL for the rows of a table, except those of some days, with the table's columns; empty if there is none."""
        if not self._engine.lake.exists(table):
            return {}
        where = f" WHERE {RUN_DATE_COLUMN} NOT IN ({_list_dates(excluded)})" if excluded else ""
        return {f"{table}{where}": list(self._engine.query(f"SELECT * FROM {table} LIMIT 0").columns)}

    def find_rows(self, pseudonyms: Iterable[str], *, days: Collection[date] = ()) -> dict[RowAddress, str]:
        """Return the rows of some pseudonyms, each with its pseudonym, of some business dates or all.

        Without a landing, rows of quarantine are included.
        """
        listed = ", ".join(literal(each) for each in sorted(pseudonyms))
        return self._select_rows(f"_person IN ({listed})", days) if listed else {}

    def find_rows_of_erased(self, *, days: Collection[date] = ()) -> list[RowAddress]:
        """Return rows of erased persons with personal values, which landed after the erasure."""
        return list(self._select_rows(f"_id LIKE '{ERASED_PREFIX}%' AND _personal", days))

    def list_values_of_others(self, pseudonyms: Iterable[str]) -> Iterable[str]:
        """Yield every personal value and whole name of all persons with other pseudonyms."""
        listed = ", ".join(literal(each) for each in sorted(pseudonyms)) or "''"
        for (name, _), view in self._views.items():
            columns = [f"CAST({quote(column)} AS VARCHAR)" for column in sorted(self.source.personal_columns()[name])]
            names = ", ".join(quote(column) for column in list_name_columns(self.source, name))
            columns += [f"concat_ws(' ', {names})"] if names else []
            if columns:
                listed_columns = ", ".join(f"{column} AS v{number}" for number, column in enumerate(columns))
                # One query, since the pseudonym of every row takes most of the time.
                persons = f"SELECT {listed_columns} FROM ({self._persons_sql(name, view)}) AS p WHERE _person NOT IN ({listed})"
                for values in self._engine.arrow(persons).columns:
                    yield from (value for value in pc.unique(values).to_pylist() if value)

    def _select_rows(self, condition: str, days: Collection[date]) -> dict[RowAddress, str]:
        if days:
            condition = f"{RUN_DATE_COLUMN} IN ({_list_dates(days)}) AND {condition}"
        found: dict[RowAddress, str] = {}
        for (name, layer), view in self._views.items():
            persons = self._persons_sql(name, view)
            rows = self._engine.rows(f"SELECT {_ADDRESS}, _person FROM ({persons}) AS p WHERE {condition}")
            found.update({RowAddress(name, day, file, number, layer): person for day, file, number, person in rows})
        return found

    def _persons_sql(self, name: str, view: str) -> str:
        """Return SQL for the rows of a view with their person. The expression refers to the view by the entity's name."""
        columns = (f"CAST({quote(column)} AS VARCHAR)" for column in sorted(self.source.personal_columns()[name]))
        personal = " OR ".join(f"(coalesce({each}, '') <> '' AND {each} NOT LIKE '{ERASED_PREFIX}%')" for each in columns)
        person_id = f"CAST({self.source.people[name]} AS VARCHAR)"
        inner = f"SELECT *, {person_id} AS _id, {personal or 'FALSE'} AS _personal FROM {quote(view)} AS {quote(name)}"
        return f"SELECT *, pseudonym(_id) AS _person FROM ({inner}) AS i"


def _list_dates(days: Collection[date]) -> str:
    return ", ".join(f"DATE '{day}'" for day in sorted(days))


def match_addresses(rows: pa.Table, addresses: Iterable[RowAddress]) -> list[bool]:
    """Return for each row whether it is at one of the addresses."""
    places = {(each.run_date, each.file, each.number) for each in addresses}
    columns = [rows.column(name).to_pylist() for name in (RUN_DATE_COLUMN, "_source_file", "_row_number")]
    return [place in places for place in zip(*columns)]


def find_landed_values(
    settings: Settings, source: Source, keys: Keys, pseudonyms: Iterable[str], kinds: Collection[str]
) -> set[str]:
    """Return the values of some classes in persons' rows of the newest landing files with such rows.

    Bronze has no values of persons who were erased before.
    """
    store, lake = Store(settings.landing), Lake(settings.lake)
    for day in sorted(lake.run_dates(f"bronze.{source.primary}"), reverse=True):
        landing = {name: _read_landed_rows(settings, store, source, name, day) for name in source.entities}
        addresses = SubjectFinder(lake, source, keys, settings.timezone, landing, [day]).find_rows(pseudonyms, days=[day])
        values: set[str] = set()
        for name, rows in landing.items():
            chosen = [each for each in addresses if each.entity == name]
            if chosen:
                theirs = rows.filter(pa.array(match_addresses(rows, chosen), pa.bool_()))
                values |= collect_personal_values(source, name, theirs, kinds)
        if values:
            return values
    return set()


def _read_landed_rows(settings: Settings, store: Store, source: Source, entity: str, day: date) -> pa.Table:
    """Return the rows in an entity's landing files, with their date; none if a file cannot be read."""
    nothing = pa.table({"_source_file": pa.array([], pa.string()), "_row_number": pa.array([], pa.int64())})
    try:
        blocks = list(read_blocks(store, source, entity, day, [], limits=unpack_limits(settings)))
    except LandingError:
        blocks = []  # The search of landing reports the file.
    rows = pa.concat_tables(blocks or [nothing], promote_options="default")
    return rows.append_column(RUN_DATE_COLUMN, pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows))


def collect_personal_values(source: Source, entity: str, rows: pa.Table, kinds: Optional[Collection[str]] = None) -> set[str]:
    """Return the personal values in landed rows of an entity, of all classes or of ``kinds``, and whole names."""
    found: set[str] = set()
    columns = source.entities[entity].columns
    personal = [name for name, spec in columns.items() if spec.pii and (kinds is None or spec.pii in kinds)]
    for name in matching_columns(rows.column_names, personal):
        texts = [str(each) for each in rows.column(name).to_pylist() if each]
        found.update(each for each in texts if not each.startswith(ERASED_PREFIX))
    stored = [each for name in list_name_columns(source, entity) for each in matching_columns(rows.column_names, [name])]
    names = [rows.column(name).to_pylist() for name in stored]
    return (found | {" ".join(filter(None, parts)) for parts in zip(*names)}) - {""}


def list_name_columns(source: Source, entity: str) -> list[str]:
    """Return the columns of a person's whole name, in their order in the landing contract."""
    return [name for name, column in source.entities[entity].columns.items() if column.pii == "name"]


def _entity_sql(source: Source, name: str, relations: Mapping[str, list[str]]) -> str:
    """Return SQL for the landed rows of an entity, typed as in its mapping, with their addresses.

    ``relations`` are what the rows are selected from, with its columns. A column that it lacks is NULL.
    """
    columns = source.entities[name].columns
    selects = []
    for relation, stored in (relations or {_NO_ROWS: []}).items():
        found = ((column, find_column(stored, column)) for column in columns)
        texts = (f"CAST({quote(each) if each else 'NULL'} AS VARCHAR) AS {quote(column)}" for column, each in found)
        selects.append(f"SELECT {', '.join(texts)}, {_ADDRESS} FROM {relation}")
    typed = (f"{typed_sql(column, spec, source.null_values)} AS {quote(column)}" for column, spec in columns.items())
    return f"SELECT {', '.join(typed)}, {_ADDRESS} FROM ({' UNION ALL '.join(selects)}) AS landed"
