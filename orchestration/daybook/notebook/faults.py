"""Do the work of each date of a range, so that a fault that concerns one date ends that date only."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Callable

from daybook.errors import DatesFailedError, is_permanent
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
    for_each_group(stage, [[day] for day in stage.dates], lambda days: work(days[0]), wait=wait)


def for_each_group(
    stage: Stage,
    groups: Iterable[Sequence[date]],
    work: Callable[[Sequence[date]], None],
    *,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Call ``work`` with each group of dates, such as those of one file. A fault ends all dates of its group.

    Otherwise this is ``for_each_date``.
    """
    for days in groups:
        if not stage.is_range:
            work(days)
            continue
        for number in range(_TRIES):
            try:
                work(days)
                break
            except DatesFailedError:
                # The work has ended the last date that continued.
                raise
            except Exception as error:  # noqa: BLE001 (whatever the fault of a date is, the others continue)
                if number == _TRIES - 1 or is_permanent(type(error).__name__):
                    for day in days:
                        stage.fail_date(day, error)
                    break
                wait(random.uniform(0, _FIRST_WAIT_SECONDS * _BACKOFF_RATE**number))  # noqa: S311 (no secret)
