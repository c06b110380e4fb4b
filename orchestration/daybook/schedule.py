"""When the nightly run happens, and which business dates are due by then.

Here: the slot and its arithmetic; the moment is always given, so that nothing here looks at a clock. Not here: on which dates
a shop trades (``daybook.sources.calendar``), starting runs.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

SLOT = time(2, 0)
"""The time of day, in UTC, at which the day before is run: at 02:00 UTC of the 24th, the 23rd."""


def newest_due(moment: datetime) -> date:
    """The newest business date whose slot has come. ``moment`` has a time zone; without one it raises ``ValueError``."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone, so nobody can tell which slots have come")
    slot = timedelta(hours=SLOT.hour, minutes=SLOT.minute)
    return (moment.astimezone(timezone.utc) - slot).date() - timedelta(days=1)
