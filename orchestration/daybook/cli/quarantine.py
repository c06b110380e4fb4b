"""Commands for data stewards: approve, quarantine list, quarantine release."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import getpass
from datetime import date
from typing import Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings, load_runner, parse_assignments
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.runs import RunDateOption, execute_run
from daybook.cli.terminal import format_number, print_json, print_table
from daybook.errors import UsageError
from daybook.records.names import RunStart, run_date_of
from daybook.settings import DateRange, parse_run_date

quarantine_app = typer.Typer(help="List and release rows in quarantine.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(quarantine_app, name="quarantine")

ByOption = Annotated[Optional[str], typer.Option("--by", help="Who decides; default: your login name.", metavar="NAME")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the record.", metavar="TEXT")]


@app.command()
def approve(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    why: WhyOption,
    by: ByOption = None,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a date that a gate rejected.

    A new run of the date waives the findings for which RUN_ID was rejected, and no others.
    """
    from daybook.execution.decisions import approve as decide

    settings, runner = load_runner(env, set_)
    name, day = by or getpass.getuser(), run_date_of(run_id)

    def allocate() -> RunStart:
        return decide(settings, run_id, by=name, why=why)

    execute_run(settings, runner, lambda display: runner.run(DateRange(day, day), allocate, display), as_json=as_json)


@quarantine_app.command(name="list")
def list_(
    day: RunDateOption = None,
    entity: Annotated[Optional[str], typer.Option("--entity", help="Only rows of this entity.", metavar="NAME")] = None,
    rule: Annotated[
        Optional[str], typer.Option("--rule", help="Only rows that break a rule whose name contains this text.", metavar="TEXT")
    ] = None,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the rows in quarantine and the rules they break. Personal columns are not shown."""
    from daybook.execution.decisions import list_quarantined_rows

    rows = list_quarantined_rows(load_command_settings(env, set_), run_date=day, entity=entity, rule=rule)
    if as_json:
        print_json([{name: value for name, value in vars(each).items() if name != "digest"} for each in rows])
        return
    if not rows:
        print("No row is in quarantine.")
        return
    listed = []
    for each in rows:
        values = ", ".join(f"{name}={value}" for name, value in each.values.items() if value)
        place = (str(each.run_date), each.entity, each.source_file, str(each.row_number))
        listed.append((*place, "; ".join(each.rules), values))
    print_table(["date", "entity", "file", "row", "breaks", "values"], listed, right=["row"])
    print(f"{len(rows):,} rows are in quarantine.")


@quarantine_app.command()
def release(
    entity: Annotated[str, typer.Argument(metavar="ENTITY")],
    day: Annotated[
        date,
        typer.Option("--date", help="The business date on which the rows landed.", parser=parse_run_date, metavar="YYYY-MM-DD"),
    ],
    why: WhyOption,
    row: Annotated[Optional[list[int]], typer.Option("--row", help="Number of a row in its file; repeatable.")] = None,
    file: Annotated[Optional[str], typer.Option("--file", help="The file, if rows of several files have this number.")] = None,
    rule: Annotated[
        Optional[str], typer.Option("--rule", help="All rows that break a rule whose name contains this text.")
    ] = None,
    fix: Annotated[
        Optional[list[str]], typer.Option("--fix", help="A new value for a column; repeatable.", metavar="COLUMN=VALUE")
    ] = None,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Run the date again at once.")] = True,
    by: ByOption = None,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release rows: repaired with --fix, or accepted as they are.

    The date runs again from the validate stage on.
    """
    from daybook.execution.decisions import list_quarantined_rows, release_rows, start_revalidation

    if not row and not rule:
        raise UsageError("Select rows with --row NUMBER, or with --rule TEXT for all rows that break a rule.")
    settings, runner = load_runner(env, set_)
    chosen = [
        each
        for each in list_quarantined_rows(settings, run_date=day, entity=entity, rule=rule)
        if (not row or each.row_number in row) and file in (None, each.source_file)
    ]
    files = {each.source_file for each in chosen}
    if row and len(files) > 1:
        raise UsageError(f"Rows of several files have these numbers; add --file with one of: {', '.join(sorted(files))}.")
    missing = sorted(set(row or []) - {each.row_number for each in chosen})
    if missing:
        raise UsageError(f"{entity} row {missing[0]} of {day} is not in quarantine; `daybook quarantine list` shows what is.")
    name = by or getpass.getuser()
    release_rows(settings, chosen, repairs=parse_assignments("--fix COLUMN=VALUE", fix), by=name, why=why)
    released = f"{format_number(len(chosen), 'row')} {'is' if len(chosen) == 1 else 'are'}"
    if not run:
        print(f"{released} released; the next run of {day} validates them again.")
        return
    if not as_json:
        print(f"{released} released.")

    def allocate() -> RunStart:
        return start_revalidation(settings, day, rows=len(chosen), by=name, why=why)

    execute_run(settings, runner, lambda display: runner.run(DateRange(day, day), allocate, display), as_json=as_json)
