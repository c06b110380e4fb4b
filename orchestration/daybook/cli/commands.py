"""Which commands there are, each with the module that has it, which is imported once it is called: help is shown at once."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Optional, cast

import click
import typer
from typer.core import TyperGroup

COMMANDS = {
    "run": ("runs", "Process one business date: all six stages."),
    "resume": ("runs", "Go on with a run that failed or was cut off."),
    "runs": ("runs", "List the runs of the archive, newest date first."),
    "show": ("runs", "Show what a run or a backfill did."),
    "report": ("runs", "Write the HTML report over the archive."),
    "status": ("status", "Say how fresh each gold table is."),
    "cost": ("cost", "Sum up what runs cost on AWS."),
    "gaps": ("gaps", "List the dates that have no good run, and why."),
    "backfill": ("backfills", "Run every date from FIRST to LAST that has no good run."),
    "catch-up": ("backfills", "Run the dates that gaps lists, oldest first."),
    "backfills": ("backfills", "List the backfills, newest first."),
    "approve": ("quarantine", "Publish what a gate refused."),
    "quarantine": ("quarantine", "Look at rows in quarantine, and let them out."),
    "sql": ("project", "Run a SELECT over the published tables."),
    "lineage": ("lineage", "Say which columns a column comes from."),
    "check": ("project", "Check params, contracts, notebooks and state machines."),
    "demo": ("project", "Make the landing files of a made-up shop."),
    "lab": ("project", "Open JupyterLab on the notebooks."),
    "rekey": ("privacy", "Make a new key for pseudonyms."),
    "erase": ("privacy", "Remove a person from every layer and old version."),
    "vacuum": ("vacuum", "Remove files of tables that nobody needs any more."),
    "bundle": ("bundle", "Build the one file that jobs on AWS run from."),
    "deploy": ("deploy", "Bring an AWS account to what the checkout says."),
    "doctor": ("doctor", "Look whether a deployment on AWS is well."),
    "destroy": ("deploy", "Remove a deployment on AWS; its data stay."),
}
"""By name, in the order in which help lists them: the module, and what help says in its one line."""


class LazyCommandGroup(TyperGroup):
    """The group of all commands: names and lines at first, the command itself once it is called."""

    def __init__(self, *, commands: Any = None, **attrs: Any) -> None:
        super().__init__(**attrs)
        known = {name: click.Command(name, short_help=line) for name, (_, line) in COMMANDS.items()}
        self.commands = {**known, **(commands or {})}

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        if args and args[0] in COMMANDS:
            self.commands = load_commands(args[0]).commands
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command. Typer says nothing of an interrupt, nor of an EOFError, which it takes for the end of input."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise
        except EOFError as error:
            from daybook.errors import StorageError

            raise StorageError(f"A file ended too early ({error}); give `daybook --debug` to see which one.") from error


def load_commands(*names: str) -> LazyCommandGroup:
    """The group in which these commands, or all, are whole."""
    from daybook.cli.app import app

    for name in names or COMMANDS:
        import_module(f"daybook.cli.{COMMANDS[name][0]}")
    return cast(LazyCommandGroup, typer.main.get_command(app))
