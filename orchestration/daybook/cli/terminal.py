"""Print lines, tables and JSON to the terminal, and ask before a change.

Text from data is printed as it is: Rich's markup is off, and a style is given beside its text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Union

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daybook.errors import EXIT_FAILED
from daybook.records.formatting import escape_control_characters

Part = Union[str, tuple[str, str]]
"""Text, or text with the style that Rich gives it."""

# Without a terminal, lines are not wrapped at 80 columns, since a program or a log reads them.
# Without emoji, a value such as :a: is printed unchanged.
console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)

NOTE: Part = ("Note:", "yellow")
DONE: Part = ("✓", "green")
_STYLES = {
    "SUCCEEDED": "green",
    "SKIPPED": "cyan",
    "REJECTED": "yellow",
    "FAILED": "red",
    "RUNNING": "magenta",
    "LOST": "red",
    "ROLLED BACK": "yellow",
}


def style_outcome(outcome: str) -> Part:
    """Return an outcome with its style."""
    return outcome, _STYLES.get(outcome, "dim")


def styled_text(*parts: Part) -> Text:
    """Join parts of text. Control characters in them are escaped."""
    pairs = (part if isinstance(part, tuple) else (part, "") for part in parts)
    return Text.assemble(*((escape_control_characters(text, keep="\n"), style) for text, style in pairs))


def print_line(*parts: Part) -> None:
    """Print parts of text as one line, which only the terminal wraps."""
    console.print(styled_text(*parts), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Part]], *, right: Sequence[str] = ()) -> None:
    """Print rows below the names of their columns; the columns in ``right`` are aligned to the right."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(styled_text(name), justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*map(styled_text, row))
    console.print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON for scripts. Decimals become text, since JSON numbers are floats."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_to_text))


def _to_text(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def format_number(number: int, unit: str) -> str:
    """Return a number with its unit: ``1 date``, ``12 dates``."""
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def format_megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def require_confirmation(question: str, yes: bool, *, err: bool = False) -> None:
    """Ask before a change unless ``yes`` is given, with ``err`` on stderr; the answer no ends the command."""
    if not yes and not typer.confirm(question, err=err):
        raise typer.Exit(EXIT_FAILED)
