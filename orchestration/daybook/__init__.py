"""Daybook: a shop's day, from landing files to dashboards, as executed notebooks."""

from __future__ import annotations

import os
from pathlib import Path

# delta-rs writes to stderr whenever another writer was first, which is no news here: the commit is made again.
os.environ.setdefault("RUST_LOG", "off")
# Arrow's own allocator keeps what it once had; the system's gives it back, and can be told to do so early (``engines.memory``).
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# Jobs and kernels work in folders of their own, where a path from this one would lead elsewhere; an empty one names none.
for _place in ("DAYBOOK_HOME", "DAYBOOK_PROJECT"):
    if os.environ.get(_place):
        os.environ[_place] = str(Path(os.environ[_place]).absolute())
    else:
        os.environ.pop(_place, None)

__version__ = "0.1.0"


def load_ipython_extension(shell: object) -> None:
    """``%load_ext daybook`` in a notebook."""
    from daybook.notebook.magic import load_ipython_extension as load

    load(shell)  # type: ignore[arg-type]
