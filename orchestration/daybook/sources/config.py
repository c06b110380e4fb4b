"""What a source's YAML (``params/sources/<name>.yaml``) may say."""

from __future__ import annotations

import functools
import os
import re
from datetime import date as Day
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from daybook.contracts import Property, Table, load_landing, load_tables
from daybook.contracts.canonical import reference_to_key, silver_table
from daybook.contracts.columns import (
    find_column,
    find_duplicate_column,
    is_plain_name,
    matching_columns,
    normalize_sql_names,
)
from daybook.contracts.files import landing_contract_path, layer_folder
from daybook.contracts.model import VERSION_AT, RowPosition
from daybook.errors import ContractError, SourceError
from daybook.settings import (
    FileContents,
    TimeZone,
    format_validation_error,
    list_files,
    project_root,
    read_contents,
    read_yaml,
    require_name,
)
from daybook.sources.calendar import Calendar

Encoding = Literal["utf-8", "windows-1252", "iso-8859-1", "utf-16"]
Sql = Annotated[str, AfterValidator(normalize_sql_names)]
ColumnType = Literal["text", "integer", "decimal", "date", "timestamp", "boolean"]


_PLACEHOLDER = re.compile(r"\{run_date(?::([^{}]*))?\}")
_DIRECTIVES = ("%Y", "%y", "%m", "%d", "%j", "%b", "%B", "%G", "%V", "%u", "%%")
"""What a format of the business date may hold besides text: directives of strftime that depend on no time of day."""
_EXAMPLE_DATE = Day(2001, 5, 14)


def _find_placeholder_problem(files: str) -> Optional[str]:
    """Return what is wrong with the placeholders in a path, or None."""
    for found in re.findall(r"\{[^{}]*\}?|\}", _PLACEHOLDER.sub("", files)):
        allowed = "allowed are {run_date} and a strftime format of it, such as {run_date:%Y%m%d}"
        return f"has an unknown placeholder {found}; {allowed}"
    for form in re.findall(r"\{run_date:([^{}]*)\}", files):
        directives = re.findall(r"%-?.?", form)
        unknown = [each for each in directives if each not in _DIRECTIVES]
        if unknown or not directives:
            wrong = f"an unknown directive {unknown[0]}" if unknown else "no directive"
            return f"has {wrong} in {{run_date:{form}}}; allowed are {' '.join(_DIRECTIVES)}"
    return None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Column(_Model):
    """A landing column: how its text is read. Its contract says what it must satisfy."""

    type: ColumnType = "text"
    format: Optional[str] = Field(default=None, description="strptime format of a date or timestamp that is not ISO 8601.")
    decimal_comma: bool = Field(default=False, description="1.234,50 rather than 1234.50.")
    pad: Optional[int] = Field(default=None, gt=0, description="Put lost leading zeros back, to this width.")
    pii: Optional[str] = Field(default=None, description="Class of personal data: name, email, phone, address, id, text …")
    # Not in the contract: the entity's or the source's.
    timezone: Optional[str] = Field(default=None, description="Zone of local times; the deployment's where none is given.")


class Follows(_Model):
    """Rows land with the rows of another entity: those whose key is among the other's."""

    entity: str
    by: str
    to: Optional[str] = Field(default=None, description="The column of the other entity; without it, the one called as by.")


