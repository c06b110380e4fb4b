"""Reading the contract files in ``params/contracts/``: one a silver or gold table, one a source for what it lands."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from daybook.contracts.columns import find_column, is_plain_name
from daybook.contracts.model import Contract, Table
from daybook.errors import ContractError
from daybook.settings import FileContents, format_validation_error, list_files, project_root, read_contents, read_yaml

LAYERS = ("silver", "gold")
_COLUMN_PROPERTIES = ("computed", "derived", "default", "subject", "maskOnErasure", "headline", "restatement")
"""Custom properties of columns of silver and gold. Those of landing columns are checked with the source."""


def load_tables(layer: str) -> dict[str, Table]:
    """Return the tables of a layer by full name, in the order of their contract files."""
    return _load_tables_cached(layer_folder(layer), os.getpid())


def layer_folder(layer: str) -> Path:
    """Return the folder with the contracts of a layer, one file a table."""
    return project_root() / "params" / "contracts" / layer


@functools.cache
def _load_tables_cached(folder: Path, pid: int) -> dict[str, Table]:
    # A fork reads the files again, but parses them only if their content has changed.
    return _parse_tables(read_contents(list_files(folder, "*.yaml")))


@functools.lru_cache(maxsize=16)
def _parse_tables(files: FileContents) -> dict[str, Table]:
    return {table.full_name: table for path, _ in files for table in read_contract(path)}


def load_table(full_name: str) -> Table:
    """Return the contract of a table by its full name; ``ContractError`` if it has none."""
    layer = full_name.split(".")[0]
    tables = load_tables(layer) if layer in LAYERS else {}
    if full_name not in tables:
        known = ", ".join(name for each in LAYERS for name in load_tables(each))
        raise ContractError(f"{full_name} has no contract; the contracts are: {known}.")
    return tables[full_name]


def landing_contract_path(source: str) -> Path:
    """Return the file with the landing contract of a source."""
    return project_root() / "params" / "contracts" / "landing" / f"{source}.yaml"


def load_landing(source: str) -> dict[str, Table]:
    """Return the contracts of a source's entities by name, in the order of the file."""
    path = landing_contract_path(source)
    if not path.is_file():
        raise ContractError(f"There is no {_display_path(path)}; write the landing contract of the source's entities there.")
    return _load_landing_cached(path, os.getpid())


@functools.cache
def _load_landing_cached(path: Path, pid: int) -> dict[str, Table]:
    return _parse_landing(read_contents([path]))


@functools.lru_cache(maxsize=16)
def _parse_landing(files: FileContents) -> dict[str, Table]:
    return {table.name: table for path, _ in files for table in read_contract(path)}


def read_contract(path: Path) -> list[Table]:
    """Read one contract file; ``ContractError`` names the file and the invalid key."""
    where = _display_path(path)
    values: dict[str, Any] = read_yaml(path)
    try:
        contract = Contract.model_validate(values)
    except ValidationError as error:
        raise ContractError(_format_validation_error(error, where)) from None
    layer = path.parent.name
    names = [table.name for table in contract.schema_]
    for table in contract.schema_:
        if layer in LAYERS and names != [path.stem]:
            raise ContractError(f"{where}: key 'schema.0.name' is {names[0]!r}; the file holds one table, {path.stem}.")
        if layer in LAYERS and not table.key:
            raise ContractError(f"{where}: no column has primaryKey: true; every table needs a key.")
        if names.count(table.name) > 1:
            raise ContractError(f"{where}: {table.name!r} appears twice in schema; remove one.")
        _require_supported(where, table, layer)
        for item in table.properties:
            for relationship in item.relationships:
                _require_foreign_key_target(where, table, item.name, relationship.to, path, contract)
    for promise in contract.slaProperties:
        if promise.element:
            _require_sla_element(where, contract, promise.element)
    return [
        table.model_copy(
            update={
                "layer": layer,
                "file": where,
                "sla": [each for each in contract.slaProperties if each.element.split(".")[0] in ("", table.name)],
            }
        )
        for table in contract.schema_
    ]


def _require_supported(where: str, table: Table, layer: str) -> None:
    """Raise ``ContractError`` for names that need quotes, unknown properties, and rules that the layer does not support."""
    for name in [table.name, *table.columns] if layer in LAYERS else []:  # An entity's is the source's to check.
        if not is_plain_name(name):
            raise ContractError(
                f"{where}: name {name!r} must be a plain name of letters, digits and _, and no keyword of SQL; rename it."
            )
    for item in table.properties if layer in LAYERS else []:
        unknown = [each.property for each in item.customProperties if each.property not in _COLUMN_PROPERTIES]
        if unknown:
            raise ContractError(
                f"{where}: column {item.name!r} has the custom property {unknown[0]!r}; known are: "
                f"{', '.join(_COLUMN_PROPERTIES)}."
            )
    if layer != "silver" and table.customProperties:
        raise ContractError(f"{where}: key 'customProperties' of {table.name!r} is only for silver tables; remove it.")
    whole = [each for each in table.quality if each.metric == "duplicateValues" and not each.arguments.properties]
    if whole and layer != "landing":
        raise ContractError(
            f"{where}: key 'schema.0.quality': duplicateValues needs the argument properties; only landed rows are compared "
            "as a whole."
        )
    watched = [item.name for item in table.properties if any(each.type == "custom" for each in item.quality)]
    if watched and (layer != "gold" or table.key != table.partition_by or len(table.key) != 1):
        raise ContractError(
            f"{where}: column {watched[0]!r} has a robustZScore, which needs a gold table of one row a date: its key is its "
            "partition."
        )


def _require_foreign_key_target(where: str, table: Table, column: str, to: str, path: Path, contract: Contract) -> None:
    """Raise where a foreign key leads nowhere: to no table beside this one, or to none of its columns."""
    name, _, target = to.partition(".")
    found = next((each for each in contract.schema_ if each.name == name), None)
    beside = path.with_name(f"{name}.yaml")
    if found is None and beside.is_file() and beside != path:
        schema = read_yaml(beside).get("schema") or [{}]
        columns = [str(each.get("name")) for each in schema[0].get("properties", [])]
    else:
        columns = found.columns if found else []
    if find_column(columns, target) is None:
        raise ContractError(f"{where}: column {column!r} of {table.name!r} refers to {to!r}, which is not there; correct it.")


def _require_sla_element(where: str, contract: Contract, element: str) -> None:
    name, _, column = element.partition(".")
    table = next((each for each in contract.schema_ if each.name == name), None)
    if table is None or (column and find_column(table.columns, column) is None):
        raise ContractError(f"{where}: slaProperties name the element {element!r}, which is not there; correct it.")


def _format_validation_error(error: ValidationError, where: str) -> str:
    """Return one sentence about the first error. Errors about a whole column or table name their location themselves."""
    first = error.errors()[0]
    if first["type"] != "value_error":
        return format_validation_error(error, where)
    key = ".".join(str(part) for part in first["loc"])
    return f"{where}: key {key!r}: {str(first['msg']).replace('Value error, ', '')}."


def _display_path(path: Path) -> str:
    return f"params/contracts/{path.parent.name}/{path.name}"
