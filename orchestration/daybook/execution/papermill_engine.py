"""Execute notebooks with papermill, but save them at most every 0.25 s and limit their outputs.

papermill saves the whole notebook before and after every cell, which takes a sixth of a job with short cells. The throttled
saves still preserve the cells that ran before a kill.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Optional

from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines

from daybook.execution.outputs import NotebookOutputs, OutputLimits

ENGINE_NAME = "daybook"
"""The engine's name, for ``papermill.execute_notebook``."""
_OUTPUTS_TIMEOUT_SECONDS = 600
"""Seconds to wait for outputs after a cell's end. A kernel can send many small outputs faster than they are read."""
_SAVE_INTERVAL_SECONDS = 0.25
"""Minimum seconds between two saves. A kill can lose the outputs of this time."""

_UNUSED_OPTIONS = ("input_path", "stdout_file", "stderr_file", "progress_bar", "log_output", "autosave_cell_every")
"""Options that papermill gives to each engine and that are no settings of nbclient."""


def read_running_cell(saved: Path) -> Optional[int]:
    """Return the index of the cell that was running when a notebook's process was killed; None if it is not recorded."""
    try:
        return int(_marker_path(saved).read_text())
    except (OSError, ValueError):
        return None


def _marker_path(saved: Path) -> Path:
    return saved.with_suffix(".cell")


class ThrottledSaveManager(NotebookExecutionManager):  # type: ignore[misc]
    """Save a notebook at most every ``_SAVE_INTERVAL_SECONDS``, and while a long cell is running."""

    def __init__(self, nb: NotebookNode, **options: Any) -> None:
        super().__init__(nb, **options)
        self._timer: Optional[asyncio.TimerHandle] = None
        # Nothing has been saved yet; papermill sets last_save_time to the start.
        self.last_save_time -= timedelta(seconds=_SAVE_INTERVAL_SECONDS)

    def save(self, **_: Any) -> None:
        """Save unless the last save was less than ``_SAVE_INTERVAL_SECONDS`` ago."""
        if (self.now() - self.last_save_time).total_seconds() >= _SAVE_INTERVAL_SECONDS:
            super().save()

    def cell_start(self, cell: NotebookNode, cell_index: Optional[int] = None, **options: Any) -> None:
        """Record which cell is starting, so that it is known after a kill."""
        super().cell_start(cell, cell_index, **options)
        if self.output_path and cell_index is not None:
            _marker_path(Path(self.output_path)).write_text(str(cell_index))

    def schedule_save(self) -> None:
        """Save if the started cell is still running after ``_SAVE_INTERVAL_SECONDS``. Called in the event loop that waits
        for the cell."""
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(_SAVE_INTERVAL_SECONDS, super().save)

    def notebook_complete(self, **options: Any) -> None:
        """Save the ended notebook once."""
        self._cancel_timer()
        # Lets the save of the base class pass.
        self.last_save_time -= timedelta(seconds=_SAVE_INTERVAL_SECONDS)
        super().notebook_complete(**options)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class LimitedOutputClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client with limited outputs."""

    def __init__(self, manager: ThrottledSaveManager, outputs: NotebookOutputs, **options: Any) -> None:
        super().__init__(manager, **options)
        self._limited_outputs = outputs

    def output(self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str, cell_index: int) -> Optional[NotebookNode]:
        """Process an output. The display id is handled here, because nbclient's are positions in the list of outputs."""
        arrived: Optional[NotebookNode] = super().output(outs, msg, "", cell_index)
        if arrived is not None:
            self._limited_outputs.add_output(cell_index, outs, display_id)
        return arrived

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Clear a cell's outputs."""
        super().clear_output(outs, msg, cell_index)
        if not outs:
            self._limited_outputs.clear(cell_index)

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        self._limited_outputs.update_display(display_id, msg["content"]["data"], msg["content"]["metadata"])

    def set_widgets_metadata(self) -> None:
        """Save the state of widgets unless it exceeds the notebook's limit."""
        if self._limited_outputs.has_room_for([self.widget_state, self.widget_buffers]):
            super().set_widgets_metadata()


class ThrottledSaveEngine(Engine):  # type: ignore[misc]
    """An engine of papermill with ``ThrottledSaveManager`` and ``LimitedOutputClient``."""

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: Optional[str] = None,
        *,
        limits: OutputLimits,
        start_timeout: int,
        on_cell_execute: Callable[..., Any],
        on_cell_executed: Callable[..., Any],
        **options: Any,
    ) -> NotebookNode:
        """Execute a notebook with limited outputs, and schedule a save for each started cell."""
        manager = ThrottledSaveManager(nb, output_path=output_path, progress_bar=False)
        outputs = NotebookOutputs(limits)

        def started(**fields: Any) -> None:
            manager.schedule_save()
            on_cell_execute(**fields)

        def finished(cell_index: int, **fields: Any) -> None:
            outputs.finish_cell(cell_index)
            on_cell_executed(cell_index=cell_index, **fields)

        client = LimitedOutputClient(
            manager,
            outputs,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            iopub_timeout=_OUTPUTS_TIMEOUT_SECONDS,
            on_cell_execute=started,
            on_cell_executed=finished,
            **{name: value for name, value in options.items() if name not in _UNUSED_OPTIONS},
        )
        manager.notebook_start()
        try:
            client.execute()
        finally:
            manager.notebook_complete()
        done: NotebookNode = manager.nb
        return done


papermill_engines.register(ENGINE_NAME, ThrottledSaveEngine)