class Entity(_Model):
    """A kind of record the source delivers, and the files it comes in."""

    files: str = Field(
        description="Path under landing; {run_date} or {run_date:%Y%m%d} is the business date, * matches within a name."
    )
    missing: Literal["fail", "skip", "empty"] = Field(
        default="fail",
        description="When no file is there: a fault, a day to skip (shop closed), or an entity without rows.",
    )
    date: Optional[str] = Field(
        default=None, description="Column of a snapshot that says which business date a row belongs to."
    )
    follows: Optional[Follows] = None
    encoding: Union[Encoding, list[Encoding], None] = None
    delimiter: Optional[str] = Field(default=None, min_length=1, max_length=1)
    timezone: Optional[TimeZone] = Field(default=None, description="IANA zone of times without an offset.")
    duplicates: Optional[Literal["drop", "keep"]] = Field(
        default=None, description="What to do with rows equal in every column; see Source.drops_duplicates for the default."
    )
    # Not in the source's file: they are the landing contract's.
    columns: dict[str, Column] = Field(min_length=1)

    def pattern(self, run_date: Day) -> str:
        """Return the path of the files for a business date, in which only * ? and [ have a meaning."""
        return self.files.format(run_date=run_date)

    def find_problem(self) -> Optional[str]:
        """Return what does not fit together within the entity, or None."""
        problem = _find_placeholder_problem(self.files)
        if not problem and {"", ".", ".."} & set(self.pattern(_EXAMPLE_DATE).split("/")):
            problem = "must be a path below landing"
        if problem:
            return f"has files {self.files!r}, which {problem}"
        if self.date and (self.date not in self.columns or self.columns[self.date].type not in ("date", "timestamp")):
            return f"has date {self.date!r}, which must be among its columns as a date or timestamp"
        return None

    @property
    def undated(self) -> str:
        """Return the problem of a snapshot's row that belongs to no business date."""
        return f"{self.date} is no usable date"

    @property
    def is_dated(self) -> bool:
        """Return whether each business date has files of its own."""
        return self.pattern(_EXAMPLE_DATE) != self.pattern(_EXAMPLE_DATE + timedelta(days=1))

    @model_validator(mode="before")
    @classmethod
    def _use_declared_names(cls, values: Any) -> Any:
        """Write the columns that ``date`` and ``follows`` name as the contract does."""
        if not isinstance(values, dict) or not isinstance(values.get("columns"), dict):
            return values
        values, declared = dict(values), values["columns"]
        if isinstance(values.get("date"), str):
            values["date"] = find_column(declared, values["date"]) or values["date"]
        follows = values.get("follows")
        if isinstance(follows, dict) and isinstance(follows.get("by"), str):
            values["follows"] = {**follows, "by": find_column(declared, follows["by"]) or follows["by"]}
        return values


class Select(_Model):
    """One SELECT of a mapping: where from, and an SQL expression for each canonical column."""

    from_: str = Field(alias="from", description="The entity the rows come from.")
    join: Sql = Field(default="", description="JOIN clauses over other entities.")
    where: Sql = ""
    group_by: list[Sql] = Field(default_factory=list)
    columns: dict[str, Sql] = Field(min_length=1)

    def expression(self, column: str) -> Optional[str]:
        """Return the SQL for a canonical column, or None."""
        name = find_column(self.columns, column)
        return None if name is None else self.columns[name]


