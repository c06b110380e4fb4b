"""The Typer app itself, and what its commands share: common options, settings, how tables and JSON are printed."""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from daybook import __version__
from daybook.cli.commands import LazyCommandGroup
from daybook.errors import EXIT_FAILED, EXIT_OK, EXIT_REJECTED, UsageError
from daybook.records.formatting import escape_control_characters

if TYPE_CHECKING:
    from daybook.settings import Settings

app = typer.Typer(
    name="daybook",
    cls=LazyCommandGroup,
    help="A shop's day, from landing files to dashboards, as executed notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class _GlobalOptions:
    debug = False


global_options = _GlobalOptions()
"""What the options before a command say."""

# Where there is no terminal, lines are as long as they are: what reads them is a program or a log.
# Without emoji: a value such as :a: stays as it is.
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)

_MARKUP_BRACKET = re.compile(r"(\\*)\[((?:[a-z#/@][^[]*?\])?)")
EXIT_CODES = {"SUCCEEDED": EXIT_OK, "SKIPPED": EXIT_OK, "REJECTED": EXIT_REJECTED}
_STYLES = {"SUCCEEDED": "green", "SKIPPED": "cyan", "REJECTED": "yellow", "FAILED": "red", "RUNNING": "magenta"}

EnvOption = Annotated[str, typer.Option("--env", help="The deployment: a file in params/.", metavar="NAME")]
SetOption = Annotated[
    Optional[list[str]], typer.Option("--set", help="Change a key of the params file; repeatable.", metavar="KEY=VALUE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
NoFollowOption = Annotated[
    bool, typer.Option("--no-follow", help="Of a deployment on AWS: start it, and do not wait for its end.")
]
AllowMissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="Drop the rows of optional files that left landing, rather than keep them."),
]
WhileRunningOption = Annotated[bool, typer.Option("--while-running", help="Do it though a run has not ended.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"daybook {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    global_options.debug = debug


def load_command_settings(env: str, set_: Optional[list[str]], *, allow_missing: bool = False) -> "Settings":
    """The deployment that a command was given, with its ``--set`` changes; ``--allow-missing`` is one of them."""
    from daybook.settings import load_settings

    overrides = {"allow_missing": "true"} if allow_missing else {}
    for text in set_ or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value; write --set KEY=VALUE.")
        overrides[key] = value
    settings = load_settings(env, overrides)
    if settings.runs_on == "aws" and settings.deployment and settings.deployment.region:
        # For every library, and under both names: the deployment is where its file says, whatever else is done from here.
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = settings.deployment.region
    return settings


def require_runnable(settings: "Settings") -> None:
    """Refuse a deployment whose source, contracts or places are wrong, before a run takes a name.

    A run of it would fail in every stage, in notify too, and nobody would be notified.
    """
    from daybook.contracts import LAYERS, load_tables
    from daybook.settings import require_own_lake
    from daybook.sources import load_source

    require_own_lake(settings)
    load_source(settings.source)
    for layer in LAYERS:
        load_tables(layer)


def new_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table as every command prints them."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def style_outcome(outcome: str) -> str:
    """An outcome in its colour."""
    return f"[{_STYLES[outcome]}]{outcome}[/]"


def escape_markup(text: str) -> str:
    """Return text from data as Rich prints it literally: without markup and without control characters."""
    text = _MARKUP_BRACKET.sub(_escape_bracket, escape_control_characters(text, keep="\n"))
    # Markup may follow, which a backslash at the end would escape.
    return text + "\\" * (len(text) - len(text.rstrip("\\")))


def _escape_bracket(found: re.Match[str]) -> str:
    # rich.markup.escape leaves brackets alone that begin no tag, and Rich then drops a backslash before them.
    backslashes, tag = found.groups()
    return "\\" * (len(backslashes) * (2 if tag else 1) + 1) + "[" + tag


def print_json(value: Any) -> None:
    """A value for a script to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def refuse_while_running(settings: "Settings", doing: str, while_running: bool) -> None:
    """Refuse what changes the tables that a run is working on, unless the user knows better."""
    from daybook.lake.rewrite import require_no_active_run
    from daybook.records.archive import Archive

    if not while_running:
        require_no_active_run(Archive(settings.archive), f"`daybook {doing}`")


def require_confirmation(consequence: str, yes: bool) -> None:
    """Ask before something goes for good; a no ends the command."""
    if not yes and not typer.confirm(f"{consequence} Go on?"):
        raise typer.Exit(EXIT_FAILED)
