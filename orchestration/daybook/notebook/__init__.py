"""What a stage notebook imports: ``begin`` opens the stage, each stage has a module, and ``plots`` draws.

``from daybook.notebook import begin, ingest, plots`` loads only the modules that it names.
"""

from __future__ import annotations

from daybook.notebook.context import Stage, begin

__all__ = ["Stage", "begin"]
