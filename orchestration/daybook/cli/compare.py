"""Command that shows what a change does to the numbers: compare."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import DONE, Part, format_number, print_json, print_line, print_table
from daybook.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from daybook.review.table_diff import Comparison, TableDiff
    from daybook.settings import Settings


@app.command()
def compare(
    runs: Annotated[Optional[list[str]], typer.Argument(metavar="[RUN_A RUN_B]", show_default=False)] = None,
    against: Annotated[
        Optional[str],
        typer.Option(
            "--against",
            help="Compare what is published with an earlier version of a table, or with its state at the end of a date (UTC).",
            metavar="VERSION|DATE",
        ),
    ] = None,
    table: Annotated[
        Optional[list[str]], typer.Option("--table", help="Only this table; repeatable.", metavar="LAYER.NAME")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Number of sample rows of each kind of change.")] = 3,
    html: Annotated[Optional[Path], typer.Option("--html", help="Also write the comparison as a page.", metavar="FILE")] = None,
    fail_on_change: Annotated[bool, typer.Option("--fail-on-change", help="Exit with 1 if anything differs.")] = False,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare your development copy with what is published, or the tables of two runs.

    Only the dates that the copy has computed, or that the runs have published, are compared. Pseudonyms are shortened.
    """
    if len(runs or []) not in (0, 2):
        raise UsageError("Name two runs to compare, or none to compare your development copy.")
    if runs and against:
        raise UsageError("Give two runs or --against, not both.")
    settings = load_command_settings(env, set_)
    found = _compare(settings, runs or [], against, table or [], rows)
    if html is not None:
        from daybook.review.page import write_page

        write_page(found, html, title=settings.title)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_comparison(found)
        if html is not None:
            print_line(f"Page: {html}")
    if fail_on_change and found.has_changes:
        raise typer.Exit(EXIT_FAILED)


def _compare(settings: "Settings", runs: list[str], against: Optional[str], tables: list[str], samples: int) -> "Comparison":
    from daybook.lake.tables import development_user
    from daybook.review.comparison import compare_development_copy, compare_runs, compare_versions

    if runs:
        return compare_runs(settings, *runs, tables=tables, samples=samples)
    if against is not None:
        return compare_versions(settings, against, tables=tables, samples=samples)
    return compare_development_copy(settings, development_user(), tables=tables, samples=samples)


def print_comparison(comparison: "Comparison") -> None:
    """Print the counts of all tables, then the details of those that differ."""
    from daybook.review.formats import format_dates

    print_line(f"{comparison.before} → {comparison.after}: {format_dates(comparison.dates)}")
    counts = ["rows before", "rows after", "added", "removed", "changed", "schema"]
    print_table(["table", *counts], map(_count_changes, comparison.tables), right=counts)
    for each in comparison.tables:
        if each.has_changes:
            _print_changes(each)
    if not comparison.has_changes:
        print_line(DONE, f" {format_number(len(comparison.tables), 'table')} without differences.")


def _count_changes(diff: "TableDiff") -> list[Part]:
    name: Part = (diff.table, "bold") if diff.has_changes else diff.table
    changes = (diff.added, diff.removed, diff.changed, len(diff.schema_changes))
    return [name, f"{diff.rows_before:,}", f"{diff.rows_after:,}", *(f"{count:,}" if count else "" for count in changes)]


def _print_changes(diff: "TableDiff") -> None:
    """Print schema changes, changed columns and sample rows of a table."""
    from daybook.review.formats import describe_schema_change, format_change, format_sample, format_totals, format_values

    print_line()
    print_line((diff.table, "bold"), "" if diff.key else ": whole rows are compared, since a side lacks a column of the key")
    for change in diff.schema_changes:
        print_line("  ", describe_schema_change(change))
    columns: list[list[Part]] = []
    for each in diff.columns:
        totals = format_totals(each)
        if each.changed or totals.difference:
            largest = next(iter(each.largest), None)
            shown = f"{format_values(largest.key)}: {format_change(largest.before, largest.after)}" if largest else ""
            columns.append([each.column, f"{each.changed:,}", *totals, shown])
    if columns:
        numbers = ["changed", "total before", "total after", "difference"]
        print_table(["column", *numbers, "largest difference"], columns, right=numbers)
    if diff.samples:
        samples = [[each.change, format_values(each.key), format_sample(each)] for each in diff.samples]
        print_table(["row", "key", "values"], samples)
