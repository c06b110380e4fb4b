"""Live progress in the terminal: of one run by stages, of a backfill by dates."""

from __future__ import annotations

from daybook.cli.progress.backfill import BackfillProgress
from daybook.cli.progress.run import Progress

__all__ = ["BackfillProgress", "Progress"]
