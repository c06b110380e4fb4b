"""Command on column lineage: lineage."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import print_json, print_table
from daybook.errors import UsageError
from daybook.lake.lineage.graph import is_direct, split_column, trace_sources
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
    """Show which columns of silver and bronze a column comes from, according to the newest run that was not rolled back."""
    table, column = split_column(name) if name.count(".") > 1 else (name, "")
    record = _find_lineage_run(Archive(load_command_settings(env, set_).archive), table, run_id)
    known = record.lineage or {}
    columns = [column] if column else list(known[table]["columns"])
    found = {each: dict(sorted(trace_sources(known, f"{table}.{each}").items(), key=_layer_key)) for each in columns}
    if as_json:
        kinds = {f"{table}.{each}": {name: sorted(kinds) for name, kinds in found[each].items()} for each in columns}
        print_json({"run_id": record.run_id, "columns": kinds})
        return
    rows = []
    for each, sources in found.items():
        values = [source for source, kinds in sources.items() if is_direct(kinds)]
        rows.append((each, "\n".join(values), "\n".join(source for source in sources if source not in values)))
    print_table(["column", "values from", "decided by"], rows)
    print(f"Lineage of the run {record.run_id}{', which was rolled back' if record.rolled_back else ''}.")


def _find_lineage_run(archive: Archive, table: str, run_id: Optional[str]) -> RunRecord:
    """Return the run of the newest business date that has the lineage of a table and was not rolled back, or the given run."""
    for each in [run_id] if run_id else reversed(archive.run_ids()):
        record = archive.run(each)
        if table in (record.lineage or {}) and (run_id or not record.rolled_back):
            return record
    raise UsageError(
        f"{run_id or 'No run'} has {'no' if run_id else 'the'} lineage of {table}; name a silver or gold table or one of its "
        "columns, written gold.TABLE.COLUMN."
    )


def _layer_key(source: tuple[str, Any]) -> tuple[int, str]:
    """Return a key that sorts columns with their kinds by layer: silver, bronze, others."""
    name = source[0]
    return {"silver": 0, "bronze": 1}.get(name.split(".")[0], 2), name
