"""Run an e-commerce day from landing files to gold tables in parameterised notebooks."""

from __future__ import annotations

import os
from pathlib import Path

# delta-rs logs each commit conflict to stderr. Daybook retries the commit, so the log is noise.
os.environ.setdefault("RUST_LOG", "off")
# The system allocator returns freed memory, and early on request (``engines.memory``). Arrow's own keeps it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# Without this, the first pydantic model of a process reads the metadata of every installed package, to look for plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Jobs and kernels have other working folders, so relative paths are made absolute here. An empty variable counts as unset.
for _variable in ("DAYBOOK_HOME", "DAYBOOK_PROJECT"):
    if os.environ.get(_variable):
        os.environ[_variable] = str(Path(os.environ[_variable]).absolute())
    else:
        os.environ.pop(_variable, None)

__version__ = "0.1.0"


def load_ipython_extension(shell: object) -> None:
    """Register Daybook's magics for ``%load_ext daybook``."""
    from daybook.notebook.magic import load_ipython_extension as load

    load(shell)  # type: ignore[arg-type]
