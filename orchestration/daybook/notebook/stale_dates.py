"""Business dates whose gold has to be computed: stale, landed, or held because a gate refused them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from daybook.contracts.canonical import business_date_column
from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.notebook.context import Stage
from daybook.sources.mapping import list_dates_sql

STALE_DATES = "control.stale_dates"
"""Business dates whose gold differs from silver, by the run date that has to compute them again; each note is a row.

A date is noted before silver changes, in case the run is killed, and again once all tables are merged. Publishing removes
exactly the notes that its candidates are based on. Notes that were added meanwhile stay for the next run."""
LANDED_DATES = "control.landed_dates"
"""The business dates whose rows have passed validation and are in silver."""
HELD_DATES = "control.held_dates"
"""By the run date that a gate refused: the business dates whose silver rows it has changed. No other run publishes them, except
each its own date, whose landing it holds whatever has changed it since."""
ANY_RUN_DATE = date(1, 1, 1)
"""The run date of notes for the next run of any date."""


class StaleNote(NamedTuple):
    """One row of ``control.stale_dates``."""

    run_date: date
    stale_date: date
    name: str


def mark_stale_dates(lake: Lake, dates: Iterable[date], *, under: date = ANY_RUN_DATE) -> None:
    """Note business dates whose gold the next run of the date ``under`` has to compute again.

    Without ``under``, the next run of any date does so. Note dates after the change of silver, or before and after it: a run
    that reads the note in between would take the date for done.
    """
    mark_stale_pairs(lake, ((under, day) for day in dates))


def mark_stale_pairs(lake: Lake, pairs: Iterable[tuple[date, date]]) -> None:
    """Note pairs of a run date and a business date whose gold its next run has to compute again, in one commit."""
    found = sorted(set(pairs))
    if found:
        names = pa.array([uuid.uuid4().hex for _ in found], pa.string())
        lake.append(STALE_DATES, _pairs_table(found).append_column("note", names))


def dates_table(dates: Iterable[date]) -> pa.Table:
    """Return dates as a table of one column, which has the name of the business date in silver and gold."""
    return pa.table({business_date_column(): pa.array(list(dates), pa.date32())})


def _pairs_table(pairs: Sequence[tuple[date, date]]) -> pa.Table:
    """Return pairs of a run date and a date as a table, which has the run dates as ``run_date``."""
    run_dates = pa.array([run_date for run_date, _ in pairs], pa.date32())
    return dates_table(day for _, day in pairs).append_column(RUN_DATE_COLUMN, run_dates)


def read_stale_notes(stage: Stage) -> list[StaleNote]:
    """Return the notes for the business dates that continue, and those for the next run of any date."""
    return _read_notes(stage, [ANY_RUN_DATE, *stage.dates])


def _read_notes(stage: Stage, run_dates: Iterable[date]) -> list[StaleNote]:
    stage.engine.refresh(STALE_DATES)
    if not stage.lake.exists(STALE_DATES):
        return []
    rows = stage.engine.rows(
        f"SELECT run_date, {business_date_column()} AS day, coalesce(note, '') AS note FROM {STALE_DATES} "
        f"WHERE run_date IN ({list_dates_sql(run_dates)}) ORDER BY run_date, day, note"
    )
    return [StaleNote(*row) for row in rows]


def clear_stale_notes(lake: Lake, names: Iterable[str]) -> None:
    """Remove notes whose dates are published; notes that are already gone are ignored."""
    lake.delete_rows(STALE_DATES, "note", sorted(names))


def read_held_dates(stage: Stage) -> dict[date, set[date]]:
    """Return the dates that no other run may publish, by the run date that a gate refused."""
    stage.engine.refresh(HELD_DATES)
    held: dict[date, set[date]] = {}
    if stage.lake.exists(HELD_DATES):
        for run_date, day in stage.engine.rows(f"SELECT run_date, {business_date_column()} FROM {HELD_DATES}"):
            held.setdefault(run_date, set()).add(day)
    return held


def hold_dates(stage: Stage, days: Sequence[date]) -> None:
    """Keep other runs from publishing what the landings of these run dates have changed in silver, until they are published.

    For a gate that refuses the dates: their rows are in silver and not in gold.
    """
    held = {day: {day} for day in days}
    for note in _read_notes(stage, days):
        held[note.run_date].add(note.stale_date)
    pairs = [(run_date, day) for run_date in days for day in sorted(held[run_date])]
    stage.lake.replace_dates(HELD_DATES, _pairs_table(pairs), days)
    for run_date in days:
        stage.results[run_date].details["held_dates"] = [day.isoformat() for day in sorted(held[run_date])]


def release_dates(stage: Stage, days: Sequence[date]) -> None:
    """Let other runs publish what the landings of these run dates have changed, since they are published."""
    there = set(stage.lake.run_dates(HELD_DATES))
    stage.lake.replace_dates(HELD_DATES, _pairs_table([]), [day for day in days if day in there])
