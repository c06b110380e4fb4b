"""A job that nobody has warmed, as on AWS: it imports once, for itself and for its kernel, and forks that one off.

Begun from nothing, a kernel imports all over again what its job has imported, and the job waits for it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
from typing import Optional

from daybook.execution.fork_server.client import SINGLE_THREAD_ENV, can_fork

_COMMON_MODULES = ("daybook.privacy.run_values", "daybook.notebook.magic", "ipykernel.ipkernel", "ipykernel.kernelapp")
"""What a kernel imports whatever its stage, and, where the two need the same, the job too. None of these starts a thread."""


def prepare_imports() -> None:
    """Have packages start no threads when they are imported, for threads are not there after a fork; and import faster."""
    if can_fork():
        for name, value in SINGLE_THREAD_ENV.items():
            os.environ.setdefault(name, value)
    # Nothing that is imported is garbage: looking for it again and again takes a fifteenth of the time.
    gc.disable()


def start_standby_kernel(stage: Optional[str]) -> bool:
    """Import what the kernel of this stage needs and fork the process that is to become it; whether that was done.

    Not where there is no stage, where the job itself was forked and has one, where there is no forking, or where something has
    started a thread: the kernel is a process from nothing then.
    """
    try:
        return stage is not None and _import_and_fork(stage)
    finally:
        gc.enable()


def _import_and_fork(stage: str) -> bool:
    if not can_fork():
        return False
    # What forks cannot be imported everywhere.
    from daybook.execution.fork_server import standby_kernel
    from daybook.execution.fork_server.process import count_threads

    if standby_kernel.PROVISIONER_VARIABLE in os.environ or not standby_kernel.is_provisioner_registered():
        return False
    for name in (*_COMMON_MODULES, f"daybook.notebook.{stage}"):
        importlib.import_module(name)
    if count_threads() > 1:
        return False
    # The child would copy each page of what is imported when it first looked for garbage there.
    gc.freeze()
    standby_kernel.fork_standby_kernel()
    atexit.register(standby_kernel.kill_standby_kernel)
    return True
