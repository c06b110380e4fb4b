"""Command on column lineage: lineage."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import Annotated, Optional

import typer

from daybook.cli.app import (
    EnvOption,
    JsonOption,
    SetOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    new_table,
    print_json,
)
from daybook.errors import UsageError
from daybook.lake.lineage.graph import Sources, is_direct, split_column, trace_sources
from daybook.records.archive import Archive
from daybook.records.models import RunRecord


@app.command()
def lineage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A column, such as gold.TABLE.COLUMN, or a table.")],
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    run_id: Annotated[Optional[str], typer.Option("--run", help="Lineage of this run.", metavar="RUN_ID")] = None,
) -> None:
    """Show which columns of silver and bronze a column comes from, according to the newest run."""
    table, column = split_column(name) if name.count(".") > 1 else (name, "")
    record = _find_lineage_run(Archive(load_command_settings(env, set_).archive), table, run_id)
    known = record.lineage or {}
    columns = [column] if column else list(known[table]["columns"])
    found = {each: trace_sources(known, f"{table}.{each}") for each in columns}
    if as_json:
        print_json({"run_id": record.run_id, "columns": {f"{table}.{each}": _to_json(found[each]) for each in columns}})
        return
    listing = new_table("column", "values from", "decided by")
    for each in columns:
        values = [source for source, kinds in found[each].items() if is_direct(kinds)]
        decides = [source for source in found[each] if source not in values]
        listing.add_row(
            escape_markup(each),
            escape_markup("\n".join(_sort_by_layer(values))),
            escape_markup("\n".join(_sort_by_layer(decides))),
        )
    console.print(listing)
    print(f"Lineage of the run {record.run_id}.")


def _find_lineage_run(archive: Archive, table: str, run_id: Optional[str]) -> RunRecord:
    """Return the run of the newest business date, or the given one, that has the lineage of a table."""
    for each in [run_id] if run_id else reversed(archive.run_ids()):
        record = archive.run(each)
        if table in (record.lineage or {}):
            return record
    raise UsageError(
        f"{run_id or 'No run'} has {'no' if run_id else 'the'} lineage of {table}; name a silver or gold table or one of its "
        "columns, written gold.TABLE.COLUMN."
    )


def _sort_by_layer(columns: list[str]) -> list[str]:
    """Return columns sorted by layer: silver, bronze, others."""
    order = {"silver": 0, "bronze": 1}
    return sorted(columns, key=lambda name: (order.get(name.split(".")[0], 2), name))


def _to_json(sources: Sources) -> dict[str, list[str]]:
    return {name: sorted(sources[name]) for name in _sort_by_layer(list(sources))}
