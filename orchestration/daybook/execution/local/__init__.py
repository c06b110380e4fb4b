"""What AWS does with Daybook, done on this machine: the same state machine files, the same job script, the same archive.

``jobs`` are the services behind the daily machine's tasks, ``runs`` a business date from start to closing record,
``backfills`` many of them.
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
