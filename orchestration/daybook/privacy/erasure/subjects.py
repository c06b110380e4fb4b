"""Which landed rows are whose, by the ``people`` expressions of a source.

A row is a person's where its entity's expression gives the person's id. The expression may look into other entities, whose
rows can have landed on any date; a row that is linked through one that was erased is an erased person's too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.contracts.columns import find_column, matching_columns
from daybook.engines import DuckDBEngine
from daybook.errors import UsageError
from daybook.lake.rewrite import read_table
from daybook.lake.tables import PARTITION_COLUMN, Lake
from daybook.privacy import ERASED_PREFIX, Keys, pseudonym_function
from daybook.sources import Entity, Source
from daybook.sources.mapping import literal, quote, typed_sql

ERASED_TABLE = "control.erased"
"""The pseudonyms of those who were erased, so that a landing that brings them again is not let through."""
PSEUDONYM_COLUMN = "customer_key"


@dataclass(frozen=True)
class RowAddress:
    """Where a landed row stands: enough to find it again once nothing in it says whose it was."""

    entity: str
    run_date: date
    file: str
    number: int
    layer: str = "bronze"
    """Bronze or quarantine, whose rows are of different moments where a file came again and was not validated yet."""


def load_erased_pseudonyms(root: str) -> set[str]:
    """The pseudonyms of those who were erased, of the lake's generation of keys."""
    rows = read_table(table_uri(root, ERASED_TABLE))
    return set() if rows is None else set(rows.column(PSEUDONYM_COLUMN).to_pylist())


def table_uri(root: str, table: str) -> str:
    """Where a published table of the lake lies."""
    return Lake(root).uri(table)


class SubjectFinder:
    """The rows of persons among those that have landed: in bronze, and in a landing that is not there yet."""

    def __init__(
        self,
        lake: Lake,
        source: Source,
        keys: Keys,
        timezone: str,
        landing: Optional[Mapping[str, pa.Table]] = None,
        day: Optional[date] = None,
    ) -> None:
        """``landing`` are the rows of ``day``, which count instead of those that bronze has for that day."""
        if not source.people:
            raise UsageError(
                f"params/sources/{source.name}.yaml does not say whose a row is; add the key people: for each entity with rows "
                "of persons, the SQL that gives the id that customer_key is made of."
            )
        self.source = source
        self._engine = DuckDBEngine(lake, timezone)
        self._engine.add_text_function("pseudonym", pseudonym_function(keys))
        for name, entity in source.entities.items():
            if landing is not None:
                self._engine.register(f"_landing_{name}", landing[name])
            stored = self._stored_columns(f"bronze.{name}")
            self._engine.define(name, _entity_sql(source, name, entity, stored, landing, day))
        self._layers = {name: {"bronze": name} for name in source.people}
        if landing is None:
            for name in source.people:
                stored = self._stored_columns(f"quarantine.{name}")
                if stored is not None:
                    self._layers[name]["quarantine"] = f"_quarantine_{name}"
                    sql = _entity_sql(source, name, source.entities[name], stored, None, None, layer="quarantine")
                    self._engine.define(f"_quarantine_{name}", sql)

    def _stored_columns(self, table: str) -> Optional[list[str]]:
        """The columns of a stored table as SQL sees them; None without such a table."""
        if not self._engine.lake.exists(table):
            return None
        return list(self._engine.query(f"SELECT * FROM {table} LIMIT 0").columns)

    def find_rows(self, wanted: Iterable[str], *, day: Optional[date] = None) -> dict[RowAddress, str]:
        """The rows of the wanted pseudonyms, each with whose it is, on one business date or all; without a landing those of
        quarantine too, each by what it says itself.
        """
        listed = ", ".join(literal(each) for each in sorted(wanted))
        return self._where(f"_person IN ({listed})", day) if listed else {}

    def find_rows_of_erased(self, *, day: Optional[date] = None) -> list[RowAddress]:
        """Rows that belong to one that was erased and still hold something personal themselves: they came in later."""
        return list(self._where(f"_id LIKE '{ERASED_PREFIX}%' AND _personal", day))

    def list_values_of_others(self, wanted: Iterable[str]) -> Iterable[str]:
        """Every personal value that is some other known person's, and their whole names."""
        listed = ", ".join(literal(each) for each in sorted(wanted)) or "''"
        for name, view in ((name, view) for name, layers in self._layers.items() for view in layers.values()):
            columns = [f"CAST({quote(column)} AS VARCHAR)" for column in sorted(self.source.personal_columns()[name])]
            names = ", ".join(quote(column) for column in list_name_columns(self.source, name))
            columns += [f"concat_ws(' ', {names})"] if names else []
            if columns:
                listed_columns = ", ".join(f"{column} AS v{number}" for number, column in enumerate(columns))
                # One query: the pseudonym of every row is what takes time.
                persons = f"SELECT {listed_columns} FROM ({self._persons_sql(name, view)}) AS p WHERE _person NOT IN ({listed})"
                for values in self._engine.arrow(persons).columns:
                    yield from (value for value in pc.unique(values).to_pylist() if value)

    def _where(self, condition: str, day: Optional[date]) -> dict[RowAddress, str]:
        if day is not None:
            condition = f"{PARTITION_COLUMN} = DATE '{day.isoformat()}' AND {condition}"
        found: dict[RowAddress, str] = {}
        for name, layers in self._layers.items():
            for layer, view in layers.items():
                persons = self._persons_sql(name, view)
                rows = self._engine.rows(
                    f"SELECT {PARTITION_COLUMN}, _source_file, _row_number, _person FROM ({persons}) AS p WHERE {condition}"
                )
                found.update({RowAddress(name, day, file, number, layer): person for day, file, number, person in rows})
        return found

    def _persons_sql(self, name: str, view: str) -> str:
        """SQL for the rows of a view of an entity with whose each is; the expression knows the view by the entity's name."""
        personal = " OR ".join(
            f"(coalesce(CAST({quote(column)} AS VARCHAR), '') <> '' AND CAST({quote(column)} AS VARCHAR) NOT LIKE '{ERASED_PREFIX}%')"
            for column in sorted(self.source.personal_columns()[name])
        )
        whose = f"CAST({self.source.people[name]} AS VARCHAR)"
        inner = f"SELECT *, {whose} AS _id, {personal or 'FALSE'} AS _personal FROM {quote(view)} AS {quote(name)}"
        return f"SELECT *, pseudonym(_id) AS _person FROM ({inner}) AS i"


