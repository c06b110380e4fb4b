"""List the commands, and import the module of a command only when it is called, so that help is fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Optional, cast

import click
import typer
from typer.core import TyperGroup

COMMANDS = {
    "run": ("runs", "Process one business date: all six stages."),
    "resume": ("runs", "Resume a run that failed or was interrupted."),
    "runs": ("runs", "List the runs of the archive, newest date first."),
    "show": ("runs", "Show what a run or a backfill did."),
    "report": ("runs", "Write the HTML report over the archive."),
    "status": ("status", "Show how fresh each gold table is."),
    "cost": ("cost", "Show what runs cost on AWS."),
    "gaps": ("gaps", "List the dates that lack a successful run, and why."),
    "backfill": ("backfills", "Run all dates from FIRST to LAST without a successful run."),
    "catch-up": ("backfills", "Run the dates that gaps lists, oldest first."),
    "backfills": ("backfills", "List the backfills, newest first."),
    "approve": ("quarantine", "Publish a date that a gate rejected."),
    "rollback": ("rollback", "Take back what a run has published."),
    "quarantine": ("quarantine", "List and release rows in quarantine."),
    "sql": ("project", "Run a SELECT over the published tables."),
    "compare": ("compare", "Compare tables: development copy, two runs, or versions."),
    "preview": ("preview", "Show what a change does on representative dates."),
    "review": ("review", "Describe a change in one Markdown comment."),
    "test": ("sql_tests", "Run the test cases of SQL cells."),
    "lineage": ("lineage", "Show which columns a column is computed from."),
    "check": ("project", "Check params, contracts, notebooks and state machines."),
    "demo": ("project", "Generate the landing files of a demo shop."),
    "lab": ("project", "Open JupyterLab on the notebooks."),
    "rekey": ("privacy", "Replace the key of pseudonyms."),
    "erase": ("privacy", "Remove a person from all tables and their old versions."),
    "migrate": ("migrate", "Convert tables of an earlier release."),
    "vacuum": ("vacuum", "Remove files of old table versions."),
    "bundle": ("bundle", "Build the file that jobs on AWS run from."),
    "deploy": ("deploy", "Deploy this checkout to an AWS account."),
    "doctor": ("doctor", "Check the health of a deployment on AWS."),
    "destroy": ("deploy", "Remove a deployment from AWS but keep its data."),
}
"""The module and the help line of each command, in the order of the help."""


class LazyCommandGroup(TyperGroup):
    """The group of all commands. It holds names and help lines, and loads a command when it is called."""

    def __init__(self, *, commands: Any = None, **attrs: Any) -> None:
        super().__init__(**attrs)
        known = {name: click.Command(name, short_help=line) for name, (_, line) in COMMANDS.items()}
        self.commands = {**known, **(commands or {})}

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        if args and args[0] in COMMANDS:
            self.commands = load_commands(args[0]).commands
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command. Typer prints nothing on an interrupt or an EOFError, which it treats as the end of input."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise
        except EOFError as error:
            from daybook.errors import StorageError

            raise StorageError(f"A file ended too early ({error}); run `daybook --debug` to see which one.") from error


def load_commands(*names: str) -> LazyCommandGroup:
    """Return the group with these commands loaded, by default all."""
    from daybook.cli.app import app

    for name in names or COMMANDS:
        import_module(f"daybook.cli.{COMMANDS[name][0]}")
    return cast(LazyCommandGroup, typer.main.get_command(app))
