"""One business date, run by the deployed state machine, to see that a deployment works."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from itertools import count

from daybook.execution.aws.executions import ExecutionInfo, Executions, NameTakenError, archive_input
from daybook.records.names import format_run_id
from daybook.settings import Settings

POLL_SECONDS = 5.0
"""Between two looks at an execution."""


def run_smoke_test(executions: Executions, settings: Settings, day: date, wait: Callable[[str], None]) -> ExecutionInfo:
    """Run a date by the daily state machine, under the date's next name; ``wait`` is told its state at every look."""
    run_id = _start_execution(executions, settings, day)
    while True:
        found = executions.find("daily", run_id)
        if found is not None and not found.running:
            return found
        wait(found.status if found else "STARTING")
        time.sleep(POLL_SECONDS)


def _start_execution(executions: Executions, settings: Settings, day: date) -> str:
    given = {
        "env": settings.env,
        "run_date": day.isoformat(),
        "overrides": {},
        "archive": archive_input(settings.archive),
    }
    for number in count(1):
        run_id = format_run_id(day, number)
        try:
            executions.start("daily", run_id, given)
        except NameTakenError:
            continue
        return run_id
    raise AssertionError("names do not run out")
