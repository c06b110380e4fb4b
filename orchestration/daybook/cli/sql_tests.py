"""Command on the test cases of SQL cells: test."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.runs import RunDateOption
from daybook.cli.terminal import DONE, format_number, print_json, print_line
from daybook.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from daybook.settings import Settings


@app.command()
def test(
    files: Annotated[
        Optional[list[Path]], typer.Argument(metavar="[FILES]...", help="Files of cases; default: all in tests/sql/.")
    ] = None,
    name: Annotated[Optional[str], typer.Option("-k", help="Only cases whose name contains this text.", metavar="NAME")] = None,
    as_json: JsonOption = False,
    table: Annotated[
        Optional[str], typer.Option("--record", help="Write a case of this table from a real day.", metavar="TABLE")
    ] = None,
    place: Annotated[
        Optional[str],
        typer.Option("--from-quarantine", help="Write a case of a row in quarantine.", metavar="FILE:ROW"),
    ] = None,
    run_id: Annotated[
        Optional[str], typer.Option("--from-run", help="Write cases of a rejected run.", metavar="RUN_ID")
    ] = None,
    day: RunDateOption = None,
    rows: Annotated[int, typer.Option("--rows", help="With --record: maximum number of expected rows.", min=1)] = 5,
    to: Annotated[Optional[Path], typer.Option("--to", help="The file; default: in tests/sql/.", metavar="FILE")] = None,
    env: EnvOption = "local",
    set_: SetOption = None,
) -> None:
    """Run the test cases of SQL cells, without a kernel.

    --record, --from-quarantine and --from-run write cases instead, with other names in place of ids and personal values.
    """
    sources = [each for each in (table, place, run_id) if each]
    if not sources:
        if day or to or set_ or env != "local":
            raise UsageError(
                "--date, --to, --env and --set are for --record, --from-quarantine and --from-run; "
                "a file of cases names its env."
            )
        _run(files or [], name or "", as_json)
        return
    if len(sources) > 1 or files:
        raise UsageError("Give one of --record, --from-quarantine and --from-run, and no files.")
    _record(table, place, run_id, day, rows, to, load_command_settings(env, set_))


def _run(files: list[Path], name: str, as_json: bool) -> None:
    from daybook.testing.case import list_case_files, read_cases
    from daybook.testing.runner import CaseRunner

    cases = [case for path in files or list_case_files() for case in read_cases(path) if name in case.name]
    if not cases:
        raise UsageError(f"There is no case{f' with {name!r} in its name' if name else ' in tests/sql/'}; write one.")
    runner = CaseRunner()
    results = [runner.run(case) for case in cases]
    failed = [each for each in results if not each.passed]
    if as_json:
        found = [{"passed": each.passed, **each.model_dump()} for each in results]
        print_json({"schema_version": 1, "passed": len(results) - len(failed), "failed": len(failed), "cases": found})
    else:
        for each in failed:
            print_line(("✗", "red"), f" {each.file}: {each.name} ({each.table})")
            print_line(*(f"    {line}\n" for line in str(each).splitlines()))
        passed = f"{format_number(len(results) - len(failed), 'case')} passed"
        print_line(*((DONE, f" {passed}.") if not failed else (f"{format_number(len(failed), 'case')} failed, {passed}.",)))
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _record(
    table: Optional[str],
    place: Optional[str],
    run_id: Optional[str],
    day: Optional[date],
    rows: int,
    to: Optional[Path],
    settings: "Settings",
) -> None:
    from daybook.settings import display_path
    from daybook.testing.case import case_folder
    from daybook.testing.recorder import record_case, save_cases
    from daybook.testing.rejections import record_rejected_row, record_rejected_run

    if table and day is None:
        raise UsageError("--record needs the business date: --date YYYY-MM-DD.")
    about = f"{table.rpartition('.')[2]}_{day}" if table else run_id or "quarantine_" + re.sub(r"\W+", "_", str(place))
    path = (to or case_folder() / f"{about}.yaml").absolute()
    if path.exists():
        raise UsageError(f"{display_path(path)} exists; name another file with --to FILE.")
    if table and day:
        cases = [record_case(settings, table, day, rows=rows)]
    elif place:
        cases = [record_rejected_row(settings, place, day)]
    else:
        cases = record_rejected_run(settings, str(run_id), rows=rows)
    save_cases(path, cases)
    given = sum(len(part) for case in cases for part in case.given.values())
    counts = f"{format_number(len(cases), 'case')} with {format_number(given, 'given row')}"
    print_line(DONE, f" {display_path(path)}: {counts}. All cases pass.")
