"""The order dates whose gold waits: noted as stale, landed, or held because a gate said no."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from daybook.lake.tables import Lake
from daybook.notebook.context import Stage

STALE_DATES = "control.stale_dates"
"""Order dates whose gold no longer is what silver says, by the business date whose run has to mend it; a row a note.

Noted before the change, for a run that dies right after it, and again once all is merged. Cleared once gold is published:
exactly the notes that the candidates rest on, so that what was noted meanwhile stays for the next."""
LANDED_DATES = "control.landed_dates"
"""The business dates whose rows have passed validation and are in silver, a partition each."""
HELD_DATES = "control.held_dates"
"""By business date whose gate said no: the order dates whose silver rows it has changed, which no other run may show (but each
its own date: that is what its landing says, whoever changed it since)."""
ANY_RUN_DATE = date(1, 1, 1)
"""The date under which notes wait for whichever run comes next."""


class StaleNote(NamedTuple):
    """One row of ``control.stale_dates``."""

    run_date: date
    order_date: date
    name: str


def mark_stale_dates(lake: Lake, dates: Iterable[date], *, under: date = ANY_RUN_DATE) -> None:
    """Note order dates whose gold has to be computed again, by the next run of the business date ``under``.

    Without ``under``, by whichever run comes next. Note after the change of silver that calls for it (or before and after): a
    run that reads the note in between would take it for done.
    """
    days = sorted(set(dates))
    if days:
        names = [uuid.uuid4().hex for _ in days]
        lake.append(STALE_DATES, pa.table({"order_date": pa.array(days, pa.date32()), "note": names}), under)


def read_stale_notes(stage: Stage) -> list[StaleNote]:
    """The notes for this business date, and those for whichever run comes next."""
    stage.engine.refresh(STALE_DATES)
    if not stage.lake.exists(STALE_DATES):
        return []
    rows = stage.engine.rows(
        f"SELECT run_date, order_date, coalesce(note, '') AS note FROM {STALE_DATES} "
        f"WHERE run_date IN (DATE '{stage.day}', DATE '{ANY_RUN_DATE}') ORDER BY run_date, order_date, note"
    )
    return [StaleNote(*row) for row in rows]


def list_stale_dates(stage: Stage) -> set[date]:
    """The order dates noted for this business date, or for whichever comes next, and not yet published."""
    return {note.order_date for note in read_stale_notes(stage)}


def clear_stale_notes(lake: Lake, names: Iterable[str]) -> None:
    """Remove notes whose dates are published; one that is gone already is no fault."""
    lake.remove(STALE_DATES, "note", sorted(names))


def read_held_dates(stage: Stage) -> dict[date, set[date]]:
    """The order dates that no other run may show, by the business date that a gate has stopped."""
    stage.engine.refresh(HELD_DATES)
    held: dict[date, set[date]] = {}
    if stage.lake.exists(HELD_DATES):
        for run_date, order_date in stage.engine.rows(f"SELECT run_date, order_date FROM {HELD_DATES}"):
            held.setdefault(run_date, set()).add(order_date)
    return held


def hold_dates(stage: Stage) -> list[date]:
    """Keep other runs from showing what this business date has changed in silver, until it is published; returns the dates.

    For a gate that says no: the rows are in silver, and only gold is still without them.
    """
    own = {note.order_date for note in read_stale_notes(stage) if note.run_date == stage.run_date}
    days = sorted(own | {stage.run_date})
    stage.lake.replace_partition(HELD_DATES, pa.table({"order_date": pa.array(days, pa.date32())}), stage.run_date)
    stage.details["held_dates"] = [day.isoformat() for day in days]
    return days


def release_dates(stage: Stage) -> None:
    """Let other runs show what this business date has changed: it is published."""
    if stage.run_date in stage.lake.partitions(HELD_DATES):
        none = pa.table({"order_date": pa.array([], pa.date32())})
        stage.lake.replace_partition(HELD_DATES, none, stage.run_date)
