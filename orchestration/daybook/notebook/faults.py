"""Do the work of each date of a range, so that a fault that concerns one date ends that date only."""

from __future__ import annotations

import random
import time
from datetime import date
from typing import Callable

from daybook.errors import is_permanent
from daybook.notebook.context import Stage

_TRIES = 4
_FIRST_WAIT_SECONDS, _BACKOFF_RATE = 1.0, 2.0


def for_each_date(stage: Stage, work: Callable[[date], None], *, wait: Callable[[float], None] = time.sleep) -> None:
    """Call ``work`` with each date that continues.

    A date of a range whose work raises is tried again three times, with exponential backoff and full jitter. Then it ends as
    FAILED, and the other dates continue. A permanent failure is not tried again. Of a single date the exception is raised: then
    the state machine runs the stage again.

    Raises
    ------
    DatesFailedError
        No date continues.
    """
    for day in list(stage.dates):
        if not stage.is_range:
            work(day)
            continue
        for number in range(_TRIES):
            try:
                work(day)
                break
            except Exception as error:  # noqa: BLE001 (whatever the fault of a date is, the others continue)
                if number == _TRIES - 1 or is_permanent(type(error).__name__):
                    stage.fail_date(day, error)
                    break
                wait(random.uniform(0, _FIRST_WAIT_SECONDS * _BACKOFF_RATE**number))  # noqa: S311 (no secret)
