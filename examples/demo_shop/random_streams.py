"""Create one independent random number generator per purpose.

A change to one purpose, such as the rate of broken rows, then leaves the others as they were.
"""

from __future__ import annotations

from random import Random


def random_stream(seed: int, purpose: str) -> Random:
    """Return the generator of one purpose; the same seed and purpose always give the same numbers.

    ``random.Random`` seeds from text through SHA-512, so the numbers depend on neither the Python version nor the hash seed.
    The name of a purpose is part of the seed: renaming one changes the files.
    """
    return Random(f"{seed}/{purpose}")  # noqa: S311 - simulated data, no secrets
