"""Write docs/cli.md, the reference of all commands, from the help of the Typer app.

``python -m tests.docs.cli_reference`` writes the file; `make docs` calls it.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from daybook.cli.commands import LazyCommandGroup, load_commands
from daybook.settings import project_root

PAGE = project_root() / "docs" / "cli.md"
_WIDTH = 100
_OPENING = """# Command line

All commands of `daybook`, in the order of `daybook --help`. `make docs` writes this page from the commands' own help.

Exit codes: 0 for succeeded or skipped, 1 for failed, 2 for wrong usage, 3 for rejected. Errors are one sentence.
`daybook --debug COMMAND` prints a traceback. Most commands take `--env NAME` for the deployment (a file in `params/`),
`--set KEY=VALUE` for one of its [settings](settings.md), and `--json`.
"""


def commands(command: click.Command, path: str = "daybook") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, such as ``daybook quarantine list``; a group comes before its commands."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")


def reference() -> str:
    """Return the page: one section for each command, with its help."""
    root = load_commands()
    # `daybook --help` lists the short lines of COMMANDS, which a group has until its commands are imported.
    listing = LazyCommandGroup(name=root.name, help=root.help, params=root.params, rich_markup_mode=None)
    sections = [_OPENING]
    for path, command in commands(root):
        context = click.Context(command, info_name=path, terminal_width=_WIDTH, max_content_width=_WIDTH)
        text = (listing if command is root else command).get_help(context)
        sections.append(f"## {path}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
