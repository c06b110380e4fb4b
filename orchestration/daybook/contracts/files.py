"""Reading the contract files in ``params/contracts/``: one a silver or gold table, one a source for what it lands."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from daybook.contracts.columns import find_column, is_plain_name
from daybook.contracts.model import Contract, Table
from daybook.errors import ContractError
from daybook.settings import (
    FileContents,
    display_path,
    format_validation_error,
    list_files,
    project_root,
    read_contents,
    read_yaml,
)

LAYERS = ("silver", "gold")
_COLUMN_PROPERTIES = (
    "computed",
    "derived",
    "default",
    "subject",
    "maskOnErasure",
    "headline",
    "restatement",
    "previewDay",
    "businessDate",
)
"""Custom properties of columns of silver and gold. Those of landing columns are checked with the source."""


def load_tables(layer: str) -> dict[str, Table]:
    """Return the tables of a layer by full name, in the order of their contract files."""
    return _load_cached(layer_folder(layer), "*.yaml", os.getpid())


def layer_folder(layer: str) -> Path:
    """Return the folder with the contracts of a layer, one file a table."""
    return project_root() / "params" / "contracts" / layer


@functools.cache
def _load_cached(folder: Path, pattern: str, pid: int) -> dict[str, Table]:
    # A fork reads the files again, but parses them only if their content has changed.
    return _parse(read_contents(list_files(folder, pattern)))


@functools.lru_cache(maxsize=16)
def _parse(files: FileContents) -> dict[str, Table]:
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
    return layer_folder("landing") / f"{source}.yaml"


def load_landing(source: str) -> dict[str, Table]:
    """Return the contracts of a source's entities by name, in the order of the file."""
    path = landing_contract_path(source)
    if not path.is_file():
        raise ContractError(f"There is no {display_path(path)}; write the landing contract of the source's entities there.")
    return _load_cached(path.parent, path.name, os.getpid())


def read_contract(path: Path) -> list[Table]:
    """Read one contract file; ``ContractError`` names the file and the invalid key."""
    where = display_path(path)
    try:
        contract = Contract.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ContractError(format_validation_error(error, where)) from None
    for problem in _find_problems(contract, path):
        raise ContractError(f"{where}: {problem}.")
    return [
        table.model_copy(
            update={
                "layer": path.parent.name,
                "file": where,
                "sla": [each for each in contract.slaProperties if each.element.split(".")[0] in ("", table.name)],
            }
        )
        for table in contract.schema_
    ]


def _find_problems(contract: Contract, path: Path) -> Iterator[str]:
    """Yield what does not fit between the tables of a file, its name, its layer and the contracts beside it."""
    layer = path.parent.name
    names = [table.name for table in contract.schema_]
    for table in contract.schema_:
        if layer in LAYERS:
            if names != [path.stem]:
                yield f"key 'schema.0.name' is {names[0]!r}; the file holds one table, {path.stem}"
            if not table.key:
                yield "no column has primaryKey: true; every table needs a key"
            yield from _find_refined_problems(table)
        if names.count(table.name) > 1:
            yield f"{table.name!r} appears twice in schema; remove one"
        if layer != "silver" and table.customProperties:
            yield f"key 'customProperties' of {table.name!r} is only for silver tables; remove it"
        watched = [item.name for item in table.properties if any(each.type == "custom" for each in item.quality)]
        if watched and (layer != "gold" or table.key != [table.date_column]):
            yield (
                f"column {watched[0]!r} has a robustZScore, which needs a gold table of one row a date: its key is the "
                "column with businessDate"
            )
        for item in table.properties:
            for relationship in item.relationships:
                name, _, target = relationship.to.partition(".")
                if find_column(_list_columns(contract, path, name), target) is None:
                    yield (
                        f"column {item.name!r} of {table.name!r} refers to {relationship.to!r}, which is not there; correct it"
                    )
    for promise in contract.slaProperties:
        name, _, column = promise.element.partition(".")
        columns = next((table.columns for table in contract.schema_ if table.name == name), None)
        if promise.element and (columns is None or (column and find_column(columns, column) is None)):
            yield f"slaProperties name the element {promise.element!r}, which is not there; correct it"


def _find_refined_problems(table: Table) -> Iterator[str]:
    """Yield what a table of silver or gold may not have. Names and custom properties of landing are checked with the source."""
    for name in [table.name, *table.columns]:
        if not is_plain_name(name):
            yield f"name {name!r} must be a plain name of letters, digits and _, and no keyword of SQL; rename it"
    for item in table.properties:
        for each in item.customProperties:
            if each.property not in _COLUMN_PROPERTIES:
                known = ", ".join(_COLUMN_PROPERTIES)
                yield f"column {item.name!r} has the custom property {each.property!r}; known are: {known}"
    if any(each.metric == "duplicateValues" and not each.arguments.properties for each in table.quality):
        yield (
            "key 'schema.0.quality': duplicateValues needs the argument properties; only landed rows are compared as a whole"
        )


def _list_columns(contract: Contract, path: Path, name: str) -> list[str]:
    """Return the columns of a table of the contract, or of one with a contract beside it."""
    beside = path.with_name(f"{name}.yaml")
    found = next((table.columns for table in contract.schema_ if table.name == name), None)
    if found is None and beside.is_file() and beside != path:
        schema = read_yaml(beside).get("schema") or [{}]
        return [str(each.get("name")) for each in schema[0].get("properties", [])]
    return found or []
