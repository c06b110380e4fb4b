"""Run one business date with the deployed state machine, to check a deployment."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from itertools import count

from daybook.execution.aws.executions import ExecutionInfo, Executions, NameTakenError, build_input
from daybook.records.names import format_run_id
from daybook.settings import Settings

POLL_SECONDS = 5.0
"""Seconds between two polls of an execution."""


def run_smoke_test(executions: Executions, settings: Settings, day: date, wait: Callable[[str], None]) -> ExecutionInfo:
    """Run a date with the daily state machine under its next free name and return the ended execution.

    ``wait`` is called with the status after every poll.
    """
    data = {**build_input(settings), "overrides": {}, "run_date": day.isoformat()}
    for number in count(1):
        run_id = format_run_id(day, number)
        with suppress(NameTakenError):
            executions.start("daily", run_id, data)
            break
    while True:
        found = executions.find("daily", run_id)
        if found is not None and not found.is_running:
            return found
        wait(found.status if found else "STARTING")
        time.sleep(POLL_SECONDS)
