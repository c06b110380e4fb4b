"""Check that each published table is registered in the Glue catalogue as its contract declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import find_column
from daybook.deploy.catalogue import athena_type, database_name
from daybook.deploy.doctor.checks import Check, CheckContext, ProblemError, require_none


def check_catalogue(context: CheckContext) -> Iterator[Check]:
    """Run all checks of this module."""
    for layer in LAYERS:
        yield context.run(f"catalogue {layer}", _check_layer, layer)


def _check_layer(context: CheckContext, layer: str) -> str:
    database = database_name(context.env, layer)
    tables = list(load_tables(layer).values())
    registered = {each.name: _read_registered_table(context, database, each.name) for each in tables}
    if not any(registered.values()):
        raise ProblemError(f"{database} has no table")
    require_none(each for table in tables for each in _list_differences(context, table, registered[table.name]))
    return f"{len(tables)} tables in {database} match their contracts"


def _read_registered_table(context: CheckContext, database: str, table: str) -> Optional[tuple[dict[str, str], str]]:
    """Return the types by column and the location of a registered table; None if it is not registered."""
    from awswrangler import catalog
    from awswrangler.exceptions import InvalidTable

    session = context.account.session()
    types = catalog.get_table_types(database, table, boto3_session=session)
    if types is None:
        return None
    try:
        return types, catalog.get_table_location(database, table, boto3_session=session)
    except InvalidTable:  # registered without a location
        return types, ""


def _list_differences(context: CheckContext, table: Table, registered: Optional[tuple[dict[str, str], str]]) -> Iterator[str]:
    """Yield the differences between a registered table and its contract and settings."""
    if registered is None:
        yield f"{table.name} is not registered"
        return
    types, location = registered
    for column in table.columns:
        expected = athena_type(table.type_of(column))
        name = find_column(types, column)
        if name is None:
            yield f"{table.name} lacks {column}"
        elif types[name] != expected:
            yield f"{table.name}.{column} is {types[name]} instead of {expected}"
    unknown = (column for column in types if find_column(table.columns, column) is None)
    yield from (f"{table.name} has {column}, which is not in its contract" for column in unknown)
    expected_location = f"{context.settings.lake}/{table.layer}/{table.name}"
    if location.rstrip("/") != expected_location:
        yield f"{table.name} has {location or 'no location'} instead of {expected_location}"
