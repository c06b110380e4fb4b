"""Find the examples of a command line in the pages, and check them against the Typer app."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import click

from daybook.cli.commands import load_commands
from daybook.settings import Settings, list_environments
from tests.docs.pages import PROSE, Page

APP = load_commands()


@dataclass(frozen=True)
class Example:
    """A line of a code block: where it is, and its words up to a comment or an operator of the shell."""

    page: Page
    line: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def examples(*pages: Page) -> Iterator[Example]:
    """Yield the lines of bash and console blocks, with continued lines joined."""
    for page in pages or PROSE:
        for block in page.blocks("bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.sub(r"\s(\|\||&&|\||>)\s.*", "", line), comments=True)
                if words:
                    yield Example(page, line, tuple(words))


def command_of(words: tuple[str, ...]) -> tuple[str, click.Command, list[str]]:
    """Return the full name and the command that words after ``daybook`` call, and its arguments.

    Raises ``click.UsageError`` for an unknown command.
    """
    command: click.Command = APP
    name, rest = "daybook", [word for word in words if word != "--debug"]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        context = click.Context(command, info_name=name)
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, name = found, f"{name} {found.name}"
    return name, command, list(rest)


def parse(example: Example) -> str:
    """Parse an example as the command does; return the command's full name.

    Dates, environments and keys of ``--set`` are checked, too. Raises ``click.UsageError`` or ``UsageError``.
    """
    name, command, rest = command_of(example.words[1:])
    context = command.make_context(name, rest)
    for parameter in command.params:
        value = context.params.get(str(parameter.name))
        if value is None:
            continue
        if parameter.metavar == "YYYY-MM-DD" or parameter.name in ("first", "last"):
            dates = value if parameter.multiple else [value]
            assert all(isinstance(each, date) for each in dates), f"{parameter.name} is not parsed"
        if parameter.name == "env" and value not in list_environments() and f"params/{value}.yaml" not in example.page.text:
            raise click.UsageError(f"There is no params/{value}.yaml, and the page does not make it.")
        if parameter.name == "set_":
            unknown = {text.partition("=")[0] for text in value} - set(Settings.model_fields)
            if unknown:
                raise click.UsageError(f"--set has unknown keys: {', '.join(sorted(unknown))}.")
    return name


def unknown_parts(code: str) -> list[str]:
    """Return what is wrong with inline code such as ``daybook show NAME``: an unknown command or option."""
    words = tuple(shlex.split(code))
    if len(words) > 1 and words[-1] == "COMMAND":
        words = words[:-1]
    try:
        name, command, rest = command_of(words[1:])
    except click.UsageError as error:
        return [error.message]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    options = [word for word in rest if word.startswith("--")]
    return [f"{name} has no option {option}" for option in options if option not in known]
