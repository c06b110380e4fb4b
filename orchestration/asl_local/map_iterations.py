"""Run the iterations of a Map state concurrently."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Callable, List, Sequence

from asl_local.error_handling import Failure
from asl_local.history import RecordingStopped


class IterationCancelled(Exception):
    """Report an iteration that stops because another iteration of the Map state failed."""


class ExecutionStopped(Exception):
    """Report a branch that stops because the execution is interrupted. It records no event."""


def run_iterations(
    work: Callable[[int], None],
    indices: Sequence[int],
    concurrency: int,
    cancelled: threading.Event,
    stopping: threading.Event,
) -> None:
    """Call ``work`` with each of ``indices``, at most ``concurrency`` at a time, until all end or one raises.

    After an exception, ``cancelled`` (for a ``Failure``) or ``stopping`` (for others) is set, and the running iterations
    are awaited. Of several exceptions, the most specific one is raised (``_error_priority``).
    """
    if concurrency == 1 or len(indices) <= 1:
        for index in indices:
            work(index)
        return
    with ThreadPoolExecutor(min(concurrency, len(indices)), thread_name_prefix="iteration") as pool:
        futures: List[Future[None]] = []

        def attempt(index: int) -> None:
            try:
                work(index)
            except Failure:
                cancelled.set()
                raise
            except IterationCancelled:
                raise
            except BaseException:
                stopping.set()
                raise

        try:
            futures.extend(pool.submit(attempt, index) for index in indices)
            wait(futures, return_when="FIRST_EXCEPTION")
        except BaseException:  # an interrupt of the waiting thread
            stopping.set()
            raise
        finally:
            if cancelled.is_set() or stopping.is_set():
                for future in futures:
                    future.cancel()
    errors = [error for future in futures if not future.cancelled() for error in [future.exception()] if error]
    if errors:
        raise min(errors, key=_error_priority)


def _error_priority(error: BaseException) -> int:
    """Rank exceptions: interrupts, then bugs, then failures of states, then consequences of other exceptions."""
    if isinstance(error, (IterationCancelled, ExecutionStopped, RecordingStopped)):
        return 3
    if isinstance(error, Failure):
        return 2
    return 1 if isinstance(error, Exception) else 0
