"""Command on the test cases of SQL cells: test."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from datetime import date
from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.runs import RunDateOption
from daybook.cli.terminal import DONE, format_number, print_json, print_line
from daybook.errors import EXIT_FAILED, UsageError


@app.command()
def test(
    files: Annotated[
        Optional[list[Path]], typer.Argument(metavar="[FILES]...", help="Files of cases; default: all in tests/sql/.")
    ] = None,
    name: Annotated[Optional[str], typer.Option("-k", help="Only cases whose name contains this text.", metavar="NAME")] = None,
    as_json: JsonOption = False,
    record: Annotated[
        Optional[str], typer.Option("--record", help="Write a case of this table from a real day.", metavar="TABLE")
    ] = None,
    day: RunDateOption = None,
    rows: Annotated[int, typer.Option("--rows", help="With --record: maximum number of expected rows.", min=1)] = 5,
    to: Annotated[Optional[Path], typer.Option("--to", help="The file; default: in tests/sql/.", metavar="FILE")] = None,
    env: EnvOption = "local",
    set_: SetOption = None,
) -> None:
    """Run the test cases of SQL cells, without a kernel.

    --record writes a case instead: a sample of a date in silver, with other names in place of ids and personal values.
    """
    if record:
        _record(record, day, rows, to, env, set_)
        return
    if day or to or set_:
        raise UsageError("--date, --to and --set are for --record TABLE; add it, or leave them out.")
    _run(files or [], name or "", as_json)


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


def _record(table: str, day: Optional[date], rows: int, to: Optional[Path], env: str, set_: Optional[list[str]]) -> None:
    from daybook.settings import display_path
    from daybook.testing.case import case_folder
    from daybook.testing.recorder import record_case, save_cases

    if day is None:
        raise UsageError("--record needs the business date: --date YYYY-MM-DD.")
    path = (to or case_folder() / f"{table.rpartition('.')[2]}_{day}.yaml").absolute()
    if path.exists():
        raise UsageError(f"{display_path(path)} exists; name another file with --to FILE.")
    case = record_case(load_command_settings(env, set_), table, day, rows=rows)
    save_cases(path, [case])
    given = format_number(sum(map(len, case.given.values())), "given row")
    print_line(DONE, f" {display_path(path)}: {given}, {format_number(len(case.expect), 'expected row')}; the case passes.")
