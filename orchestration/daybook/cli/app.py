"""Define the Typer app and what its commands share: common options, settings, and printing of tables and JSON."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

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
    help="Process a shop's data, from landing files to gold tables, with executed notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class _GlobalOptions:
    debug = False


global_options = _GlobalOptions()
"""The options that are given before a command."""

# Without a terminal, lines are not wrapped at 80 columns, since a program or a log reads them.
# Without emoji, a value such as :a: is printed unchanged.
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
NoFollowOption = Annotated[bool, typer.Option("--no-follow", help="On AWS: start the execution and do not wait for its end.")]
AllowMissingOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="Drop the rows of optional files that are no longer in landing, instead of keeping them."
    ),
]
WhileRunningOption = Annotated[bool, typer.Option("--while-running", help="Proceed even if a run is in progress.")]


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
    """Return the settings of a deployment with the changes of ``--set`` and ``--allow-missing``."""
    from daybook.settings import load_settings

    overrides = {"allow_missing": "true"} if allow_missing else {}
    for text in set_ or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value; write --set KEY=VALUE.")
        overrides[key] = value
    settings = load_settings(env, overrides)
    if settings.runs_on == "aws" and settings.deployment and settings.deployment.region:
        # Libraries read one of these two variables. The region of the params file replaces that of the shell.
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = settings.deployment.region
    return settings


def require_runnable(settings: "Settings") -> None:
    """Raise an error if the source, a contract or the lake of a deployment is invalid, before a run id is taken.

    Otherwise the run would fail in every stage, including notify, and nobody would be notified.
    """
    from daybook.contracts import LAYERS, load_tables
    from daybook.settings import require_own_lake
    from daybook.sources import load_source

    require_own_lake(settings)
    load_source(settings.source)
    for layer in LAYERS:
        load_tables(layer)


def new_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table in the style of all commands."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def style_outcome(outcome: str) -> str:
    """Return an outcome with the markup of its colour."""
    return f"[{_STYLES[outcome]}]{outcome}[/]"


def escape_markup(text: str) -> str:
    """Escape text from data so that Rich prints it literally, without markup and control characters."""
    text = _MARKUP_BRACKET.sub(_escape_bracket, escape_control_characters(text, keep="\n"))
    # A backslash at the end would escape markup that follows.
    return text + "\\" * (len(text) - len(text.rstrip("\\")))


def _escape_bracket(found: re.Match[str]) -> str:
    # rich.markup.escape ignores brackets that begin no tag, and Rich then drops a backslash before them.
    backslashes, tag = found.groups()
    return "\\" * (len(backslashes) * (2 if tag else 1) + 1) + "[" + tag


def print_json(value: Any) -> None:
    """Print a value as JSON, for scripts."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def refuse_while_running(settings: "Settings", command: str, while_running: bool) -> None:
    """Raise an error if a run is in progress, since ``command`` changes its tables; ``--while-running`` permits it."""
    from daybook.lake.rewrite import require_no_active_run
    from daybook.records.archive import Archive

    if not while_running:
        require_no_active_run(Archive(settings.archive), f"`daybook {command}`")


def require_confirmation(consequence: str, yes: bool) -> None:
    """Ask before an irreversible change; the answer no ends the command."""
    if not yes and not typer.confirm(f"{consequence} Continue?"):
        raise typer.Exit(EXIT_FAILED)