class Source(_Model):
    """A whole source file."""

    name: str
    title: str
    licence: str = ""
    encoding: Union[Encoding, list[Encoding]] = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    timezone: Optional[TimeZone] = Field(
        default=None, description="IANA zone of times without an offset; else the deployment's."
    )
    null_values: list[str] = Field(default_factory=list, description="Texts that mean: no value. The empty text always does.")
    calendar: Calendar = Field(default_factory=Calendar, description="The business dates there should be.")
    entities: dict[str, Entity] = Field(min_length=1)
    people: dict[str, Sql] = Field(
        default_factory=dict, description="For an entity with rows of persons: SQL for the id that the pseudonym is made of."
    )
    mapping: dict[str, list[Select]] = Field(min_length=1)
    # Not in the source's file: params/contracts/landing/<name>.yaml.
    contracts: dict[str, Table] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _validate_entities(self) -> Source:
        for place, (name, entity) in enumerate(self.entities.items()):
            if not is_plain_name(name):
                raise ValueError(f"entity {name!r} must be a plain name of letters, digits and _, and no keyword of SQL")
            problem = entity.find_problem() or self._find_follows_problem(entity, list(self.entities)[:place])
            if problem:
                raise ValueError(f"entity {name!r} {problem}")
        for name in self.people:
            if name not in self.entities:
                raise ValueError(f"people has an entity {name!r}; the entities are: {', '.join(self.entities)}")
        return self

    def _find_follows_problem(self, entity: Entity, above: list[str]) -> Optional[str]:
        """Return what is wrong with the entity that an entity follows, or None."""
        follows = entity.follows
        if follows is None:
            return None
        if follows.entity not in above:
            return f"follows {follows.entity!r}, which must be an entity above it"
        if follows.by not in entity.columns:
            return f"follows by {follows.by!r}, which is not among its columns"
        if follows.to and self.followed_column(follows) not in self.entities[follows.entity].columns:
            return (
                f"follows {follows.entity!r} to its column {self.followed_column(follows)!r}, which is not there; "
                "set to: to one of its columns"
            )
        return None

    @model_validator(mode="after")
    def _validate_mapping(self) -> Source:
        for table, selects in self.mapping.items():
            if f"silver.{table}" not in load_tables("silver"):
                known = ", ".join(name.split(".")[1] for name in load_tables("silver"))
                raise ValueError(f"mapping has a table {table!r}; the canonical tables are: {known}")
            for select in selects:
                problem = self._find_select_problem(silver_table(table), select)
                if problem:
                    raise ValueError(f"mapping of {table!r} {problem}")
            numbered = self.selects_without_key(table)
            if numbered and len(numbered) < len(selects):
                raise ValueError(
                    f"mapping of {table!r} gives a {row_position(table).column} in some SELECTs and none in others; "
                    "give one in every SELECT or in none"
                )
        return self

    def _find_select_problem(self, contract: Table, select: Select) -> Optional[str]:
        """Return what does not fit between a SELECT and the contract of its table, or None."""
        if select.from_ not in self.entities:
            return f"is from {select.from_!r}; the entities are: {', '.join(self.entities)}"
        unknown = [name for name in select.columns if find_column(contract.mappable, name) is None]
        if unknown:
            return f"has a column {unknown[0]!r}; the columns are: {', '.join(contract.mappable)}"
        twice = find_duplicate_column(select.columns)
        if twice is not None:
            return f"has the column {twice!r} twice; remove one"
        optional = {VERSION_AT, *contract.mapping_defaults}
        if select in self.selects_without_key(contract.name):
            optional.add(row_position(contract.name).column)
        wanted = [name for name in matching_columns(contract.mappable, contract.required) if name not in optional]
        absent = [name for name in wanted if select.expression(name) is None]
        return f"from {select.from_!r} lacks the required column {absent[0]!r}" if absent else None

    @model_validator(mode="after")
    def _validate_flat(self) -> Source:
        """Refuse flat entities whose rows could not replace those of an earlier file as a whole."""
        if len(self.flat_entities) > 1:
            table = self.flat_table
            raise ValueError(
                f"mapping of {table!r} gives no {row_position(table).column} from "
                f"{' and '.join(map(repr, self.flat_entities))}; one entity at most may leave it out"
            )
        for name in self.flat_entities:
            versioned = {
                table: select.expression(VERSION_AT) is not None
                for table in _replaced_together(self.flat_table)
                for select in self.mapping.get(table, [])
                if select.from_ == name
            }
            if len(set(versioned.values())) > 1:
                given, absent = (next(table for table, each in versioned.items() if each is wanted) for wanted in (True, False))
                raise ValueError(
                    f"mapping of {given!r} from {name!r} gives a {VERSION_AT} and that of {absent!r} gives none; "
                    f"the newest file replaces all rows of one {row_position(self.flat_table).within}, so give both the same"
                )
        return self

    @model_validator(mode="after")
    def _require_tables(self) -> Source:
        required = [table.name for table in load_tables("silver").values() if table.roles.mapping_required]
        absent = [name for name in required if not self.mapping.get(name)]
        if absent:
            raise ValueError(f"mapping lacks {' and '.join(map(repr, absent))}, which every source must give")
        return self

    @property
    def primary(self) -> str:
        """The entity whose landing makes a business date: the first of the file."""
        return next(iter(self.entities))

    def followed_column(self, follows: Follows) -> str:
        """Return the column of the followed entity, as it is declared."""
        wanted = follows.to or follows.by
        return find_column(self.entities[follows.entity].columns, wanted) or wanted

    def selects_without_key(self, table: str) -> list[Select]:
        """Return the SELECTs of a table that give its rows no key of their own.

        They leave out the column of the contract's ``rowPosition``, or derive it from the row's place in the file. Such rows
        are numbered by their position within their group. For a table with ``alongside``, only rows that come in one file with
        rows without a key of that other table count: elsewhere a file may bring one more row of a group.
        """
        position = silver_table(table).roles.row_position
        if position is None:
            return []
        found = [
            each
            for each in self.mapping.get(table, [])
            if _ROW_NUMBER.search(each.expression(position.column) or "_row_number")
        ]
        return [each for each in found if each.from_ in self.flat_entities] if position.alongside else found

    @property
    def flat_table(self) -> str:
        """The table whose rows without a key make an entity a flat one; an empty text where the source has none."""
        leading = [
            table.name
            for table in load_tables("silver").values()
            if table.roles.row_position and not table.roles.row_position.alongside
        ]
        return next((name for name in leading if self.selects_without_key(name)), "")

    @property
    def flat_entities(self) -> dict[str, Select]:
        """The entities whose rows have no key of their own, each with a SELECT of ``flat_table`` from it.

        The newest file of a group, such as an order, replaces all rows of that group.
        """
        found: dict[str, Select] = {}
        for select in self.selects_without_key(self.flat_table) if self.flat_table else []:
            found.setdefault(select.from_, select)
        return found

    def drops_duplicates(self, entity: str) -> bool:
        """Return whether rows that are equal in every column count once.

        By default they do, except in flat files, where they are two equal lines of an order.
        """
        return (self.entities[entity].duplicates or ("keep" if entity in self.flat_entities else "drop")) == "drop"

    def encodings(self, entity: str) -> list[str]:
        """Return the encodings to try for an entity's files, in order."""
        chosen = self.entities[entity].encoding or self.encoding
        return list(chosen) if isinstance(chosen, list) else [chosen]

    def personal_columns(self) -> dict[str, set[str]]:
        """Columns that hold personal data, by entity."""
        return {name: {column for column, spec in entity.columns.items() if spec.pii} for name, entity in self.entities.items()}


