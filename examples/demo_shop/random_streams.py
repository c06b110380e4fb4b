"""Where the seeded shop's randomness comes from: one independent stream for each concern.

Separate streams keep changes local: another rate of broken rows leaves the shop's trade as it was.
"""

from __future__ import annotations

from random import Random


def random_stream(seed: int, concern: str) -> Random:
    """Return the generator of one concern; the same seed and concern always give the same numbers.

    ``random.Random`` seeds from text through SHA-512, so neither the Python version nor the hash seed matters.
    """
    return Random(f"{seed}/{concern}")  # noqa: S311 - made-up trade, no secrets
