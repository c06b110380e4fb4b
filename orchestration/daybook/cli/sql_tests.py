"""Command on the test cases of SQL cells: test."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import app
from daybook.cli.options import JsonOption
from daybook.cli.terminal import DONE, format_number, print_json, print_line
from daybook.errors import EXIT_FAILED, UsageError


@app.command()
def test(
    files: Annotated[
        Optional[list[Path]], typer.Argument(metavar="[FILES]...", help="Files of cases; default: all in tests/sql/.")
    ] = None,
    name: Annotated[Optional[str], typer.Option("-k", help="Only cases whose name contains this text.", metavar="NAME")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the test cases of SQL cells, without a kernel."""
    from daybook.testing.case import list_case_files, read_cases
    from daybook.testing.runner import CaseRunner

    cases = [case for path in files or list_case_files() for case in read_cases(path) if (name or "") in case.name]
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