_ROW_NUMBER = re.compile(r"\b_?row_number\b", re.IGNORECASE)


def row_position(table: str) -> RowPosition:
    """Return how rows of a silver table without a key are numbered; the contract must declare it."""
    position = silver_table(table).roles.row_position
    if position is None:
        raise ContractError(f"{silver_table(table).file}: {table!r} has no custom property rowPosition; add it.")
    return position


def _replaced_together(table: str) -> list[str]:
    """Return the tables whose rows the newest file of a flat entity replaces with those of ``table``."""
    within = row_position(table).within
    referred = [each for each in load_tables("silver").values() if reference_to_key(silver_table(table), within, each)]
    alongside = [
        each.name
        for each in load_tables("silver").values()
        if each.roles.row_position and each.roles.row_position.alongside == table
    ]
    return [*(each.name for each in referred), table, *alongside]


def list_sources() -> list[str]:
    """Return the names of the sources, which are the files in ``params/sources/``."""
    return [path.stem for path in list_files(project_root() / "params" / "sources", "*.yaml")]


def load_source(name: str) -> Source:
    """Read ``params/sources/<name>.yaml``; ``SourceError`` names file, key and what is allowed."""
    path = project_root() / "params" / "sources" / f"{require_name(name, 'a source', 'a-z0-9_')}.yaml"
    if not path.is_file():
        raise SourceError(f"There is no params/sources/{name}.yaml; the sources are: {', '.join(list_sources())}.")
    return _load_source_cached(path, os.getpid())


