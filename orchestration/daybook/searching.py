"""An attempt's redactor, made ready while its notebook is at work: what takes longest of the search needs nothing of it.

Here: making it in a thread of its own, and making it anew where what it was made of has changed meanwhile. Not here: what it
knows (``daybook.personal``), what it searches (``daybook.attempts``).
"""

from __future__ import annotations

from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Optional

from daybook.params import Settings
from daybook.stages import STAGES

if TYPE_CHECKING:  # What reads tables takes half a second to import: in the thread, too.
    from daybook.personal import RunRedactor


class EarlyRedactor:
    """Begun when it is made; called once the notebook has ended, it gives the redactor as of then."""

    def __init__(self, settings: Settings, run_id: str, stage: str) -> None:
        self._settings, self._run_id, self._stage = settings, run_id, stage
        self._early: Optional[RunRedactor] = None
        self._thread = Thread(target=self._make)
        self._thread.start()

    def __call__(self) -> RunRedactor:
        """Raises as ``redactor_for``, as which it is."""
        from daybook.personal import redactor_for

        self._thread.join()
        if self._early is not None and self._early.is_current():
            return self._early
        return redactor_for(self._settings, self._run_id, stage=self._stage)

    def _make(self) -> None:
        from daybook.personal import redactor_for

        # Ingest itself brings the rows that are to be known.
        if self._stage != STAGES[0]:
            # It is tried again when it is wanted: what is wrong then is told.
            with suppress(Exception):
                self._early = redactor_for(self._settings, self._run_id, stage=self._stage)
