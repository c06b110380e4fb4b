"""Doing the iterations of a Map state side by side, and stopping them together."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Callable, List, Sequence

from asl_local.error_handling import Failure
from asl_local.history import RecordingStopped


class IterationCancelled(Exception):
    """Another iteration of the same Map state failed, so this one is aborted."""


class ExecutionStopped(Exception):
    """The execution is being stopped from outside the machine, so this line of states ends without a word."""


def run_iterations(
    work: Callable[[int], None],
    indices: Sequence[int],
    concurrency: int,
    cancelled: threading.Event,
    stopping: threading.Event,
) -> None:
    """Call ``work`` with each of ``indices``, ``concurrency`` at a time, until all are done or one raises.

    After a fault the iterations under way are told, by ``cancelled`` when a state failed and by ``stopping`` for
    anything else, and waited for. The fault that is raised is the first that is not a mere echo of another.
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
    faults = [fault for future in futures if not future.cancelled() for fault in [future.exception()] if fault]
    if faults:
        raise min(faults, key=_error_priority)


def _error_priority(fault: BaseException) -> int:
    """Order faults by how much they say: an interrupt or a bug, then the machine's own, then echoes of others."""
    if isinstance(fault, (IterationCancelled, ExecutionStopped, RecordingStopped)):
        return 3
    if isinstance(fault, Failure):
        return 2
    return 1 if isinstance(fault, Exception) else 0