@functools.cache
def _load_source_cached(path: Path, pid: int) -> Source:
    # As contracts are read, and with what the source is held against.
    silver = list_files(layer_folder("silver"), "*.yaml")
    return _parse_source(
        path, read_contents(each for each in (path, landing_contract_path(path.stem), *silver) if each.is_file())
    )


@functools.lru_cache(maxsize=16)
def _parse_source(path: Path, files: FileContents) -> Source:
    name = path.stem
    where = f"params/sources/{name}.yaml"
    values = read_yaml(path)
    for key in ("name", "contracts"):
        if key in values:
            raise SourceError(f"{where}: key {key!r} is not for the file; remove it.")
    contracts = load_landing(name)
    values["entities"] = _add_contract_columns(where, values.get("entities"), contracts, values.get("timezone"))
    try:
        return Source(name=name, contracts=contracts, **values)
    except ValidationError as error:
        known = [key for key in Source.model_fields if key not in ("name", "contracts")]
        raise SourceError(format_validation_error(error, where, known)) from None


def _add_contract_columns(where: str, entities: Any, contracts: dict[str, Table], timezone: Any) -> Any:
    """Return the entities of a source's file, with the columns of its landing contract."""
    if not isinstance(entities, dict):
        return entities
    for entity in contracts:
        if entity not in entities:
            raise SourceError(f"{where}: there is no entity {entity!r}, which the landing contract declares; add its files.")
    completed = {}
    for entity, values in entities.items():
        if entity not in contracts:
            raise SourceError(
                f"{where}: entity {entity!r} has no landing contract; add it to "
                f"params/contracts/landing/{where.rsplit('/', 1)[1]}."
            )
        if isinstance(values, dict) and "columns" in values:
            raise SourceError(f"{where}: entity {entity!r} has columns, which belong into its landing contract; move them.")
        zone = (values.get("timezone") if isinstance(values, dict) else None) or timezone
        columns = {item.name: _column_from_property(where, item, zone) for item in contracts[entity].properties}
        completed[entity] = {**values, "columns": columns} if isinstance(values, dict) else values
    return completed


_COLUMN_TYPES: dict[str, ColumnType] = {"string": "text", "number": "decimal"}
_CUSTOM_PROPERTIES = {"pii": "pii", "pad": "pad", "decimalComma": "decimal_comma", "strptime": "format"}
"""Custom properties of a landing contract's columns, and what they are called here."""


def _column_from_property(where: str, item: Property, timezone: Any) -> Column:
    where = f"{where.replace('sources', 'contracts/landing')}: column {item.name!r}"
    kind: Any = _COLUMN_TYPES.get(item.logicalType, item.logicalType)
    settings: dict[str, Any] = {}
    if item.logicalType == "timestamp" and isinstance(timezone, str):
        settings["timezone"] = timezone
    for custom in item.customProperties:
        if custom.property not in _CUSTOM_PROPERTIES:
            known = ", ".join(_CUSTOM_PROPERTIES)
            raise SourceError(f"{where} has a custom property {custom.property!r}; known are: {known}.")
        settings[_CUSTOM_PROPERTIES[custom.property]] = custom.value
    if bool(settings.get("pii")) != (item.classification == "restricted"):
        raise SourceError(
            f"{where} must have both classification: restricted and the custom property pii (its class of personal data), "
            "or neither."
        )
    try:
        return Column(type=kind, **settings)
    except ValidationError as error:
        raise SourceError(format_validation_error(error, where)) from None
