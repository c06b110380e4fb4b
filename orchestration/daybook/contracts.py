"""What a table must hold: the Open Data Contract Standard (v3) files in ``params/contracts/``.

Here: reading a contract, its columns, keys and types. Not here: checking rows against it (``quality``) nor storing
tables (``lake``). Source of the format: https://bitol-io.github.io/open-data-contract-standard/
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Literal, Optional

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daybook.errors import ContractError
from daybook.params import explain, project_root, read_yaml

LAYERS = ("silver", "gold")

_ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
}


class ValidValues(BaseModel):
    """The arguments of the standard's ``invalidValues``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validValues: list[str] = Field(min_length=1)


class ValueRule(BaseModel):
    """A rule of the standard's library: no value but these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Literal["invalidValues"]
    mustBe: Literal[0]
    arguments: ValidValues


class Property(BaseModel):
    """One column: its logical type (the standard's), its physical type (SQL), and what it must satisfy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    logicalType: Literal["string", "date", "timestamp", "number", "integer", "boolean"]
    physicalType: str
    description: str = ""
    required: bool = False
    primaryKey: bool = False
    primaryKeyPosition: int = -1
    partitioned: bool = False
    partitionKeyPosition: int = -1
    classification: Optional[Literal["public", "internal", "pseudonym"]] = None
    quality: list[ValueRule] = Field(default_factory=list)

    @property
    def valid_values(self) -> list[str]:
        """The values there are; empty where any will do."""
        return [value for rule in self.quality for value in rule.arguments.validValues]

    @property
    def arrow_type(self) -> pa.DataType:
        """The column's type in Arrow, and so in Delta Lake."""
        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.physicalType)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        return _ARROW_TYPES[self.physicalType]


class Table(BaseModel):
    """One table of a contract. Column order is the table's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    logicalType: Literal["object"] = "object"
    physicalType: Literal["table"] = "table"
    description: str = ""
    properties: list[Property] = Field(min_length=1)
    layer: str = Field(default="", exclude=True)

    @property
    def full_name(self) -> str:
        """``layer.name``, as SQL writes it."""
        return f"{self.layer}.{self.name}"

    @property
    def columns(self) -> list[str]:
        return [item.name for item in self.properties]

    @property
    def key(self) -> list[str]:
        """The primary key's columns in their order."""
        keyed = [item for item in self.properties if item.primaryKey]
        return [item.name for item in sorted(keyed, key=lambda item: item.primaryKeyPosition)]

    @property
    def required(self) -> list[str]:
        """Columns that may not be null: the required ones and the key."""
        return [item.name for item in self.properties if item.required or item.primaryKey]

    @property
    def partition_by(self) -> list[str]:
        return [item.name for item in self.properties if item.partitioned]

    @property
    def pseudonyms(self) -> list[str]:
        """Columns that hold a keyed pseudonym instead of the value."""
        return [item.name for item in self.properties if item.classification == "pseudonym"]

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(item.name, item.arrow_type) for item in self.properties])

    def type_of(self, column: str) -> str:
        """The SQL type of a column."""
        return next(item.physicalType for item in self.properties if item.name == column)


class Contract(BaseModel):
    """One contract file: one table, its purpose and owner-facing text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    apiVersion: Literal["v3.1.0"]
    kind: Literal["DataContract"]
    id: str
    version: str
    status: Literal["draft", "active", "deprecated", "retired"]
    name: str = ""
    domain: str = ""
    description: dict[str, str] = Field(default_factory=dict)
    schema_: list[Table] = Field(alias="schema", min_length=1, max_length=1)


def load_tables(layer: str) -> dict[str, Table]:
    """Every table of a layer that has a contract, by its full name, in the order of the file names."""
    return _tables_in(project_root() / "params" / "contracts" / layer)


@functools.cache
def _tables_in(folder: Path) -> dict[str, Table]:
    return {table.full_name: table for table in (read_contract(path) for path in sorted(folder.glob("*.yaml")))}


def load_table(full_name: str) -> Table:
    """The contract of ``silver.orders`` and the like."""
    layer = full_name.split(".")[0]
    tables = load_tables(layer) if layer in LAYERS else {}
    if full_name not in tables:
        known = ", ".join(name for each in LAYERS for name in load_tables(each))
        raise ContractError(f"{full_name} has no contract; the contracts are: {known}.")
    return tables[full_name]


def read_contract(path: Path) -> Table:
    """Read one contract file; ``ContractError`` names file and key where it does not fit."""
    where = f"params/contracts/{path.parent.name}/{path.name}"
    values: dict[str, Any] = read_yaml(path)
    try:
        contract = Contract.model_validate(values)
    except ValidationError as error:
        raise ContractError(explain(error, where)) from None
    table = contract.schema_[0].model_copy(update={"layer": path.parent.name})
    if table.name != path.stem:
        raise ContractError(f"{where}: key 'schema.0.name' is {table.name!r}; name the file {table.name}.yaml.")
    names = table.columns
    for item in table.properties:
        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", item.physicalType)
        if item.physicalType not in _ARROW_TYPES and not (decimal and int(decimal[2]) <= int(decimal[1]) <= 38):
            allowed = ", ".join([*_ARROW_TYPES, "DECIMAL(p,s) up to 38 digits"])
            raise ContractError(f"{where}: column {item.name!r} has physicalType {item.physicalType!r}; allowed: {allowed}.")
        if names.count(item.name) > 1:
            raise ContractError(f"{where}: column {item.name!r} stands twice; remove one.")
    if not table.key:
        raise ContractError(f"{where}: no column has primaryKey: true; every table needs a key.")
    return table
