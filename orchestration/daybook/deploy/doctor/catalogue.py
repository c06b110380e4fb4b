"""What Athena is told of the tables: each published table is registered with its contract's columns, where the lake is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Optional

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import find_column
from daybook.deploy.catalogue import athena_type, database_name
from daybook.deploy.doctor.checks import Check, CheckContext, build_check, run_check


def check_catalogue(patient: CheckContext) -> Iterator[Check]:
    """All of these questions."""
    for layer in LAYERS:
        yield run_check(f"catalogue {layer}", patient.deploy_command, partial(_check_layer, patient, layer))


def _check_layer(patient: CheckContext, layer: str) -> Check:
    name = f"catalogue {layer}"
    database = database_name(patient.env, layer)
    tables = list(load_tables(layer).values())
    registered = {each.name: _read_registered_table(patient, database, each.name) for each in tables}
    if not any(registered.values()):
        return Check(name, "failed", f"{database} has no table", patient.deploy_command)
    wrong = [each for table in tables for each in _list_differences(patient, table, registered[table.name])]
    return build_check(name, f"{len(tables)} tables in {database}, as their contracts say", wrong, patient.deploy_command)


def _read_registered_table(patient: CheckContext, database: str, table: str) -> Optional[tuple[dict[str, str], str]]:
    """Types by column, and the location; None where nothing is registered under the name."""
    from awswrangler import catalog
    from awswrangler.exceptions import InvalidTable

    session = patient.account.session()
    types = catalog.get_table_types(database, table, boto3_session=session)
    if types is None:
        return None
    try:
        return types, catalog.get_table_location(database, table, boto3_session=session)
    except InvalidTable:  # Somebody registered it without one.
        return types, ""


def _list_differences(patient: CheckContext, table: Table, registered: Optional[tuple[dict[str, str], str]]) -> Iterator[str]:
    """What of a registered table is not as the contract and the params say."""
    if registered is None:
        yield f"{table.name} is not registered"
        return
    types, location = registered
    for column in table.columns:
        wanted = athena_type(table.type_of(column))
        name = find_column(types, column)
        if name is None:
            yield f"{table.name} lacks {column}"
        elif types[name] != wanted:
            yield f"{table.name}.{column} is {types[name]} instead of {wanted}"
    unknown = (column for column in types if find_column(table.columns, column) is None)
    yield from (f"{table.name} has {column}, which its contract has not" for column in unknown)
    place = f"{patient.settings.lake}/{table.layer}/{table.name}"
    if location.rstrip("/") != place:
        yield f"{table.name} is at {location or 'no place'} instead of {place}"
