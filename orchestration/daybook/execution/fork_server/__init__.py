"""Fork jobs and kernels from a process that has already imported their packages, for fast starts on one machine.

``server`` imports the packages and forks jobs, ``client`` requests jobs from it, ``process`` makes a fork behave like a new
process. A job forks a ``standby_kernel`` early, which ``provisioner`` gives to Jupyter. In ``standalone`` a job without fork
server does the same for its kernel. ``warm_up`` fills caches before the first fork.
"""

from __future__ import annotations

from daybook.execution.fork_server.client import ForkedJob, ForkServer, SubprocessJob, get_fork_server

__all__ = ["ForkServer", "ForkedJob", "SubprocessJob", "get_fork_server"]
