"""Show progress in the terminal while a context lasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from typing_extensions import Self

from daybook.cli.terminal import Part, styled_text

SYMBOLS: dict[str, Part] = {
    "SUCCEEDED": ("✓", "green"),
    "SKIPPED": ("–", "cyan"),
    "REJECTED": ("✗", "yellow"),
    "FAILED": ("!", "red"),
    "RUNNING": ("●", "blue"),
    "WAITING": ("…", "yellow"),
}


class LiveDisplay(ABC):
    """A context manager that shows ``_render()`` four times a second if the console is a terminal; elsewhere it prints lines.

    With ``shown`` false it shows nothing.
    """

    def __init__(self, console: Console, *, shown: bool) -> None:
        """Prepare the display. Call this last, since it renders once."""
        self._console = console
        self._prints_lines = shown and not console.is_terminal
        self._live: AbstractContextManager[Any] = nullcontext()
        if shown and console.is_terminal:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    @abstractmethod
    def _render(self) -> RenderableType:
        """Return what the terminal shows now."""

    def _print_line(self, *parts: Part) -> None:
        if self._prints_lines:
            self._console.print(styled_text(*parts), soft_wrap=True)
