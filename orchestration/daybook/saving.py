"""How a notebook is saved while it is executed: so that a kill leaves what ran, and without holding up a single cell.

papermill writes the whole notebook before and after every cell, which for a stage of short cells costs a third of what the
notebook's own process does. Here: the papermill engine that writes it once a cell takes long, and now and then. Not here: what
is made of the saved notebook of a job that was killed (``daybook.attempts``).
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Optional

from nbformat import NotebookNode
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

ENGINE = "daybook"
"""The engine's name, for ``papermill.execute_notebook``."""
_SOON = 0.5
"""Seconds that a cell runs before what came before it is saved, and that it is running."""
_LATEST = 2.0
"""Seconds of short cells after which the next one is not begun unsaved."""


class SparingManager(NotebookExecutionManager):  # type: ignore[misc]
    """Saves where there is something to lose: papermill asks at each turn, this one waits for a cell that takes long."""

    def __init__(self, nb: NotebookNode, **options: Any) -> None:
        super().__init__(nb, **options)
        self._timer: Optional[asyncio.TimerHandle] = None

    def save(self, **_: Any) -> None:
        """Save unless that was done within ``_LATEST`` seconds."""
        if (self.now() - self.last_save_time).total_seconds() >= _LATEST:
            super().save()

    def cell_runs(self) -> None:
        """A cell was sent to the kernel: save if it is still running after ``_SOON`` seconds. Called in the event loop that
        waits for it, which does the saving while the kernel works."""
        self._forget()
        self._timer = asyncio.get_running_loop().call_later(_SOON, super().save)

    def notebook_complete(self, **options: Any) -> None:
        """Whatever became of it, the notebook is saved as it ended."""
        self._forget()
        super().notebook_complete(**options)
        super().save()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class SparingEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, saving as ``SparingManager`` does."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, output_path: Optional[str] = None, **options: Any
    ) -> NotebookNode:
        """As the engine's it overrides, which makes the manager itself."""
        about = {name: options.pop(name) for name in ("progress_bar", "log_output", "autosave_cell_every") if name in options}
        manager = SparingManager(nb, output_path=output_path, **about)
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=bool(about.get("log_output")), **options)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        done: NotebookNode = manager.nb
        return done

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: SparingManager,
        kernel_name: str,
        on_cell_execute: Optional[Callable[..., Any]] = None,
        **options: Any,
    ) -> Any:
        """As the engine's, and the manager is told when a cell runs."""

        def told(**said: Any) -> None:
            nb_man.cell_runs()
            if on_cell_execute is not None:
                on_cell_execute(**said)

        return super().execute_managed_notebook(nb_man, kernel_name, on_cell_execute=told, **options)


papermill_engines.register(ENGINE, SparingEngine)
