"""How a notebook is saved while it is executed: so that a kill leaves what ran, and without holding up a single cell.

papermill writes the whole notebook before and after every cell, which for a stage of short cells is a sixth of what its job
does.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Optional

from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from daybook.execution.outputs import NotebookOutputs, OutputLimits

ENGINE_NAME = "daybook"
"""The engine's name, for ``papermill.execute_notebook``."""
_OUTPUTS_TIMEOUT_SECONDS = 600
"""Seconds after a cell's end for its outputs to be taken in: a kernel sends many small ones faster than they are read."""
_SAVE_INTERVAL_SECONDS = 0.25
"""Seconds of work whose outputs a kill may cost."""


def read_running_cell(saved: Path) -> Optional[int]:
    """The index of the cell that a notebook was at when its process was killed; None where that is not on record."""
    try:
        return int(_marker_path(saved).read_text())
    except (OSError, ValueError):
        return None


def _marker_path(saved: Path) -> Path:
    return saved.with_suffix(".cell")


class ThrottledSaveManager(NotebookExecutionManager):  # type: ignore[misc]
    """Saves where there is something to lose: papermill asks at each turn, this one waits for a cell that takes long."""

    def __init__(self, nb: NotebookNode, **options: Any) -> None:
        super().__init__(nb, **options)
        self._timer: Optional[asyncio.TimerHandle] = None
        # Nothing was: papermill takes its start for that.
        self.last_save_time -= timedelta(seconds=_SAVE_INTERVAL_SECONDS)

    def save(self, **_: Any) -> None:
        """Save unless that was done within ``_SAVE_INTERVAL_SECONDS`` seconds."""
        if (self.now() - self.last_save_time).total_seconds() >= _SAVE_INTERVAL_SECONDS:
            super().save()

    def cell_start(self, cell: NotebookNode, cell_index: Optional[int] = None, **options: Any) -> None:
        """Note which cell is begun, so that a kill at any moment leaves that."""
        super().cell_start(cell, cell_index, **options)
        if self.output_path and cell_index is not None:
            _marker_path(Path(self.output_path)).write_text(str(cell_index))

    def schedule_save(self) -> None:
        """A cell was sent to the kernel: save if it is still running after ``_SAVE_INTERVAL_SECONDS`` seconds. Called in the event loop that
        waits for it, which does the saving while the kernel works."""
        self._forget()
        self._timer = asyncio.get_running_loop().call_later(_SAVE_INTERVAL_SECONDS, super().save)

    def notebook_complete(self, **options: Any) -> None:
        """Whatever became of it, the notebook is saved as it ended."""
        self._forget()
        # It saves too, which then is the one time.
        self.last_save_time -= timedelta(seconds=_SAVE_INTERVAL_SECONDS)
        super().notebook_complete(**options)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class LimitedOutputClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's own client, keeping no more of the outputs than ``bounded`` does."""

    def __init__(self, manager: ThrottledSaveManager, bounded: NotebookOutputs, **options: Any) -> None:
        super().__init__(manager, **options)
        self._limited_outputs = bounded

    def output(self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str, cell_index: int) -> Optional[NotebookNode]:
        """Take in an output. ``bounded`` has the identifiers of displays: nbclient's are positions in the list of outputs."""
        arrived: Optional[NotebookNode] = super().output(outs, msg, "", cell_index)
        if arrived is not None:
            self._limited_outputs.add_output(cell_index, outs, display_id)
        return arrived

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Clear a cell's outputs."""
        super().clear_output(outs, msg, cell_index)
        if not outs:
            self._limited_outputs.cleared(cell_index)

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        self._limited_outputs.update_display(display_id, msg["content"]["data"], msg["content"]["metadata"])

    def set_widgets_metadata(self) -> None:
        """Save the state of widgets, unless it is larger than what the notebook's limit leaves."""
        if self._limited_outputs.has_room_for([self.widget_state, self.widget_buffers]):
            super().set_widgets_metadata()


class ThrottledSaveEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, saving as ``ThrottledSaveManager`` does."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, output_path: Optional[str] = None, **options: Any
    ) -> NotebookNode:
        """As the engine's it overrides, which makes the manager itself."""
        about = {name: options.pop(name) for name in ("progress_bar", "log_output", "autosave_cell_every") if name in options}
        manager = ThrottledSaveManager(nb, output_path=output_path, **about)
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
        nb_man: ThrottledSaveManager,
        kernel_name: str,
        *,
        limits: OutputLimits,
        start_timeout: int,
        on_cell_execute: Optional[Callable[..., Any]] = None,
        on_cell_executed: Optional[Callable[..., Any]] = None,
        **options: Any,
    ) -> Any:
        """Execute the notebook with a client that bounds outputs, and tell the manager when a cell begins."""
        bounded = NotebookOutputs(limits)

        def told(**said: Any) -> None:
            nb_man.schedule_save()
            if on_cell_execute is not None:
                on_cell_execute(**said)

        def ended(cell_index: int, **said: Any) -> None:
            bounded.ended(cell_index)
            if on_cell_executed is not None:
                on_cell_executed(cell_index=cell_index, **said)

        unused = ("input_path", "stdout_file", "stderr_file")
        return LimitedOutputClient(
            nb_man,
            bounded,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            iopub_timeout=_OUTPUTS_TIMEOUT_SECONDS,
            on_cell_execute=told,
            on_cell_executed=ended,
            **{name: value for name, value in options.items() if name not in unused},
        ).execute()


papermill_engines.register(ENGINE_NAME, ThrottledSaveEngine)
