"""What a stage notebook imports: ``begin`` opens the stage, a module a stage does its work, ``plots`` draws.

Here: everything a cell calls; ``from daybook.notebook import begin, ingest, plots`` loads only what it names. Not here:
executing notebooks (``daybook.execution``).
"""

from __future__ import annotations

from daybook.notebook.stage import Stage, begin

__all__ = ["Stage", "begin"]
