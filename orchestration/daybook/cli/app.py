"""Define the Typer app, and the options and settings that its commands share."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook import __version__
from daybook.cli.commands import LazyCommandGroup
from daybook.errors import UsageError

if TYPE_CHECKING:
    from daybook.execution.runner import Runner
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
    settings = load_settings(env, {**overrides, **parse_assignments("--set KEY=VALUE", set_)})
    if settings.runs_on == "aws" and settings.deployment and settings.deployment.region:
        # Libraries read one of these two variables. The region of the params file replaces that of the shell.
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = settings.deployment.region
    return settings


def parse_assignments(usage: str, given: Optional[Iterable[str]]) -> dict[str, str]:
    """Return the values of a repeatable option by name; ``usage`` is the option as the help shows it."""
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{usage.split()[0]} {text} has no value; write {usage}.")
        found[name] = value
    return found


def load_runner(env: str, set_: Optional[list[str]], *, allow_missing: bool = False) -> tuple["Settings", "Runner"]:
    """Return the settings of a deployment and its runner.

    Raises an error if the source, a contract or the lake is invalid, before a run id is taken. Otherwise the run would fail in
    every stage, including notify, and nobody would be notified.
    """
    from daybook.contracts import LAYERS, load_tables
    from daybook.execution.runner import get_runner
    from daybook.settings import require_own_lake
    from daybook.sources import load_source

    settings = load_command_settings(env, set_, allow_missing=allow_missing)
    require_own_lake(settings)
    load_source(settings.source)
    for layer in LAYERS:
        load_tables(layer)
    return settings, get_runner(settings)


def refuse_while_running(settings: "Settings", command: str, while_running: bool) -> None:
    """Raise an error if a run is in progress, since ``command`` changes its tables; ``--while-running`` permits it."""
    from daybook.lake.rewrite import require_no_active_run
    from daybook.records.archive import Archive

    if not while_running:
        require_no_active_run(Archive(settings.archive), f"`daybook {command}`")
