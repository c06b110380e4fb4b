"""One business date, run by the deployed state machine, to see that a deployment works.

Here: starting the execution, and waiting for its end. Not here: what the run does, whose record is in the archive like any's;
nor the archive itself, which who deploys may not read: so the date's name is the first that no execution has had, and how it
ended is what Step Functions says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from itertools import count

from daybook.aws.executions import Executions, Found, NameTakenError, archive_input
from daybook.params import Settings
from daybook.stages import run_name

POLL_SECONDS = 5.0
"""Between two looks at an execution."""


def run_date(executions: Executions, settings: Settings, day: date, wait: Callable[[str], None]) -> Found:
    """Run a date by the daily state machine, under the date's next name; ``wait`` is told its state at every look."""
    run_id = _start(executions, settings, day)
    while True:
        found = executions.find("daily", run_id)
        if found is not None and not found.running:
            return found
        wait(found.status if found else "STARTING")
        time.sleep(POLL_SECONDS)


def _start(executions: Executions, settings: Settings, day: date) -> str:
    given = {
        "env": settings.env,
        "run_date": day.isoformat(),
        "overrides": {},
        "archive": archive_input(settings.archive),
    }
    for number in count(1):
        run_id = run_name(day, number)
        try:
            executions.start("daily", run_id, given)
        except NameTakenError:
            continue
        return run_id
    raise AssertionError("names do not run out")
