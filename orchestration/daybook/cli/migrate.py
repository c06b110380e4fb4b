"""Command that converts the tables of an earlier release: migrate."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import Annotated

import typer

from daybook.cli.app import app, load_command_settings, refuse_while_running
from daybook.cli.options import EnvOption, JsonOption, SetOption, WhileRunningOption, YesOption
from daybook.cli.terminal import format_megabytes, print_json, print_line, print_table, require_confirmation
from daybook.errors import UsageError
from daybook.settings import require_own_lake


@app.command()
def migrate(
    env: EnvOption = "local",
    set_: SetOption = None,
    back: Annotated[
        bool, typer.Option("--back", help="Give the tables a partition for each date again, for an earlier release.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be converted, and change nothing.")] = False,
    yes: YesOption = False,
    while_running: WhileRunningOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert tables of an earlier release, which have a partition for each date, to few files sorted by date."""
    from daybook.lake.migrate import migrate_table, plan_migration

    if as_json and not (yes or dry_run):
        raise UsageError("--json cannot ask for confirmation; add --yes or --dry-run.")
    settings = load_command_settings(env, set_)
    require_own_lake(settings)
    if not dry_run:
        refuse_while_running(settings, "migrate", while_running)
    plan = plan_migration(settings.lake, back=back)
    rows = [(each.table.display_name, each.files_before, each.files_after, each.bytes) for each in plan]
    if not as_json:
        counted = ["files", "files after", "MB"]
        lines = [(name, f"{now:,}", f"{after:,}", f"{size / 1e6:,.1f}") for name, now, after, size in rows]
        print_table(["table", *counted], lines, right=counted)
    if plan and not dry_run:
        total = sum(each.bytes for each in plan)
        require_confirmation(f"{len(plan)} tables are rewritten, which needs {format_megabytes(total)}. Continue?", yes)
        for each in plan:
            migrate_table(each.table, back=back)
    if as_json:
        names = ("table", "files_before", "files_after", "bytes")
        print_json({"dry_run": dry_run, "back": back, "tables": [dict(zip(names, row)) for row in rows]})
        return
    done = "would be" if dry_run else "were"
    print_line(f"{len(plan)} tables {done} converted; their earlier versions can be read until `daybook vacuum` removes them.")
