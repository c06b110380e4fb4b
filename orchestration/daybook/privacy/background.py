"""Search cell outputs for personal data in a thread while the notebook runs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Optional

from nbformat import NotebookNode

from daybook.privacy.redactor import extract_texts
from daybook.settings import Settings

if TYPE_CHECKING:  # The import takes half a second, so the thread does it.
    from daybook.privacy.run_values import RunRedactor


class BackgroundRedactor:
    """Build a redactor and search texts in a thread, from construction until the call that returns the redactor."""

    def __init__(self, settings: Settings, run_id: str, stage: str) -> None:
        self._settings, self._run_id, self._stage = settings, run_id, stage
        self._redactor: Optional[RunRedactor] = None
        self._queue: SimpleQueue[Optional[tuple[list[str], bool]]] = SimpleQueue()
        self._thread = Thread(target=self._run_thread)
        self._thread.start()

    def __enter__(self) -> BackgroundRedactor:
        return self

    def __exit__(self, *_: object) -> None:
        # Without the end mark the thread would wait for more texts, and the process for the thread.
        self._queue.put(None)
        self._thread.join()

    def prefetch(self, cells: Iterable[NotebookNode]) -> None:
        """Search the source of cells of the stage's notebook."""
        self._queue.put(([cell.source for cell in cells], True))

    def submit_output(self, cell: NotebookNode) -> None:
        """Search the outputs of an executed cell."""
        self._queue.put((list(extract_texts(cell.get("outputs", []))), False))

    def __call__(self) -> RunRedactor:
        """Return the current redactor. Raises the errors of ``build_redactor``."""
        from daybook.privacy.run_values import build_redactor

        self._queue.put(None)
        self._thread.join()
        if self._redactor is not None and self._redactor.is_current():
            return self._redactor
        return build_redactor(self._settings, self._run_id, stage=self._stage)

    def _run_thread(self) -> None:
        from daybook.privacy.run_values import build_redactor

        # __call__ repeats both after a failure here, and raises the error.
        with suppress(Exception):
            self._redactor = build_redactor(self._settings, self._run_id, stage=self._stage)
            for texts, exactly in iter(self._queue.get, None):
                self._redactor.search_ahead(texts, exactly=exactly)
