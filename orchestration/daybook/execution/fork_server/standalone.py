"""Fork the kernel of a job that has no fork server, as on AWS, so that the kernel's packages are imported only once."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
from typing import Optional

from daybook.execution.fork_server.client import SINGLE_THREAD_ENV, can_fork

_COMMON_MODULES = ("daybook.privacy.run_values", "daybook.notebook.magic", "ipykernel.ipkernel", "ipykernel.kernelapp")
"""Modules that every kernel imports. None of them starts a thread."""


def prepare_imports() -> None:
    """Prevent threads at import, because a fork does not have them, and disable GC for faster imports."""
    if can_fork():
        for name, value in SINGLE_THREAD_ENV.items():
            os.environ.setdefault(name, value)
    # Imports create no garbage; without collections they take 7 % less time.
    gc.disable()


def start_standby_kernel(stage: Optional[str]) -> bool:
    """Import the modules of a stage's kernel and fork its standby process; return whether that was done.

    It is not done without a stage, if the job itself was forked, if the system has no fork, or if a thread was started.
    Then the kernel starts as a new process.
    """
    try:
        if stage is None or not can_fork():
            return False
        # These modules cannot be imported on every system.
        from daybook.execution.fork_server import standby_kernel
        from daybook.execution.fork_server.process import count_threads

        if standby_kernel.PROVISIONER_VARIABLE in os.environ or not standby_kernel.is_provisioner_registered():
            return False
        for name in (*_COMMON_MODULES, f"daybook.notebook.{stage}"):
            importlib.import_module(name)
        if count_threads() > 1:
            return False
        # Frozen objects are not collected, so the child does not copy their memory pages.
        gc.freeze()
        standby_kernel.fork_standby_kernel()
        atexit.register(standby_kernel.kill_standby_kernel)
        return True
    finally:
        gc.enable()
