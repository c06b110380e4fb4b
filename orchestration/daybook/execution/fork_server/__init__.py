"""Warm starts on a laptop: one process imports all that jobs and kernels need, and forks each of them from it.

``host`` preloads and forks jobs, ``client`` asks it for them, ``seed`` is what a job keeps ready to become its kernel,
``provisioner`` is how Jupyter gets that kernel, and ``process`` what makes a fork a process like a new one; ``alone`` is a job
that nobody has warmed, which forks its kernel all the same. Every job and every notebook still is a process of its own, begun
from the same memory.
"""

from __future__ import annotations

from daybook.execution.fork_server.client import ForkedJob, ForkServer, SubprocessJob, get_fork_server

__all__ = ["ForkServer", "ForkedJob", "SubprocessJob", "get_fork_server"]
