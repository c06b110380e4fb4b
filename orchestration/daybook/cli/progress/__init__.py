"""Show live progress in the terminal: of a run by stage, of a backfill by date."""

from __future__ import annotations

from daybook.cli.progress.backfill import BackfillProgress
from daybook.cli.progress.run import Progress

__all__ = ["BackfillProgress", "Progress"]
