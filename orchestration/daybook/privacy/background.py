"""Search cell outputs for personal data in a thread while the notebook runs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Optional

from nbformat import NotebookNode

from daybook.privacy.redactor import texts_in
from daybook.settings import Settings

if TYPE_CHECKING:  # What reads tables takes half a second to import: in the thread, too.
    from daybook.privacy.run_values import RunRedactor


class EarlyRedactor:
    """Begun when it is made; called once the notebook has ended, it gives the redactor as of then."""

    def __init__(self, settings: Settings, run_id: str, stage: str) -> None:
        self._settings, self._run_id, self._stage = settings, run_id, stage
        self._early: Optional[RunRedactor] = None
        self._coming: SimpleQueue[Optional[tuple[list[str], bool]]] = SimpleQueue()
        self._thread = Thread(target=self._work)
        self._thread.start()

    def __enter__(self) -> EarlyRedactor:
        return self

    def __exit__(self, *_: object) -> None:
        # Else the thread would wait for more, and the process for the thread.
        self._coming.put(None)
        self._thread.join()

    def expect(self, cells: Iterable[NotebookNode]) -> None:
        """Cells of the stage's notebook, whose text is to be searched."""
        self._coming.put(([cell.source for cell in cells], True))

    def see(self, cell: NotebookNode) -> None:
        """A cell that ran, with what it has left."""
        self._coming.put((list(texts_in(cell.get("outputs", []))), False))

    def __call__(self) -> RunRedactor:
        """Raises as ``redactor_for``, as which it is."""
        from daybook.privacy.run_values import redactor_for

        self._coming.put(None)
        self._thread.join()
        if self._early is not None and self._early.is_current():
            return self._early
        return redactor_for(self._settings, self._run_id, stage=self._stage)

    def _work(self) -> None:
        from daybook.privacy.run_values import redactor_for

        # Both are tried again when they are wanted: what is wrong then is told.
        with suppress(Exception):
            self._early = redactor_for(self._settings, self._run_id, stage=self._stage)
            for texts, exactly in iter(self._coming.get, None):
                self._early.look_ahead(texts, exactly=exactly)
