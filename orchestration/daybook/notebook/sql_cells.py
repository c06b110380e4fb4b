"""Read the ``%%sql`` cells of a notebook without running them."""

from __future__ import annotations

import argparse
import shlex
from keyword import iskeyword
from typing import TYPE_CHECKING

from daybook.errors import UsageError

if TYPE_CHECKING:
    from nbformat import NotebookNode

_DEFAULT_ROWS = 10
_USAGE = "write %%sql [name] [--as NAME] [--rows N] [--quiet]"


def read_definitions(notebook: NotebookNode) -> dict[str, str]:
    """Return the SQL of ``%%sql`` cells by the name that they define. Of several cells with one name the last counts.

    Raises ``UsageError`` for a cell with wrong options.
    """
    named = (read_definition(cell.source) for cell in notebook.cells if cell.cell_type == "code")
    return {name: sql for name, sql in named if name}


def read_definition(source: str) -> tuple[str, str]:
    """Return the name that a ``%%sql`` cell defines, and its SQL; two empty texts for a cell that defines none."""
    line, _, sql = source.lstrip().partition("\n")
    magic, _, options = line.partition(" ")
    name = parse_options(options).name if magic == "%%sql" else None
    return (name, sql.strip().rstrip(";")) if name else ("", "")


def parse_options(line: str) -> argparse.Namespace:
    """Return the options of a ``%%sql`` line: name, frame, rows, quiet."""
    parser = argparse.ArgumentParser(prog="%%sql", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--as", dest="frame", metavar="NAME")
    parser.add_argument("--rows", type=int, default=_DEFAULT_ROWS)
    parser.add_argument("--quiet", action="store_true")
    try:
        options, unknown = parser.parse_known_args(shlex.split(line))
    except (argparse.ArgumentError, ValueError) as error:
        raise UsageError(f"%%sql {line}: {error}; {_USAGE}.") from None
    if unknown:
        raise UsageError(f"%%sql does not know {unknown[0]!r}; {_USAGE}.")
    if options.frame and (not options.frame.isidentifier() or iskeyword(options.frame)):
        raise UsageError(f"%%sql --as {options.frame}: the DataFrame needs a Python name, such as top; {_USAGE}.")
    return options
