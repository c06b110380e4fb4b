"""Daybook: a shop's day, from landing files to dashboards, as executed notebooks."""

from __future__ import annotations

__version__ = "0.1.0"


def load_ipython_extension(shell: object) -> None:
    """``%load_ext daybook`` in a notebook."""
    from daybook.notebook.magic import load_ipython_extension as load

    load(shell)  # type: ignore[arg-type]