def collect_personal_values(source: Source, entity: str, rows: pa.Table, kinds: Optional[Collection[str]] = None) -> set[str]:
    """What is personal in landed rows of an entity, each value, and whole names; of all classes or of those ``kinds``."""
    found: set[str] = set()
    columns = source.entities[entity].columns
    asked = [name for name, spec in columns.items() if spec.pii and (kinds is None or spec.pii in kinds)]
    for name in matching_columns(rows.column_names, asked):
        texts = [str(each) for each in rows.column(name).to_pylist() if each]
        found.update(each for each in texts if not each.startswith(ERASED_PREFIX))
    stored = [each for name in list_name_columns(source, entity) for each in matching_columns(rows.column_names, [name])]
    names = [rows.column(name).to_pylist() for name in stored]
    return (found | {" ".join(filter(None, parts)) for parts in zip(*names)}) - {""}


def list_name_columns(source: Source, entity: str) -> list[str]:
    """The columns that make up a person's whole name, in the order in which they land."""
    return [name for name, column in source.entities[entity].columns.items() if column.pii == "name"]


def _entity_sql(
    source: Source,
    name: str,
    entity: Entity,
    stored: Optional[list[str]],
    landing: Optional[Mapping[str, pa.Table]],
    day: Optional[date],
    layer: str = "bronze",
) -> str:
    """The landed rows of an entity, cleaned and typed as its mapping sees them, with their addresses."""
    parts = []
    if stored is not None:
        other = f" WHERE {PARTITION_COLUMN} <> DATE '{day.isoformat()}'" if landing is not None and day else ""
        parts.append(
            f"SELECT {_text_columns_sql(entity, stored)}, {PARTITION_COLUMN}, _source_file, _row_number FROM {layer}.{name}{other}"
        )
    if landing is not None and day:
        texts = _text_columns_sql(entity, landing[name].column_names)
        parts.append(
            f"SELECT {texts}, DATE '{day.isoformat()}' AS {PARTITION_COLUMN}, _source_file, _row_number FROM _landing_{name}"
        )
    if not parts:
        nothing = f"CAST(NULL AS DATE) AS {PARTITION_COLUMN}, CAST(NULL AS VARCHAR) AS _source_file, CAST(NULL AS BIGINT) AS _row_number"
        parts.append(f"SELECT {_text_columns_sql(entity, [])}, {nothing} WHERE 1 = 0")
    typed = [f"{typed_sql(column, spec, source.null_values)} AS {quote(column)}" for column, spec in entity.columns.items()]
    landed = " UNION ALL ".join(parts)
    return f"SELECT {', '.join(typed)}, {PARTITION_COLUMN}, _source_file, _row_number FROM ({landed}) AS landed"


def _text_columns_sql(entity: Entity, stored: list[Any]) -> str:
    """The entity's columns as text; a date that landed before a column was added lacks it."""
    landed = {column: find_column(stored, column) for column in entity.columns}
    return ", ".join(
        f"CAST({quote(name) if name else 'NULL'} AS VARCHAR) AS {quote(column)}" for column, name in landed.items()
    )
