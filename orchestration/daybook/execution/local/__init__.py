"""Execute runs and backfills on this machine with the state machine files and the job script that AWS uses.

``jobs`` has the services for tasks of state machines, ``runs`` the runs of one business date, ``backfills`` those of many.
"""

from __future__ import annotations

from daybook.execution.local.backfills import START_EXECUTION, RunListener, is_running, run_backfill, run_catch_up
from daybook.execution.local.jobs import GET_OBJECT, START_JOB_RUN, GlueJobs, get_object
from daybook.execution.local.runs import Listener, resume_day, run_day

__all__ = [
    "GET_OBJECT",
    "START_EXECUTION",
    "START_JOB_RUN",
    "GlueJobs",
    "Listener",
    "RunListener",
    "get_object",
    "is_running",
    "resume_day",
    "run_backfill",
    "run_catch_up",
    "run_day",
]
