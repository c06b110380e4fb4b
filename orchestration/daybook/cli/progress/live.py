"""Show a renderable in the terminal while a context lasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Optional

from rich.console import Console, RenderableType
from rich.live import Live
from typing_extensions import Self


class LiveDisplay(ABC):
    """A context manager that shows ``_render()`` four times a second, if the console is a terminal and ``live`` is true."""

    def __init__(self, console: Console, *, live: bool) -> None:
        """Prepare the display. Call this last, since it renders once."""
        self._live = (
            Live(get_renderable=self._render, console=console, refresh_per_second=4) if live and console.is_terminal else None
        )

    @abstractmethod
    def _render(self) -> RenderableType: ...

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._live:
            self._live.stop()
