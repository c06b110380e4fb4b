"""Measure Python's memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable


def run_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a module's function in a new process, which can call ``measure_peak``.

    The new process has this one's environment variables, and none of its patched attributes.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def measure_peak(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Return the result of ``function`` and how many bytes more than before it held at most.

    Tracing is never stopped: Python can crash if it stops while a thread of pyarrow allocates (CPython's gh-128679).
    """
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    result = function(*arguments)
    return result, tracemalloc.get_traced_memory()[1] - before
