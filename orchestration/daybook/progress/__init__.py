"""Live progress in the terminal: of one run by stages, of a backfill by dates.

Here: reading the state machines' events into what is shown meanwhile. Not here: the events (``daybook.states``), what is
printed at the end (``daybook.cli``).
"""

from __future__ import annotations

from daybook.progress.backfill import BackfillProgress
from daybook.progress.run import Progress

__all__ = ["BackfillProgress", "Progress"]
