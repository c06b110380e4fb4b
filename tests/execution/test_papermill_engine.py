"""Test that a notebook is saved at intervals instead of before and after every cell."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from papermill.engines import NotebookExecutionManager

from daybook.execution import papermill_engine
from daybook.execution.papermill_engine import ThrottledSaveManager, read_running_cell


@pytest.fixture
def notebook() -> NotebookNode:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(str(number)) for number in range(3)])
    made.metadata.papermill = {}
    return made


def statuses(path: Path) -> list[str]:
    """Return the status of each cell in the saved notebook."""
    return [cell.metadata.papermill.status for cell in nbformat.read(path, as_version=4).cells]


def start_cell(manager: ThrottledSaveManager, index: int, turns: int) -> None:
    """Start a cell and wait for ``turns`` turns of the event loop."""
    manager.cell_start(manager.nb.cells[index], index)

    async def wait() -> None:
        manager.schedule_save()
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(wait())


def test_short_cells_are_not_saved_separately(notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    def save(self: NotebookExecutionManager, **_: object) -> None:
        saved.append(1)
        self.last_save_time = self.now()

    monkeypatch.setattr(NotebookExecutionManager, "save", save)
    manager = ThrottledSaveManager(notebook, output_path=str(tmp_path / "out.ipynb"), progress_bar=False)
    manager.notebook_start()
    for index, cell in enumerate(notebook.cells):
        start_cell(manager, index, turns=1)
        manager.cell_complete(cell, index)
    assert saved == [1]
    manager.notebook_complete()
    assert len(saved) > 1


def test_long_cell_is_saved_as_running(notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.ipynb"
    manager = ThrottledSaveManager(notebook, output_path=str(path), progress_bar=False)
    manager.notebook_start()
    start_cell(manager, 0, turns=1)
    manager.cell_complete(notebook.cells[0], 0)
    assert statuses(path) == ["pending", "pending", "pending"]
    assert read_running_cell(path) == 0
    monkeypatch.setattr(papermill_engine, "_SAVE_INTERVAL_SECONDS", 0.0)
    start_cell(manager, 1, turns=3)
    assert statuses(path) == ["completed", "running", "pending"]


def test_short_cells_are_saved_after_interval(notebook: NotebookNode, tmp_path: Path) -> None:
    path = tmp_path / "out.ipynb"
    manager = ThrottledSaveManager(notebook, output_path=str(path), progress_bar=False)
    manager.notebook_start()
    manager.last_save_time -= timedelta(seconds=papermill_engine._SAVE_INTERVAL_SECONDS)
    manager.cell_start(notebook.cells[0], 0)
    assert statuses(path) == ["running", "pending", "pending"]


def test_failed_notebook_is_saved_at_end(notebook: NotebookNode, tmp_path: Path) -> None:
    path = tmp_path / "out.ipynb"
    manager = ThrottledSaveManager(notebook, output_path=str(path), progress_bar=False)
    manager.notebook_start()
    start_cell(manager, 0, turns=1)
    manager.cell_exception(notebook.cells[0], cell_index=0)
    manager.notebook_complete()
    assert statuses(path)[0] == "failed"
